//! A service's process: from its arguments to its exit status.

use std::{future::Future, io::Write as _, process::ExitCode};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Command, TelemetryConfig},
    telemetry,
};

/// The subcommand that brings the database up to date and ends.
pub const MIGRATE: &str = "migrate";

/// What every service can be told to do besides serving.
pub const COMMANDS: &[Command] = &[Command { name: MIGRATE, about: "bring the database up to date, and end" }];

/// Runs a program to its end, and says why if that was no good one. `work` is given what cancels on SIGTERM and SIGINT.
pub fn run<W, E>(name: &'static str, telemetry: &TelemetryConfig, work: impl FnOnce(CancellationToken) -> W) -> ExitCode
where
    W: Future<Output = Result<(), E>>,
    E: std::error::Error,
{
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(name, &error),
    };
    runtime.block_on(async {
        let telemetry = match telemetry::init(name, telemetry) {
            Ok(telemetry) => telemetry,
            Err(error) => return complain(name, &error),
        };
        let stop = CancellationToken::new();
        let ended = tokio::select! {
            ended = work(stop.clone()) => ended,
            // Never ends by itself: it only cancels.
            () = cancel_on_signal(&stop) => Ok(()),
        };
        telemetry.shutdown().await;
        match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(name, &error),
        }
    })
}

fn complain(name: &str, error: &dyn std::error::Error) -> ExitCode {
    // Nobody is left to tell if this can't be written.
    let _ = writeln!(std::io::stderr(), "{name}: {error}");
    ExitCode::FAILURE
}

async fn cancel_on_signal(stop: &CancellationToken) {
    if let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop");
        stop.cancel();
    }
    std::future::pending().await
}
