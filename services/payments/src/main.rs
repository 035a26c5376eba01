//! The program `payments`: serves, or brings its database up to date.

use std::process::ExitCode;

use payments::{Config, NAME};

fn main() -> ExitCode {
    let about = "Payments of orders: each is charged once, and given back if its order doesn't come to be.";
    shared::program::main((NAME, about), Config::read, |config| &config.common, payments::run, payments::migrations)
}
