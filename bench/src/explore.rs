//! A look at single rates: what became of the orders, what they cost, and what the services tell of their batches.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use clap::Args;
use local::progress::say;

use crate::{
    buyers::Buyers,
    measure::otlp::Receiver,
    meter::{self, Meter},
    outcomes::Goal,
    rig::{Rig, System, Variant},
    scale::Scale,
    search,
};

/// Which rates, of what.
#[derive(Args)]
pub(crate) struct Explore {
    /// Only these rates, in orders a second; else the highest that holds is searched, and a tenth of it watched.
    #[arg(long = "rate", value_name = "RATE", value_delimiter = ',')]
    rates: Vec<f64>,
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
    /// How many replicas of each service.
    #[arg(long, default_value_t = 1)]
    replicas: usize,
    /// Every request is traced, to a receiver that counts and drops.
    #[arg(long)]
    traced: bool,
    /// How long Kafka's virtual machine is warmed up before, in seconds.
    #[arg(long, default_value_t = 60)]
    warm_up: u64,
}

impl Explore {
    /// Looks.
    ///
    /// # Errors
    ///
    /// The system fails.
    pub(crate) async fn run(self) -> Result<()> {
        let lasts = Duration::from_secs(self.seconds);
        let rig = Rig::start(Scale::FULL).await?;
        let mut variant = Variant { replicas: self.replicas, ..Variant::default() };
        for setting in &self.settings {
            let (name, value) = setting.split_once('=').with_context(|| format!("{setting} is not NAME=VALUE"))?;
            variant = variant.set(name, value);
        }
        let receiver = if self.traced { Some(Receiver::start().await?) } else { None };
        if let Some(receiver) = &receiver {
            variant = receiver.told_by(variant);
        }
        let system = rig.system(&variant).await?;
        let buyers = Buyers::ready(&system.stack, self.tickets, self.goal).await?;
        say("warming up: Kafka's virtual machine needs a minute of load");
        buyers.run(1000.0, Duration::from_secs(self.warm_up)).await?;
        buyers.rest().await?;
        let mut rates = self.rates;
        if rates.is_empty() {
            let best = search::highest(&system, &buyers, self.from, lasts).await?.run.rate;
            buyers.rest().await?;
            rates = vec![best, best / 10.0];
        }
        for rate in rates {
            look(&system, &buyers, rate, lasts).await?;
        }
        system.stop().await?;
        if let Some(receiver) = &receiver {
            say(format_args!("    {} spans received", receiver.received()));
        }
        rig.stop().await
    }
}

async fn look(system: &System<'_>, buyers: &Buyers, rate: f64, lasts: Duration) -> Result<()> {
    let (before, told_before) = (Meter::read(system).await?, histograms(system).await?);
    let counted = async {
        let long_enough = lasts >= meter::COUNTING;
        anyhow::Ok(if long_enough { Some(meter::requests_a_second(system).await?) } else { None })
    };
    let (run, requests) = tokio::try_join!(buyers.run(rate, lasts), counted)?;
    let cost = before.until(&Meter::read(system).await?, run.offered.answered);
    for (name, ms) in &cost.cpu {
        say(format_args!("    {name:<12} {ms:.3} ms of CPU an order"));
    }
    say(format_args!(
        "    together     {:.3} ms of CPU an order, the client's not counted; {:.0} bytes and {:.2} flushes of the log; at most \
         {:.0} MB a service",
        cost.cpu_together(),
        cost.wal,
        cost.syncs,
        cost.memory as f64 / 1e6
    ));
    if let Some(requests) = requests {
        say(format_args!("    {:.2} requests to the broker an order", requests / rate));
    }
    for (name, (sum, count)) in histograms(system).await? {
        let (sum_before, count_before) = told_before.get(&name).copied().unwrap_or_default();
        let (sum, count) = (sum - sum_before, count - count_before);
        if count > 0.0 {
            say(format_args!("    {name}: mean {:.6} of {count}", sum / count));
        }
    }
    Ok(())
}

/// Of every histogram that the services show, by service and name: the sum and the count so far.
async fn histograms(system: &System<'_>) -> Result<BTreeMap<String, (f64, f64)>> {
    let mut all: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for service in system.stack.services() {
        for (name, value) in meter::told(service, "").await? {
            let name = format!("{} {name}", service.name());
            if name.contains("_sum") {
                all.entry(name.replace("_sum", "")).or_default().0 += value;
            } else if name.contains("_count") {
                all.entry(name.replace("_count", "")).or_default().1 += value;
            }
        }
    }
    Ok(all)
}
