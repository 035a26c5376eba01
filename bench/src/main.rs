//! The program `bench`: measures a system of its own, on servers of its own with fsync on, beside yardsticks on the same
//! machine in the same run.

mod load;
mod orders;
mod outcomes;
mod pgbench;

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use clap::Parser;
use local::{progress::say, stack::Stack, tools::Tools};

use crate::{
    orders::{Buyers, Run},
    outcomes::Goal,
};

/// Orders a second until they await payment, or until they are paid for and completed, and single-row commits a second
/// beside them.
#[derive(Parser)]
struct Arguments {
    /// How long a rate has to hold, in seconds.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Where the search begins, in orders a second.
    #[arg(long, default_value_t = 2000.0)]
    from: f64,
    /// How many tickets the orders are spread over.
    #[arg(long, default_value_t = 1000)]
    tickets: usize,
    /// A setting for all services, beside their defaults: NAME=VALUE. Can be given again.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// How far an order has to get.
    #[arg(long, value_enum, default_value_t = Goal::Reserved)]
    goal: Goal,
    /// Only these rates, in orders a second, and what the services tell of themselves.
    #[arg(long = "rate", value_name = "RATE", value_delimiter = ',')]
    rates: Vec<f64>,
    /// How long Kafka's virtual machine is warmed up before, in seconds.
    #[arg(long, default_value_t = 60)]
    warm_up: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let lasts = Duration::from_secs(arguments.seconds);
    let tools = Tools::from_env()?;
    let mut stack = Stack::builder().env("orders", "ORDER_TTL", "1h");
    for service in ["tickets", "orders", "payments", "expiration"] {
        stack = stack.service(service)?;
    }
    for setting in &arguments.settings {
        let (name, value) = setting.split_once('=').with_context(|| format!("{setting} is not NAME=VALUE"))?;
        stack = stack.env_for_all(name, value);
    }
    let stack = stack.env_for_all("RUST_LOG", "warn").start(&tools).await?;
    let buyers = Buyers::ready(&stack, arguments.tickets, arguments.goal).await?;

    say("warming up: Kafka's virtual machine needs a minute of load");
    buyers.run(1000.0, Duration::from_secs(arguments.warm_up)).await?;
    if !arguments.rates.is_empty() {
        for rate in arguments.rates {
            let before = histograms(&stack).await?;
            measured(&stack, &buyers, rate, lasts).await?;
            for (name, (sum, count)) in histograms(&stack).await? {
                let (sum_before, count_before) = before.get(&name).copied().unwrap_or_default();
                let (sum, count) = (sum - sum_before, count - count_before);
                if count > 0.0 {
                    say(format_args!("    {name}: mean {:.6} of {count}", sum / count));
                }
            }
        }
        return stack.stop().await;
    }
    let best = buyers.highest(arguments.from, lasts).await?;
    measured(&stack, &buyers, best.rate, lasts).await?;
    let tenth = measured(&stack, &buyers, best.rate / 10.0, lasts).await?;

    let programs = tools.postgres().await?;
    let url = &stack.shared_servers().postgres_url;
    let yardstick = Duration::from_secs(arguments.seconds.min(15));
    let one = pgbench::single_rows(&programs, url, 1, yardstick, stack.dir()).await?;
    let many = pgbench::single_rows(&programs, url, 32, yardstick, stack.dir()).await?;

    say(format_args!(
        "highest rate that held for {} s: {:.0}/s until {:?}",
        arguments.seconds, best.rate, arguments.goal
    ));
    say(format_args!("at a tenth of it: p50 {:.1} ms, p99 {:.1} ms", tenth.quantile(0.5), tenth.quantile(0.99)));
    say(format_args!("pgbench, single rows: {one:.0}/s by 1 client, {many:.0}/s by 32"));
    say(format_args!("as a share of the latter: {:.2}", best.rate / many));
    for (name, (sum, count)) in histograms(&stack).await? {
        if name.contains("write_batch_units") && count > 0.0 {
            say(format_args!("{name}: mean {:.1} of {count} transactions", sum / count));
        }
    }
    stack.stop().await
}

/// A run, and the CPU time that each process used for it, an order.
async fn measured(stack: &Stack, buyers: &Buyers, rate: f64, lasts: Duration) -> Result<Run> {
    let used = || stack.processes().map(|process| (process.name(), process.cpu_time())).collect::<Vec<_>>();
    let before = used();
    let run = buyers.run(rate, lasts).await?;
    let orders = run.offered.answered.max(1) as f64;
    let an_order = |seconds: Duration| seconds.as_secs_f64() * 1000.0 / orders;
    let mut total = 0.0;
    for ((name, before), (_, after)) in before.into_iter().zip(used()) {
        let spent = an_order(after.saturating_sub(before));
        total += spent;
        say(format_args!("    {name:<12} {spent:.3} ms of CPU an order"));
    }
    say(format_args!("    together     {total:.3} ms of CPU an order, the client's not counted"));
    Ok(run)
}

/// Of every histogram that the services show, by service and name: the sum and the count so far.
async fn histograms(stack: &Stack) -> Result<BTreeMap<String, (f64, f64)>> {
    let mut all: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for service in stack.services() {
        let page = reqwest::get(format!("http://{}/metrics", service.ops())).await?.text().await?;
        for (name, value) in page.lines().filter_map(|line| line.rsplit_once(' ')) {
            let Ok(value) = value.parse::<f64>() else { continue };
            let name = format!("{} {name}", service.name());
            if name.contains("_sum") {
                all.entry(name.replace("_sum", "")).or_default().0 = value;
            } else if name.contains("_count") {
                all.entry(name.replace("_count", "")).or_default().1 = value;
            }
        }
    }
    Ok(all)
}
