//! The servers themselves: what they keep when they are killed, that they stand still when paused, that they don't meet each other.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::common::{DEADLINE, folder, nothing_runs_in, tools};
use local::kafka::{Kafka, KafkaConfig, java_args};
use local::ports::Port;
use local::postgres::{Postgres, PostgresConfig, create_database};
use local::ready::Readiness;
use local::session::Session;
use local::wait;

/// How long a paused server is listened to; it isn't waited for, so its silence may be short.
const SILENCE: Duration = Duration::from_millis(300);

async fn postgres(dir: &Path) -> Postgres {
    let config = PostgresConfig { dir: dir.into(), port: Port::free().unwrap(), fsync: true, settings: Vec::new() };
    let postgres = Postgres::create(&tools(), config).await.unwrap();
    postgres.process().start().await.unwrap();
    postgres
}

/// The first column of the first row, as a number.
async fn query(url: &str, sql: &str) -> anyhow::Result<Option<i32>> {
    let session = Session::connect(url).await?;
    Ok(session.query(sql, &[]).await?.first().map(|row| row.get(0)))
}

#[tokio::test]
async fn postgres_keeps_its_data_whether_it_is_killed_paused_or_restarted() {
    let dir = folder();
    let server = postgres(dir.path()).await;
    let url = server.url("postgres");
    query(&url, "CREATE TABLE kept AS SELECT 42 AS answer").await.unwrap();
    let answer = async || query(&url, "SELECT answer FROM kept").await;

    server.process().kill().await.unwrap();
    assert!(answer().await.is_err(), "a killed server must not answer");
    nothing_runs_in(dir.path()).await;
    server.process().start().await.unwrap();
    assert_eq!(answer().await.unwrap(), Some(42), "after SIGKILL");

    server.process().pause().unwrap();
    assert!(tokio::time::timeout(SILENCE, answer()).await.is_err(), "a paused server must not answer");
    server.process().resume().unwrap();
    assert_eq!(answer().await.unwrap(), Some(42), "after a pause");

    let before = server.process().pid();
    server.process().restart().await.unwrap();
    assert_ne!(server.process().pid(), before);
    assert_eq!(answer().await.unwrap(), Some(42), "after a restart");

    let end = server.process().terminate().await.unwrap();
    assert!(end.unwrap().success(), "a clean end");
    nothing_runs_in(dir.path()).await;
}

#[tokio::test]
async fn a_pause_reaches_postgres_backends_that_are_at_work() {
    let dir = folder();
    let server = postgres(dir.path()).await;
    let session = Session::connect(&server.url("postgres")).await.unwrap();
    session.batch_execute("SELECT 1").await.unwrap();

    server.process().pause().unwrap();
    assert!(tokio::time::timeout(SILENCE, session.batch_execute("SELECT 1")).await.is_err());

    server.process().resume().unwrap();
    session.batch_execute("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn a_service_cannot_come_to_another_services_database() {
    let dir = folder();
    let server = postgres(dir.path()).await;

    let tickets = create_database(&server.url("postgres"), "tickets").await.unwrap();
    let orders = create_database(&server.url("postgres"), "orders").await.unwrap();
    assert_eq!(create_database(&server.url("postgres"), "orders").await.unwrap(), orders, "again is as once");

    query(&tickets, "CREATE TABLE ticket ()").await.unwrap();
    query(&orders, "CREATE TABLE ticket ()").await.unwrap();
    let trespass = orders.replace("//orders@", "//tickets@");
    let error = query(&trespass, "SELECT 1").await.unwrap_err();
    assert!(format!("{error:?}").contains("permission denied"), "{error:?}");
}

#[tokio::test]
async fn servers_that_start_together_have_ports_of_their_own_and_end_when_dropped() {
    let (one, other) = (folder(), folder());

    let (a, b) = tokio::join!(postgres(one.path()), postgres(other.path()));

    assert_ne!(a.port(), b.port());
    drop((a, b));
    for dir in [one, other] {
        nothing_runs_in(dir.path()).await;
    }
}

#[tokio::test]
async fn postgres_works_below_a_folder_that_is_closed_to_its_user() {
    let outer = tempfile::tempdir().unwrap();
    std::fs::set_permissions(outer.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();

    let server = postgres(&outer.path().join("checkout/.local/postgres")).await;

    query(&server.url("postgres"), "SELECT 1").await.unwrap();
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let dir = folder();
    let port = Port::free().unwrap();
    let _listener = std::net::TcpListener::bind(("127.0.0.1", port.number())).unwrap();
    let config = PostgresConfig { dir: dir.path().into(), port, fsync: true, settings: Vec::new() };

    let server = Postgres::create(&tools(), config).await.unwrap();
    let error = format!("{:#}", server.process().start().await.unwrap_err());

    assert!(error.contains("Postgres ended") && error.contains("Address already in use"), "{error}");
}

#[tokio::test]
async fn kafka_keeps_its_topics_whether_it_is_killed_paused_or_restarted() {
    let dir = tempfile::tempdir().unwrap();
    let (port, controller_port) = (Port::free().unwrap(), Port::free().unwrap());
    let config = KafkaConfig { dir: dir.path().into(), port, controller_port, settings: Vec::new() };
    let server = Kafka::create(&tools(), config).await.unwrap();
    let answers = Readiness::Kafka { port: server.port() };

    server.process().start().await.unwrap();
    topics(&server, &["--create", "--topic", "kept", "--partitions", "6"]).await;

    server.process().kill().await.unwrap();
    answers.probe().await.unwrap_err();
    server.process().start().await.unwrap();
    assert_eq!(topics(&server, &["--list"]).await, "kept\n", "after SIGKILL");

    server.process().pause().unwrap();
    assert!(tokio::time::timeout(SILENCE, answers.probe()).await.is_err(), "a paused server must not answer");
    server.process().resume().unwrap();
    wait::until("an answer after the pause", DEADLINE, || answers.probe()).await.unwrap();

    server.process().restart().await.unwrap();
    assert_eq!(topics(&server, &["--list"]).await, "kept\n", "after a restart");

    server.process().pause().unwrap();
    let end = server.process().terminate().await.unwrap().unwrap();
    assert_eq!(end.code(), Some(128 + 15), "a clean end as Java has it, though it was paused");
}

/// Kafka's own tool: a client that shares nothing with the readiness probe.
async fn topics(server: &Kafka, args: &[&str]) -> String {
    let tools = tools();
    let mut command = tokio::process::Command::new(tools.java().await.unwrap());
    command.args(java_args(&tools.kafka().await.unwrap(), "org.apache.kafka.tools.TopicCommand"));
    command.args(["--bootstrap-server", &server.brokers()]).args(args).stderr(Stdio::piped());
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
