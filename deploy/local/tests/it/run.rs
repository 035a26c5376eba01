//! `local run`, as a process in a checkout of its own, with stand-ins for the sandbox and the services.

use std::path::Path;
use std::process::Stdio;

use crate::common::{DEADLINE, folder, nothing_runs_in, stand_in, tools};
use local::ready::http_status;
use local::service::SERVICES;
use local::session::Session;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Moves the services' ports above the ephemeral ones, and all others out of the way of those of `Port::free`; each process of tests by
/// another number.
fn offset() -> u16 {
    11_000 + (std::process::id() % 100) as u16 * 10
}

struct Checkout(tempfile::TempDir);

impl Checkout {
    /// In which every binary is a stand-in.
    fn new() -> Self {
        let dir = folder();
        for folder in ["deploy/local", "binaries"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        std::fs::write(dir.path().join("deploy/local/pom.xml"), "").unwrap();
        for name in SERVICES.iter().map(|spec| spec.name).chain(["sandbox", "gateway"]) {
            stand_in(&dir.path().join("binaries"), name);
        }
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn local(&self, offset: u16, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
        command.args(args).current_dir(self.path()).env("TICKETING_PORT_OFFSET", offset.to_string());
        command.env("ENV_FILE", self.path().join("env.json"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    fn run(&self, offset: u16) -> Child {
        self.local(offset, &["run", "--binaries", "binaries"]).spawn().unwrap()
    }

    fn env_of_tickets(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.path().join("env.json")).unwrap()).unwrap()
    }
}

/// All lines up to the first with `text` in it.
async fn lines_until<R: AsyncRead + Unpin>(lines: &mut Lines<BufReader<R>>, text: &str) -> Vec<String> {
    let mut seen = Vec::new();
    while !seen.last().is_some_and(|line: &String| line.contains(text)) {
        let line = tokio::time::timeout(DEADLINE, lines.next_line()).await;
        seen.push(line.expect(text).unwrap().unwrap_or_else(|| panic!("{text} never came: {seen:#?}")));
    }
    seen
}

fn output(child: &mut Child) -> Lines<BufReader<ChildStdout>> {
    BufReader::new(child.stdout.take().unwrap()).lines()
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().unwrap().cast_signed()), signal).unwrap();
}

#[tokio::test]
async fn the_system_runs_until_ctrl_c_restarts_what_dies_and_keeps_its_state() {
    let (checkout, offset) = (Checkout::new(), offset());
    let mut child = checkout.run(offset);
    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();

    let shown = lines_until(&mut output(&mut child), "ready").await;
    assert!(shown.last().unwrap().starts_with("ready"), "{shown:#?}");
    for port in [5433, 9092, 50051, 9101, 8080].map(|port: u16| port + offset) {
        assert!(shown.iter().any(|line| line.contains(&format!("127.0.0.1:{port}"))), "{port} isn't in {shown:#?}");
    }
    let jaeger = match tools().built_jaeger() {
        Some(_) => format!("http://127.0.0.1:{}/api/traces", 16686 + offset),
        None => "`make jaeger` builds it".to_owned(),
    };
    assert!(
        shown.iter().any(|line| line.starts_with("Jaeger ") && line.contains(&jaeger)),
        "{jaeger} isn't in {shown:#?}"
    );
    let prometheus = match tools().fetched_prometheus() {
        Some(_) => format!("http://127.0.0.1:{}/api/v1/alerts", 9090 + offset),
        None => "`make prometheus` fetches it".to_owned(),
    };
    assert!(
        shown.iter().any(|line| line.starts_with("Prometheus ") && line.contains(&prometheus)),
        "{prometheus} isn't in {shown:#?}"
    );
    let env = checkout.env_of_tickets();
    assert_eq!(env["DATABASE_URL"], format!("postgres://tickets@127.0.0.1:{}/tickets", 5433 + offset));

    let second = checkout.local(offset, &["run", "--binaries", "binaries"]).output().await.unwrap();
    assert!(String::from_utf8_lossy(&second.stderr).contains("runs on"), "{second:?}");
    let clean = checkout.local(offset, &["clean"]).output().await.unwrap();
    assert!(!clean.status.success(), "the state of a running system must stay");

    kill(Pid::from_raw(env["pid"].as_i64().unwrap() as i32), Signal::SIGKILL).unwrap();
    lines_until(&mut errors, "tickets ended (signal: 9 (SIGKILL)); restarting").await;
    lines_until(&mut errors, "tickets is ready again").await;
    assert_ne!(checkout.env_of_tickets()["pid"], env["pid"]);
    let ops = format!("127.0.0.1:{}", 9101 + offset).parse().unwrap();
    assert_eq!(http_status(ops, "/readyz").await.unwrap(), 200);

    let session = Session::connect(env["DATABASE_URL"].as_str().unwrap()).await.unwrap();
    session.batch_execute("CREATE TABLE kept ()").await.unwrap();

    send(&child, Signal::SIGINT);
    session.ended().await;
    assert!(child.wait().await.unwrap().success(), "Ctrl-C is how it ends");
    nothing_runs_in(checkout.path()).await;

    let mut child = checkout.run(offset);
    lines_until(&mut output(&mut child), "ready").await;
    let session = Session::connect(env["DATABASE_URL"].as_str().unwrap()).await.unwrap();
    session.batch_execute("TABLE kept").await.expect("the state survives a restart");

    send(&child, Signal::SIGKILL);
    child.wait().await.unwrap();
    nothing_runs_in(checkout.path()).await;
    assert!(checkout.local(offset, &["clean"]).status().await.unwrap().success());
    assert!(!checkout.path().join(".local").exists());
}

#[tokio::test]
async fn a_port_in_use_is_named_before_anything_starts() {
    let (checkout, offset) = (Checkout::new(), offset() + 5);
    let port = 50051 + offset;
    let _listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();

    let run = checkout.run(offset).wait_with_output().await.unwrap();

    assert_eq!(run.status.code(), Some(1));
    let error = String::from_utf8(run.stderr).unwrap();
    assert!(error.contains(&format!("port {port}, which tickets wants, is in use")), "{error}");
    assert!(!checkout.path().join(".local/postgres").exists() && !error.contains("Kafka"), "{error}");
}

#[tokio::test]
async fn a_token_can_be_had_before_the_first_run() {
    let checkout = Checkout::new();

    let token = checkout.local(0, &["token", "--user", "alice", "--role", "operator"]).output().await.unwrap();

    assert!(token.status.success(), "{token:?}");
    let token = String::from_utf8(token.stdout).unwrap();
    assert_eq!((token.lines().count(), token.split('.').count()), (1, 3), "{token}");
}
