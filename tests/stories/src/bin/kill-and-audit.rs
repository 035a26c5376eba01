//! The program `kill-and-audit`: buyers order and pay while services and their servers are killed at random; then stock, orders, money
//! and events are audited from outside. Exit status 1, and a line a violation, if anything is not as it must be.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use local::progress::say;
use stories::killing::{self, Plan};

/// Kills services and servers while orders are placed, and audits what is left.
#[derive(Parser)]
struct Arguments {
    /// How many orders to place.
    #[arg(long, default_value_t = 300)]
    orders: usize,
    /// How many times to kill something.
    #[arg(long, default_value_t = 12)]
    kills: usize,
    /// What the chances begin with; another each time if left out.
    #[arg(long)]
    seed: Option<u64>,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let Arguments { orders, kills, seed } = Arguments::parse();
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    say(format_args!("{orders} orders, {kills} kills, --seed {seed}"));
    let report = killing::run(Plan { orders, kills, seed }).await?;
    say(format_args!(
        "{} acknowledged, {} refused for want of stock, {} payments, {} calls repeated, moved {:?}, {} violations",
        report.acknowledged,
        report.refused,
        report.payments,
        report.repeated,
        report.moved,
        report.violations.len()
    ));
    for violation in &report.violations {
        say(violation);
    }
    Ok(if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
