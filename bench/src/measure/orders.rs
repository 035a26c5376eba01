//! Orders until their stock is held: as many a second as hold, and how long one takes; and what the gateway adds to a call.

use std::time::Duration;

use anyhow::Result;

use super::Taken;
use crate::{
    buyers::Buyers,
    load::{self, ms},
    outcomes::Goal,
    rig::{Rig, Variant},
    search,
    table::Quantity as Q,
    yardstick::floor::Floor,
};

/// How often the floor's steps are taken beside a load: too seldom to be one themselves.
const BESIDE: Duration = Duration::from_millis(100);

/// Spread over many tickets; then at a tenth of what held, on the same system; and then once more, with the floor's own
/// steps beside it, which shows what the processors' being busy alone makes of them: of that run both are told.
pub(super) async fn spread(rig: &Rig, guess: f64) -> Result<Taken> {
    let system = rig.system(&Variant::default()).await?;
    let buyers = Buyers::ready(&system.stack, rig.scale.tickets, Goal::Reserved).await?;
    let best = search::highest(&system, &buyers, guess, rig.scale.try_for).await?;
    buyers.rest().await?;
    rig.write_out().await?;
    let (rate, lasts) = (best.run.rate / 10.0, rig.scale.watch_for);
    // What the search has left is worked off beside the first run at this rate, which is not counted.
    buyers.run(rate, lasts).await?;
    let tenth = buyers.run(rate, lasts).await?;
    let floor = Floor::lay(rig).await?;
    let (again, beside) = tokio::try_join!(buyers.run(rate, lasts), floor.orders_for(lasts, BESIDE))?;
    system.stop().await?;
    let mut taken = Taken::default()
        .figure(Q::OrdersSpread, best.run.rate)
        .figure(Q::HeldP50, tenth.quantile(0.5))
        .figure(Q::HeldP99, tenth.quantile(0.99))
        .figure(Q::HeldBesideP50, again.quantile(0.5))
        .figure(Q::FloorBesideP50, ms(&beside, 0.5))
        .figure(Q::HeldBesideP99, again.quantile(0.99))
        .figure(Q::FloorBesideP99, ms(&beside, 0.99))
        .tell(&best.run)
        .tell(&tenth)
        .tell(format_args!("{again}, with the floor's steps beside it"));
    taken.cpu = best.cost.cpu;
    Ok(taken)
}

/// All of one ticket.
pub(super) async fn hot(rig: &Rig, guess: f64) -> Result<Taken> {
    let system = rig.system(&Variant::default()).await?;
    let buyers = Buyers::ready(&system.stack, 1, Goal::Reserved).await?;
    let best = search::highest(&system, &buyers, guess, rig.scale.try_for).await?;
    system.stop().await?;
    Ok(Taken::default().figure(Q::OrdersHot, best.run.rate).tell(best.run))
}

/// How often it is gone through the gateway twice and past it twice.
const TURNS: usize = 6;

/// As many a second as hold through the gateway; then the answers to calls at a tenth of that, through it and past it, by
/// turns on one system.
pub(super) async fn through_gateway(rig: &Rig, guess: f64) -> Result<Taken> {
    // The gateway's limit is one client's; all buyers are one here.
    let fronted =
        Variant { gateway: true, ..Variant::default() }.set("CLIENT_RATE", "100000").set("CLIENT_BURST", "100000");
    let system = rig.system(&fronted).await?;
    let direct = Buyers::ready(&system.stack, rig.scale.tickets, Goal::Reserved).await?;
    let through = direct.by_gateway(&system.stack).await?;
    let best = search::highest(&system, &through, guess, rig.scale.try_for).await?.run;
    through.rest().await?;
    rig.write_out().await?;
    let rate = best.rate / 10.0;
    // Both ways are cold at first, and what the search has left is worked off.
    for buyers in [&direct, &through] {
        buyers.run(rate, rig.scale.watch_for / 2).await?;
    }
    let mut took = [load::histogram()?, load::histogram()?];
    // The kernel writes out each file's pages when they have been dirty for half a minute, and then commits wait. Turns that are
    // much shorter have as much of that one way as the other; by twos, so that what drifts does so for both alike.
    let turn = rig.scale.watch_for / 8;
    for (way, buyers) in [(0, &direct), (1, &through), (1, &through), (0, &direct)].repeat(TURNS) {
        took[way].add(&buyers.run(rate, turn).await?.offered.latencies)?;
    }
    system.stop().await?;
    let [direct, through] = took;
    let told = format!(
        "{rate:.0}/s, p50 {:.2} ms through and {:.2} ms past it, p99 {:.2} and {:.2} ms",
        ms(&through, 0.5),
        ms(&direct, 0.5),
        ms(&through, 0.99),
        ms(&direct, 0.99)
    );
    Ok(Taken::default()
        .figure(Q::CreateGateway, ms(&through, 0.99))
        .figure(Q::CreateDirect, ms(&direct, 0.99))
        .figure(Q::OrdersGateway, best.rate)
        .tell(best)
        .tell(told))
}
