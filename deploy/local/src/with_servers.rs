//! `local with-servers`: a command beside a Postgres and a Kafka of its own. In: the command. Out: its exit status. The servers are
//! gone afterwards, whichever way it ended.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

use crate::disk;
use crate::progress::say;
use crate::throwaway::Throwaway;
use crate::tools::Tools;
use crate::{spawn, tree};

/// What `local with-servers` is told.
#[derive(Debug, clap::Args)]
pub struct WithServers {
    /// Postgres doesn't wait for the disk; for what neither measures nor crashes anything.
    #[arg(long)]
    pub no_fsync: bool,
    /// Gigabytes (of 10^9 bytes) that the command and the servers may write to the temporary folder: without them nothing begins.
    #[arg(long, default_value_t = 1)]
    pub room: u64,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

/// Starts the servers, runs the command with `TEST_POSTGRES_URL`, `TEST_KAFKA_BROKERS` and `TICKETING_CACHE` set, stops the servers.
/// Ctrl-C reaches the command from the terminal and SIGTERM is passed on to it; its end is awaited either way.
///
/// # Errors
/// When there is too little room, the servers can't be started or stopped, or there is no such command.
pub async fn run(tools: &Tools, options: WithServers) -> Result<ExitCode> {
    let temporary = std::env::temp_dir();
    disk::require(&temporary, options.room, "what runs here")?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let servers = tokio::select! {
        servers = Throwaway::start(tools, !options.no_fsync) => servers?,
        _ = interrupt.recv() => return Ok(ExitCode::from(130)),
        _ = terminate.recv() => return Ok(ExitCode::from(143)),
    };
    let code = command(tools, &servers, &options.command, &mut interrupt, &mut terminate).await;
    // Now, while what was written still is there.
    if disk::full(&temporary) {
        say(format_args!("the disk of {} is full: what failed may have failed for that alone", temporary.display()));
    }
    let stopped = servers.stop().await;
    let code = code?;
    stopped.map(|()| code)
}

async fn command(
    tools: &Tools,
    servers: &Throwaway,
    command: &[OsString],
    interrupt: &mut tokio::signal::unix::Signal,
    terminate: &mut tokio::signal::unix::Signal,
) -> Result<ExitCode> {
    let (program, args) = command.split_first().context("no command")?;
    let mut run = spawn::in_this_group(Path::new(program), args, None);
    run.envs(servers.env()).env("TICKETING_CACHE", tools.cache());
    let mut child = spawn::spawn(run).with_context(|| format!("starting {}", program.display()))?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let mut ended = tokio::task::spawn_blocking(move || child.wait());
    let status = loop {
        tokio::select! {
            status = &mut ended => break status??,
            _ = interrupt.recv() => say(format_args!("stopping once {} has", program.display())),
            _ = terminate.recv() => tree::signal(&[vec![pid], tree::below(pid)].concat(), Signal::SIGTERM),
        }
    };
    // As shells have it: 128 and the signal's number.
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}
