//! The program `expiration`: serves, or brings its database up to date.

use std::process::ExitCode;

use expiration::{Config, NAME};
use shared::{
    config::Settings,
    program::{self, COMMANDS, MIGRATE},
};

fn main() -> ExitCode {
    let mut settings =
        Settings::from_process(NAME, "Timers of orders: each fires when its order was not paid in time.", COMMANDS);
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
        Some(MIGRATE) => program::run(NAME, &telemetry, |_| expiration::migrate(config)),
        _ => program::run(NAME, &telemetry, |stop| expiration::run(config, stop)),
    }
}
