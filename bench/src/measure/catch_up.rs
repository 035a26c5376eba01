//! A service that was stopped while orders came in, and works off what it missed while more of them come.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use local::session::Session;
use tokio::task::JoinSet;

use super::Taken;
use crate::{
    buyers::Buyers,
    meter,
    outcomes::Goal,
    rig::{Rig, Variant},
    table::Quantity as Q,
};

/// Lag of less than this is none.
const NEAR: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(120);

/// tickets is stopped while orders arrive at this rate, and started while they go on.
pub(super) async fn orders(rig: &Rig, rate: f64) -> Result<Taken> {
    let system = rig.system(&Variant::default()).await?;
    let buyers = Buyers::ready(&system.stack, rig.scale.tickets, Goal::Reserved).await?;
    let tickets = system.stack.service("tickets")?;
    tickets.process().terminate().await?;
    let (begun, stopped_for) = (Instant::now(), rig.scale.stopped_for);
    let mut arrivals = JoinSet::new();
    // Long enough to be still arriving when all is worked off at the rate to be reached.
    arrivals.spawn(async move { buyers.run(rate, stopped_for * 2).await });
    tokio::time::sleep(stopped_for).await;
    let started = Instant::now();
    tickets.process().start().await?;
    // A row for each order that is done with, and none from before: messages are more than those, for some mean nothing to it.
    let database = Session::connect(&system.database_url("tickets")?).await?;
    let done = database.prepare("SELECT count(*)::float8 FROM reservations").await?;
    let worked_off = loop {
        let handled: f64 = database.query_one(&done, &[]).await?.get(0);
        let arrived = rate * begun.elapsed().min(stopped_for * 2).as_secs_f64();
        if handled + rate * NEAR.as_secs_f64() >= arrived {
            break handled / started.elapsed().as_secs_f64();
        }
        ensure!(started.elapsed() < LIMIT, "{handled} of {arrived} handled after {LIMIT:?}");
        tokio::time::sleep(meter::LOOKS).await;
    };
    let took = started.elapsed();
    while let Some(run) = arrivals.join_next().await {
        run??;
    }
    system.stop().await?;
    let told = format!("{rate:.0}/s for {stopped_for:?}, caught up {:.2} s after it was started", took.as_secs_f64());
    Ok(Taken::default().figure(Q::CaughtUp, worked_off).figure(Q::Arriving, rate).tell(told))
}
