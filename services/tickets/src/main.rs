//! The program `tickets`: serves, or brings its database up to date.

use std::process::ExitCode;

use shared::{
    config::Settings,
    program::{self, COMMANDS, MIGRATE},
};
use tickets::{Config, NAME};

fn main() -> ExitCode {
    let mut settings = Settings::from_process(NAME, "Tickets that sellers list, and their stock.", COMMANDS);
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
        Some(MIGRATE) => program::run(NAME, &telemetry, |_| tickets::migrate(config)),
        _ => program::run(NAME, &telemetry, |stop| tickets::run(config, stop)),
    }
}
