//! The program `orders`: serves, or brings its database up to date.

use std::process::ExitCode;

use orders::{Config, NAME};

fn main() -> ExitCode {
    let about = "Orders that buyers place, until they are paid, cancelled, or expire.";
    shared::program::main((NAME, about), Config::read, |config| &config.common, orders::run, orders::migrations)
}
