//! A service's process: from its arguments to its exit status.

use std::{error::Error, future::Future, io::Write as _, process::ExitCode, time::Duration};

use diesel_migrations::EmbeddedMigrations;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Command, CommonConfig, DatabaseConfig, Settings, TelemetryConfig},
    engine::{RunError, migrate},
    telemetry,
};

/// The subcommand that brings the database up to date and ends.
const MIGRATE: &str = "migrate";

/// What every service can be told to do besides serving.
const COMMANDS: &[Command] = &[Command { name: MIGRATE, about: "bring the database up to date, and end" }];

/// How long threads that block may take at the very end.
const LAST_THREADS: Duration = Duration::from_secs(1);

/// A service's whole life: reads the settings that it needs, all of them, before anything else happens; then serves, or
/// brings its database up to date, if that is what its subcommand says. The settings that every service has are `common`
/// of its own.
pub fn main<C, R>(
    (name, about): (&'static str, &'static str),
    read: impl FnOnce(&mut Settings) -> Option<C>,
    common: impl FnOnce(&C) -> &CommonConfig,
    serve: impl FnOnce(C, CancellationToken) -> R,
    migrations: impl FnOnce() -> EmbeddedMigrations,
) -> ExitCode
where
    R: Future<Output = Result<(), RunError>>,
{
    let settings = Settings::from_process(name, about, COMMANDS);
    if settings.command() == Some(MIGRATE) {
        let read = |settings: &mut Settings| {
            let (database, telemetry) = (DatabaseConfig::read(settings), TelemetryConfig::read(settings));
            database.zip(telemetry)
        };
        return match finish(settings, read) {
            Ok((database, telemetry)) => {
                run(name, &telemetry, 1, |stop| async move { migrate(name, migrations(), &database, stop).await })
            }
            Err(status) => status,
        };
    }
    match finish(settings, read) {
        Ok(config) => {
            let CommonConfig { telemetry, limits, .. } = common(&config);
            let (telemetry, threads) = (telemetry.clone(), limits.worker_threads);
            run(name, &telemetry, threads, |stop| serve(config, stop))
        }
        Err(status) => status,
    }
}

/// What was read, if all of it is well; else says what isn't.
fn finish<C>(mut settings: Settings, read: impl FnOnce(&mut Settings) -> Option<C>) -> Result<C, ExitCode> {
    let config = read(&mut settings);
    settings.finish(config).map_err(|stop| {
        stop.print();
        ExitCode::from(stop.exit_code())
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
