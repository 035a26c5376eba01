//! The program `counter`: serves, or brings its database up to date.

use std::process::ExitCode;

use engine_tests::{Config, NAME};

fn main() -> ExitCode {
    let about = "Counters that only their owners move, up to a limit.";
    let (serve, migrations) = (engine_tests::run, engine_tests::migrations);
    shared::program::main((NAME, about), Config::read, |config| &config.common, serve, migrations)
}
