//! What the programs are told, and what they say to it.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result, ensure};
use local::{postgres, stack::SharedServers, wait};
use stories::{SERVICES, SOON, World, program};

/// `EX_USAGE` of `sysexits.h`.
const BAD_SETTINGS: i32 = 64;

#[tokio::test]
async fn missing_and_bad_settings_end_a_service_before_any_port_opens_and_are_all_named() -> Result<()> {
    // A port that it can't open: it would say so if it tried.
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let taken = taken.local_addr()?.to_string();
    for service in SERVICES {
        let bare = program::run(service, &[], &[("GRPC_ADDR", &taken), ("OPS_ADDR", &taken)]).await?;
        let bad = [
            ("GRPC_ADDR", taken.as_str()),
            ("OPS_ADDR", "everywhere"),
            ("DATABASE_URL", "postgres://someone:topsecret@:nowhere/tickets"),
            ("KAFKA_BROKERS", ""),
            ("KAFKA_TOPIC_PARTITIONS", "0"),
            ("MIGRATE_ON_START", "perhaps"),
            ("JWKS", "ftp://keys"),
            ("JWT_ISSUER", ""),
            ("LOG_FORMAT", "xml"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "somewhere"),
            ("TRACING_EXPORTER", "jaeger-agent"),
        ];
        let bad = program::run(service, &["--no-such-flag", "1", "--database-url", "topsecret"], &bad).await?;

        let named = [
            (bare, &["DATABASE_URL", "JWKS", "JWT_ISSUER", "JWT_AUDIENCE"][..]),
            (
                bad,
                &[
                    "OPS_ADDR",
                    "DATABASE_URL",
                    "KAFKA_BROKERS",
                    "KAFKA_TOPIC_PARTITIONS",
                    "MIGRATE_ON_START",
                    "JWKS",
                    "JWT_ISSUER",
                    "JWT_AUDIENCE",
                    "LOG_FORMAT",
                    "OTEL_EXPORTER_OTLP_ENDPOINT",
                    "TRACING_EXPORTER: must be otlp, for this program was built without its cargo feature \"jaeger-agent\"",
                    "--no-such-flag",
                    "--database-url",
                ],
            ),
        ];
        for (ended, names) in named {
            let said = program::said(&ended);
            assert_eq!(ended.status.code(), Some(BAD_SETTINGS), "{service}: {said}");
            for name in names {
                assert!(said.contains(name), "{service} doesn't name {name}: {said}");
            }
            assert!(!said.contains("topsecret"), "{service} prints a secret: {said}");
            assert!(!said.contains("can't be opened"), "{service} tried to open a port: {said}");
        }
    }
    let bad = [("ORDER_TTL", "soon")];
    assert!(program::said(&program::run("orders", &[], &bad).await?).contains("ORDER_TTL"));
    Ok(())
}

#[tokio::test]
async fn a_port_in_use_is_a_clear_error_that_names_it() -> Result<()> {
    let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let taken = holder.local_addr()?.to_string();
    for (service, setting) in [("tickets", "GRPC_ADDR"), ("orders", "OPS_ADDR"), ("expiration", "GRPC_ADDR")] {
        let other = if setting == "GRPC_ADDR" { "OPS_ADDR" } else { "GRPC_ADDR" };
        let settings = [
            (setting, taken.as_str()),
            (other, "127.0.0.1:0"),
            ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none"),
            ("JWKS", "/nowhere/jwks.json"),
            ("JWT_ISSUER", "nobody"),
            ("JWT_AUDIENCE", "nobody"),
        ];
        let ended = program::run(service, &[], &settings).await?;
        let said = program::said(&ended);
        assert_eq!(ended.status.code(), Some(1), "{said}");
        assert!(said.contains(setting) && said.contains(&taken), "{service}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn with_migrations_left_to_the_command_a_service_waits_for_it() -> Result<()> {
    let servers = SharedServers::from_env()?;
    let world = World::unborn(|stack| Ok(stack.on(servers.clone()).env_for_all("MIGRATE_ON_START", "false"))).await?;
    let tickets = world.replica("tickets", 0)?;
    let (_, name) = tickets.database_url().rsplit_once('/').context("a URL with a database")?;
    postgres::create_database(&servers.postgres_url, name).await?;

    // An empty database: it waits, and says for what.
    tickets.process().spawn()?;
    wait::until("tickets to say that it lacks its tables", SOON, || async {
        let said = world.readiness("tickets").await?;
        ensure!(said.starts_with("HTTP/1.1 503") && said.contains("\ndatabase: "), "{said}");
        Ok(())
    })
    .await?;
    ensure!(!world.serves("tickets").await?);

    // It takes nothing but the database, and may be repeated.
    let settings = [("DATABASE_URL", tickets.database_url())];
    for _ in 0..2 {
        let ended = program::run("tickets", &["migrate"], &settings).await?;
        assert!(ended.status.success(), "{}", program::said(&ended));
    }

    world.awaits_serving("tickets", true).await?;
    world.user("alice")?.lists("Migrated", 100, 1).await?;
    world.end().await
}
