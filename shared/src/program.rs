//! A service's process: from its arguments to its exit status.

use std::{error::Error, future::Future, io::Write as _, process::ExitCode, time::Duration};

use futures_util::future::Either;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Command, CommonConfig, Settings, TelemetryConfig},
    engine::RunError,
    telemetry,
};

/// The subcommand that brings the database up to date and ends.
const MIGRATE: &str = "migrate";

/// What every service can be told to do besides serving.
const COMMANDS: &[Command] = &[Command { name: MIGRATE, about: "bring the database up to date, and end" }];

/// How long threads that block may take at the very end.
const LAST_THREADS: Duration = Duration::from_secs(1);

/// A service's whole life: reads its settings, all of them, before anything else happens; then serves, or does what its
/// subcommand says. The settings that every service has are `common` of its own.
pub fn main<C, R, M>(
    (name, about): (&'static str, &'static str),
    read: impl FnOnce(&mut Settings) -> Option<C>,
    common: impl FnOnce(&C) -> &CommonConfig,
    serve: impl FnOnce(C, CancellationToken) -> R,
    migrate: impl FnOnce(C) -> M,
) -> ExitCode
where
    R: Future<Output = Result<(), RunError>>,
    M: Future<Output = Result<(), RunError>>,
{
    let mut settings = Settings::from_process(name, about, COMMANDS);
    let command = settings.command();
    let config = read(&mut settings);
    let config = match settings.finish(config) {
        Ok(config) => config,
        Err(stop) => {
            stop.print();
            return ExitCode::from(stop.exit_code());
        }
    };
    let CommonConfig { telemetry, limits, .. } = common(&config);
    let (telemetry, threads) = (telemetry.clone(), limits.worker_threads);
    run(name, &telemetry, threads, |stop| match command {
        Some(MIGRATE) => Either::Left(migrate(config)),
        _ => Either::Right(serve(config, stop)),
    })
}

/// Runs a program on so many threads to its end, and says why if that was no good one. `work` is given what cancels on
/// SIGTERM and SIGINT.
pub fn run<W, E>(
    name: &'static str,
    telemetry: &TelemetryConfig,
    threads: usize,
    work: impl FnOnce(CancellationToken) -> W,
) -> ExitCode
where
    W: Future<Output = Result<(), E>>,
    E: Error,
{
    let mut runtime = match threads {
        // Waking a thread costs more than most of what there is to do.
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = match runtime.worker_threads(threads).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(name, &error),
    };
    let status = runtime.block_on(async {
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
    });
    // By now all that matters has ended. A thread of a Kafka client whose brokers are away may not have, and never will.
    runtime.shutdown_timeout(LAST_THREADS);
    status
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
