//! The program `tickets`: serves, or brings its database up to date.

use std::process::ExitCode;

use tickets::{Config, NAME};

fn main() -> ExitCode {
    let about = "Tickets that sellers list, and their stock.";
    shared::program::main((NAME, about), Config::read, |config| &config.common, tickets::run, tickets::migrations)
}
