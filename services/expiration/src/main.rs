//! The program `expiration`: serves, or brings its database up to date.

use std::process::ExitCode;

use expiration::{Config, NAME};

fn main() -> ExitCode {
    let about = "Timers of orders: each fires when its order was not paid in time.";
    shared::program::main((NAME, about), Config::read, |config| &config.common, expiration::run, expiration::migrations)
}
