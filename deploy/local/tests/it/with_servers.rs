//! `local with-servers`, as a process: what its command gets, and that nothing is left, however it ends.

use std::path::Path;
use std::process::Stdio;

use crate::common::{DEADLINE, folder, nothing_runs_in, processes_in};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// In a folder of its own, which is its temporary folder, too: so its processes can be told from all others.
fn with_servers(dir: &Path, script: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
    command.args(["with-servers", "--no-fsync", "--", "sh", "-c", script]);
    // The cache's place may be relative to none of these.
    command.env("TMPDIR", dir).current_dir(dir).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

async fn first_line(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    tokio::time::timeout(DEADLINE, lines.next_line()).await.expect("a line").unwrap().expect("a line")
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().unwrap().cast_signed()), signal).unwrap();
}

fn server_folders(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("ticketing-scratch-")).count()
}

#[tokio::test]
async fn the_command_gets_the_servers_and_its_exit_status_is_passed_on() {
    let dir = folder();

    let output =
        with_servers(dir.path(), "echo $TEST_POSTGRES_URL $TEST_KAFKA_BROKERS; exit 7").output().await.unwrap();

    assert_eq!(output.status.code(), Some(7));
    let given = String::from_utf8(output.stdout).unwrap();
    assert!(given.starts_with("postgres://postgres@127.0.0.1:") && given.contains("/postgres 127.0.0.1:"), "{given}");
    nothing_runs_in(dir.path()).await;
    assert_eq!(server_folders(dir.path()), 0);
}

#[tokio::test]
async fn without_room_on_the_disk_nothing_begins() {
    let dir = folder();
    let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
    command.args(["with-servers", "--room", "1000000", "--", "echo", "begun"]).env("TMPDIR", dir.path());

    let output = command.output().await.unwrap();

    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "");
    let told = String::from_utf8(output.stderr).unwrap();
    let missing = format!("what runs here may take 1000000 GB, and the disk of {} has ", dir.path().display());
    assert!(told.contains(&missing), "{told}");
    assert_eq!(server_folders(dir.path()), 0);
}

#[tokio::test]
async fn sigterm_reaches_the_command_and_then_nothing_is_left() {
    let dir = folder();
    let mut child =
        with_servers(dir.path(), "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done").spawn().unwrap();
    assert_eq!(first_line(&mut child).await, "up");

    send(&child, Signal::SIGTERM);

    assert_eq!(child.wait().await.unwrap().code(), Some(3));
    nothing_runs_in(dir.path()).await;
    assert_eq!(server_folders(dir.path()), 0);
}

#[tokio::test]
async fn sigkill_leaves_nothing_running_not_even_what_was_paused() {
    let dir = folder();
    let mut child = with_servers(dir.path(), "echo up; exec sleep 1000").spawn().unwrap();
    assert_eq!(first_line(&mut child).await, "up");
    // Itself, Kafka, sleep, and Postgres with its processes.
    assert!(processes_in(dir.path()).len() > 5, "{:?}", processes_in(dir.path()));
    let cmdline = |process: &Path| std::fs::read_to_string(process.join("cmdline")).unwrap_or_default();
    let kafka = processes_in(dir.path()).into_iter().find(|process| cmdline(process).contains("kafka.Kafka")).unwrap();
    let kafka: i32 = kafka.file_name().unwrap().to_str().unwrap().parse().unwrap();
    kill(Pid::from_raw(kafka), Signal::SIGSTOP).unwrap();

    send(&child, Signal::SIGKILL);

    child.wait().await.unwrap();
    nothing_runs_in(dir.path()).await;
    // The folder stays, as nobody was left to remove it; the next run does.
    assert_eq!(server_folders(dir.path()), 1);
    assert!(with_servers(dir.path(), "true").status().await.unwrap().success());
    assert_eq!(server_folders(dir.path()), 0);
}
