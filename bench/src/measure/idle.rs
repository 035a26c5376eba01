//! A system with nothing else to do.

use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::Taken;
use crate::{
    buyers::Buyers,
    callers::Callers,
    load::{self, ms},
    outcomes::Goal,
    rig::{Rig, System, Variant},
    table::Quantity as Q,
    yardstick::floor::Floor,
};

/// From one call to the next, and from one bare commit to the next: a processor that has been idle is slower to begin, and
/// both are to meet that alike.
const BETWEEN: Duration = Duration::from_millis(30);

/// Calls that come one at a time, each when all that the one before has caused is over; and beside them, in the same way, what
/// no such call is spared.
pub(super) async fn create(rig: &Rig) -> Result<Taken> {
    let system = rig.system(&Variant::default()).await?;
    let buyers =
        Buyers::ready_as(Callers::among_others(), &system.stack, rig.scale.tickets.min(100), Goal::Reserved).await?;
    // Statements are prepared, connections are warm.
    buyers.run(50.0, rig.scale.try_for).await?;
    let mut chance = fastrand::Rng::new();
    let created = one_by_one(rig, async || buyers.order(&mut chance).await).await?;
    let (called, floor) = (nothing(rig, &system).await?, Floor::lay(rig).await?);
    let stored = one_by_one(rig, async || floor.statements().await).await?;
    system.stop().await?;

    let (call, statements) = (ms(&called, 0.5), ms(&stored, 0.5));
    Ok(Taken::default()
        .figure(Q::CreateIdle, ms(&created, 0.5))
        .figure(Q::CreateOfParts, call + statements)
        .tell(format_args!("p50 {:.2} ms, p99 {:.2} ms", ms(&created, 0.5), ms(&created, 0.99)))
        .tell(format_args!(
            "a call that does nothing {call:.2} ms, an order's statements by a bare client {statements:.2} ms"
        )))
}

/// A service is asked whether it serves, which it has no need to look up.
async fn nothing(rig: &Rig, system: &System<'_>) -> Result<Histogram<u64>> {
    let at = system.stack.service("orders")?.grpc();
    let channel = Endpoint::from_shared(format!("http://{at}"))?.tcp_nodelay(true).connect().await?;
    let mut health = HealthClient::new(channel);
    one_by_one(rig, async || {
        health.check(HealthCheckRequest::default()).await?;
        Ok(())
    })
    .await
}

/// Bare inserts and commits, in the same way.
pub(super) async fn commit(rig: &Rig) -> Result<Taken> {
    let floor = Floor::lay(rig).await?;
    let took = one_by_one(rig, async || floor.commit().await).await?;
    Ok(Taken::default().figure(Q::CommitIdle, ms(&took, 0.5)))
}

/// As many as the scale says, each timed, in microseconds.
async fn one_by_one(rig: &Rig, mut call: impl AsyncFnMut() -> Result<()>) -> Result<Histogram<u64>> {
    let (mut took, mut calls) = (load::histogram()?, tokio::time::interval(BETWEEN));
    for _ in 0..rig.scale.calls {
        calls.tick().await;
        let begun = Instant::now();
        call().await?;
        took.saturating_record(u64::try_from(begun.elapsed().as_micros())?.max(1));
    }
    Ok(took)
}
