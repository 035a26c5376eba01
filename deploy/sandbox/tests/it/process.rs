//! The process: its settings, and its end.

use std::process::{Command, Output};

use crate::support::Sandbox;

fn run(settings: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox"));
    command.env_clear().envs(settings.iter().copied()).output().unwrap()
}

#[test]
fn bad_settings_end_it_with_64_and_each_is_named() {
    let ended = run(&[("SANDBOX_ADDR", "here"), ("SANDBOX_SLOW", "soon"), ("RUST_LOG", "=")]);
    let text = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(64), "{text}");
    for name in ["SANDBOX_ADDR", "SANDBOX_LEDGER", "SANDBOX_SLOW", "RUST_LOG"] {
        assert!(text.lines().any(|line| line.starts_with(&format!("{name}: "))), "{name} in\n{text}");
    }
}

#[test]
fn a_ledger_that_cant_be_opened_is_named() {
    let ended = run(&[("SANDBOX_ADDR", "127.0.0.1:0"), ("SANDBOX_LEDGER", "/nowhere/ledger")]);
    let text = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(text.contains("SANDBOX_LEDGER: the ledger can't be opened"), "{text}");
}

#[tokio::test]
async fn it_ends_cleanly_when_it_is_told_to() {
    let sandbox = Sandbox::start().await;
    sandbox.charge("a", "pm_card_visa").await.unwrap();
    let ended = sandbox.process.terminate().await.unwrap().unwrap();
    assert!(ended.success(), "{ended}");
}
