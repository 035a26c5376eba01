//! The program `orders`: serves, or brings its database up to date.

use std::process::ExitCode;

use orders::{Config, NAME};
use shared::{
    config::Settings,
    program::{self, COMMANDS, MIGRATE},
};

fn main() -> ExitCode {
    let mut settings =
        Settings::from_process(NAME, "Orders that buyers place, until they are paid, cancelled, or expire.", COMMANDS);
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
        Some(MIGRATE) => program::run(NAME, &telemetry, |_| orders::migrate(config)),
        _ => program::run(NAME, &telemetry, |stop| orders::run(config, stop)),
    }
}
