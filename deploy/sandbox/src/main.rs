//! The program `sandbox`: serves, until it is told to stop.

use std::process::ExitCode;

use sandbox::{Config, NAME};
use shared::{config::Settings, program};

/// The ledger's commits have threads of their own.
const THREADS: usize = 1;

fn main() -> ExitCode {
    let about = "A payment provider that speaks the part of Stripe's HTTP API that payments needs. No real money.";
    let mut settings = Settings::from_process(NAME, about, &[]);
    let config = Config::read(&mut settings);
    match settings.finish(config) {
        Ok(config) => {
            let telemetry = config.telemetry.clone();
            program::run(NAME, &telemetry, THREADS, |stop| sandbox::run(config, stop))
        }
        Err(stop) => {
            stop.print();
            ExitCode::from(stop.exit_code())
        }
    }
}
