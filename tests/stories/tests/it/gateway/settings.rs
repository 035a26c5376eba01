//! What the gateway is told, and that Envoy takes whatever comes of it.

use anyhow::{Context, Result, ensure};
use local::{keys::Signer, tools::Tools};
use serde_json::Value;
use stories::program;
use tokio::process::Command;

/// `EX_USAGE` of `sysexits.h`.
const BAD_SETTINGS: i32 = 64;

#[tokio::test]
async fn envoy_takes_what_any_settings_make() -> Result<()> {
    let envoy = Tools::from_env()?.envoy().await?;
    let dir = tempfile::tempdir()?;
    let keys = dir.path().join("jwks.json");
    Signer::generate()?.write_jwks(&keys)?;
    let keys = keys.to_str().context("a path")?;

    let plain = [("JWKS", keys), ("JWT_ISSUER", "issuer"), ("JWT_AUDIENCE", "audience")];
    for settings in [
        &[][..],
        &[("JWKS", "https://issuer.example/keys"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example")],
        &[("JWKS", "http://issuer.example:8000/keys"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1]:4317"),
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.001"),
        ],
        &[("GATEWAY_ADDR", "[::]:8080"), ("UPSTREAMS", "tickets=[::1]:1,tickets=tickets-srv:50051,orders=127.0.0.1:2")],
        &[("CORS_ORIGINS", "https://a.example,http://localhost:3000"), ("TRUSTED_HOPS", "1"), ("CLIENT_RATE", "1")],
        &[("LOG_FORMAT", "text"), ("CALL_TIMEOUT", "2m 500ms"), ("CALL_IDLE_TIMEOUT", "1h")],
        &[("LOG_FORMAT", "json")],
    ] {
        let told = program::run("gateway", &["bootstrap"], &[&plain, settings].concat()).await?;
        ensure!(told.status.success(), "{settings:?}: {}", program::said(&told));
        let bootstrap = dir.path().join("envoy.json");
        std::fs::write(&bootstrap, &told.stdout)?;
        let mut validate = Command::new(&envoy);
        validate.args(["--mode", "validate", "--log-level", "warning", "--disable-hot-restart", "--config-path"]);
        let judged = validate.arg(&bootstrap).kill_on_drop(true).output().await?;
        ensure!(judged.status.success(), "{settings:?}: {}", program::said(&judged));
        // What isn't wrong but on its way out is said so.
        ensure!(!program::said(&judged).contains("deprecated"), "{settings:?}: {}", program::said(&judged));
    }
    Ok(())
}

#[tokio::test]
async fn envoys_own_pages_are_on_loopback_and_nowhere_else() -> Result<()> {
    let settings = [("JWKS", "keys"), ("JWT_ISSUER", "i"), ("JWT_AUDIENCE", "a"), ("GATEWAY_ADDR", "0.0.0.0:8080")];
    let told: Value = serde_json::from_slice(&program::run("gateway", &["bootstrap"], &settings).await?.stdout)?;
    assert_eq!(told["admin"]["address"]["socket_address"]["address"], "127.0.0.1");
    Ok(())
}

#[tokio::test]
async fn bad_settings_of_the_gateway_are_all_named() -> Result<()> {
    let bad = [
        ("GATEWAY_ADDR", "everywhere"),
        ("GATEWAY_ADMIN_ADDR", "0.0.0.0:9901"),
        ("UPSTREAMS", "ticket=127.0.0.1:50051"),
        ("CORS_ORIGINS", "*"),
        ("CLIENT_RATE", "0"),
        ("CLIENT_BURST", "many"),
        ("TRUSTED_HOPS", "-1"),
        ("CALL_TIMEOUT", "0s"),
        ("CALL_IDLE_TIMEOUT", ""),
        ("JWKS", "ftp://keys"),
    ];
    let ended = program::run("gateway", &[], &bad).await?;
    let said = program::said(&ended);
    assert_eq!(ended.status.code(), Some(BAD_SETTINGS), "{said}");
    for name in bad.map(|(name, _)| name).into_iter().chain(["JWT_ISSUER", "JWT_AUDIENCE"]) {
        assert!(said.contains(name), "{name} isn't named: {said}");
    }
    Ok(())
}
