//! The program `audit`: looks a running system over, that of `make run` on this machine unless it is told otherwise, and
//! changes nothing. Out: a line a violation and one that sums up, on standard output. Exit status 0 if nothing is wrong, 1
//! if anything is, 2 if it couldn't look.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use audit::Sources;
use clap::Parser;
use local::progress::{answer, say};
use uuid::Uuid;

/// Looks a running system over, without changing it.
#[derive(Debug, Parser)]
#[command(name = "audit", version)]
struct Arguments {
    /// By how much the ports of `make run` were moved.
    #[arg(long, env = "TICKETING_PORT_OFFSET", default_value_t = 0)]
    port_offset: u16,
    /// Tickets' database, instead of `make run`'s: postgres://tickets@127.0.0.1:5433/tickets.
    #[arg(long, value_name = "URL")]
    tickets: Option<String>,
    /// Orders' database.
    #[arg(long, value_name = "URL")]
    orders: Option<String>,
    /// Payments' database.
    #[arg(long, value_name = "URL")]
    payments: Option<String>,
    /// Expiration's database.
    #[arg(long, value_name = "URL")]
    expiration: Option<String>,
    /// The broker.
    #[arg(long, value_name = "ADDRESSES")]
    kafka_brokers: Option<String>,
    /// What stands before the topics' names.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    topic_prefix: String,
    /// The sandbox's base URL.
    #[arg(long, value_name = "URL")]
    ledger: Option<String>,
    /// Believes payments about the money: for a system that speaks to Stripe itself.
    #[arg(long, conflicts_with = "ledger")]
    no_ledger: bool,
    /// Looks only at tickets and orders with this id or a later one.
    #[arg(long, value_name = "ID")]
    since: Option<Uuid>,
    /// How long something has to be wrong: what goes away sooner was work under way.
    #[arg(long, value_name = "TIME", default_value_t = humantime::Duration::from(audit::PATIENCE))]
    patience: humantime::Duration,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let patience: Duration = *arguments.patience;
    match run(arguments, patience).await {
        Ok(code) => code,
        Err(error) => {
            say(format_args!("{error:#}"));
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: Arguments, patience: Duration) -> Result<ExitCode> {
    let report = audit::audit(&sources(arguments)?, patience).await?;
    for violation in &report.violations {
        answer(violation);
    }
    match report.violations.len() {
        0 => answer(format_args!("nothing is wrong; looked {} times at {}", report.looks, report.counts)),
        count => answer(format_args!("{count} violations; looked {} times at {}", report.looks, report.counts)),
    }
    Ok(if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn sources(arguments: Arguments) -> Result<Sources> {
    let mut sources = Sources::of_make_run(arguments.port_offset)?;
    let databases = &mut sources.databases;
    for (given, default) in [
        (arguments.tickets, &mut databases.tickets),
        (arguments.orders, &mut databases.orders),
        (arguments.payments, &mut databases.payments),
        (arguments.expiration, &mut databases.expiration),
        (arguments.kafka_brokers, &mut sources.kafka_brokers),
    ] {
        if let Some(given) = given {
            *default = given;
        }
    }
    sources.topic_prefix = arguments.topic_prefix;
    sources.ledger = if arguments.no_ledger { None } else { arguments.ledger.or(sources.ledger) };
    sources.since = arguments.since;
    Ok(sources)
}
