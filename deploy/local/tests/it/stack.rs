//! A whole system, with stand-ins for the services: what they are given, and what can be done to them.

use std::collections::HashSet;

use crate::common::{stand_in, tools};
use local::ready::http_status;
use local::session::Session;
use local::stack::{SharedServers, Stack, StackBuilder};
use local::throwaway::Throwaway;
use serde_json::Value;

fn stack_of_stand_ins(binaries: &std::path::Path) -> StackBuilder {
    for name in ["tickets", "orders"] {
        stand_in(binaries, name);
    }
    Stack::builder().binaries(binaries).service("tickets").unwrap().replicas("orders", 2).unwrap()
}

#[tokio::test]
async fn stacks_that_share_servers_have_databases_topics_and_ports_of_their_own() {
    let (tools, binaries) = (tools(), tempfile::tempdir().unwrap());
    let servers = Throwaway::start(&tools, false).await.unwrap();
    let shared =
        SharedServers { postgres_url: servers.postgres.url("postgres"), kafka_brokers: servers.kafka.brokers() };
    let start = async || stack_of_stand_ins(binaries.path()).on(shared.clone()).start(&tools).await;

    let (one, other) = tokio::try_join!(start(), start()).unwrap();

    assert_ne!(one.topic_prefix(), other.topic_prefix());
    let all: Vec<_> = one.services().iter().chain(other.services()).collect();
    assert_eq!(all.iter().map(|service| service.ops()).collect::<HashSet<_>>().len(), 6);
    assert_eq!(
        all.iter().map(|service| service.database_url()).collect::<HashSet<_>>().len(),
        4,
        "replicas share theirs"
    );
    for service in all {
        assert_eq!(http_status(service.ops(), "/readyz").await.unwrap(), 200);
        let session = Session::connect(service.database_url()).await.unwrap();
        session.batch_execute("CREATE TABLE IF NOT EXISTS mine ()").await.unwrap();
    }
    tokio::try_join!(one.stop(), other.stop()).unwrap();
    servers.stop().await.unwrap();
}

#[tokio::test]
async fn a_service_is_given_all_that_it_needs_and_nothing_of_the_testers_environment() {
    let (tools, binaries) = (tools(), tempfile::tempdir().unwrap());
    let env_file = binaries.path().join("env.json");
    let builder = stack_of_stand_ins(binaries.path()).env("tickets", "ENV_FILE", env_file.to_str().unwrap());
    let builder = builder.jaeger(tools.jaeger().await.unwrap());

    let stack = builder.env_for_all("ORDER_TTL", "2s").start(&tools).await.unwrap();

    let env: Value = serde_json::from_slice(&std::fs::read(env_file).unwrap()).unwrap();
    let tickets = stack.service("tickets").unwrap();
    assert_eq!(env["DATABASE_URL"], tickets.database_url());
    assert_eq!(env["KAFKA_BROKERS"], stack.kafka().unwrap().brokers());
    assert_eq!(env["GRPC_ADDR"], tickets.grpc().to_string());
    assert_eq!(env["OPS_ADDR"], tickets.ops().to_string());
    assert_eq!((&env["JWT_ISSUER"], &env["JWT_AUDIENCE"]), (&"ticketing-local".into(), &"ticketing".into()));
    assert_eq!(env["ORDER_TTL"], "2s");
    assert_eq!(env["OTEL_EXPORTER_OTLP_ENDPOINT"], stack.jaeger().unwrap().otlp());
    let jwks = std::fs::read_to_string(env["JWKS"].as_str().unwrap()).unwrap();
    assert!(jwks.contains(stack.signer().kid()));
    assert_eq!(env.get("CARGO_MANIFEST_DIR"), None);
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn a_service_can_be_killed_paused_and_started_again_where_it_was() {
    let (tools, binaries) = (tools(), tempfile::tempdir().unwrap());
    let servers = Throwaway::start(&tools, false).await.unwrap();
    let shared =
        SharedServers { postgres_url: servers.postgres.url("postgres"), kafka_brokers: servers.kafka.brokers() };
    let stack = stack_of_stand_ins(binaries.path()).on(shared).start(&tools).await.unwrap();
    let orders = stack.replicas("orders").nth(1).unwrap();

    orders.process().kill().await.unwrap();
    assert!(!orders.process().is_running());
    http_status(orders.ops(), "/readyz").await.unwrap_err();
    assert_eq!(http_status(stack.service("orders").unwrap().ops(), "/readyz").await.unwrap(), 200, "the other replica");

    orders.process().start().await.unwrap();
    assert_eq!(http_status(orders.ops(), "/readyz").await.unwrap(), 200);
    assert!(orders.process().start().await.unwrap_err().to_string().contains("orders-2 runs already"));

    orders.process().pause().unwrap();
    stack.stop().await.unwrap();
    assert_eq!(orders.process().exit_status().unwrap().to_string(), "signal: 15 (SIGTERM)", "though it was paused");
    servers.stop().await.unwrap();
}

#[tokio::test]
async fn a_service_that_ends_instead_of_becoming_ready_shows_its_log() {
    let (tools, binaries) = (tools(), tempfile::tempdir().unwrap());
    let servers = Throwaway::start(&tools, false).await.unwrap();
    let shared =
        SharedServers { postgres_url: servers.postgres.url("postgres"), kafka_brokers: servers.kafka.brokers() };
    let builder = stack_of_stand_ins(binaries.path()).on(shared).env("orders", "OPS_ADDR", "nonsense");

    let error = format!("{:#}", builder.start(&tools).await.unwrap_err());

    assert!(error.contains("orders ended (exit status: 1)") && error.contains("ValueError"), "{error}");
    servers.stop().await.unwrap();
}
