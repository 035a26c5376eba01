//! The program `counter`: serves, or brings its database up to date.

use std::process::ExitCode;

use engine_tests::{Config, NAME};
use shared::{
    config::Settings,
    program::{self, COMMANDS, MIGRATE},
};

fn main() -> ExitCode {
    let mut settings = Settings::from_process(NAME, "Counters that only their owners move, up to a limit.", COMMANDS);
    let command = settings.command();
    let config = Config::read(&mut settings);
    let config = match settings.finish(config) {
        Ok(config) => config,
        Err(stop) => {
            stop.print();
            return ExitCode::from(stop.exit_code());
        }
    };
    let telemetry = config.common.telemetry.clone();
    match command {
        Some(MIGRATE) => program::run(NAME, &telemetry, |_| engine_tests::migrate(config)),
        _ => program::run(NAME, &telemetry, |stop| engine_tests::run(config, stop)),
    }
}
