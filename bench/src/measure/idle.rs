//! A system with nothing else to do.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Taken;
use crate::{
    buyers::Buyers,
    callers::Callers,
    load,
    outcomes::Goal,
    rig::{Rig, Variant},
    table::Quantity as Q,
};

/// From one call to the next, and from one bare commit to the next: a processor that has been idle is slower to begin, and
/// both are to meet that alike.
pub(super) const BETWEEN: Duration = Duration::from_millis(30);

/// Calls that come one at a time, each when all that the one before has caused is over.
pub(super) async fn create(rig: &Rig) -> Result<Taken> {
    let system = rig.system(&Variant::default()).await?;
    let buyers =
        Buyers::ready_as(Callers::among_others(), &system.stack, rig.scale.tickets.min(100), Goal::Reserved).await?;
    // Statements are prepared, connections are warm.
    buyers.run(50.0, rig.scale.try_for).await?;
    let (mut chance, mut took) = (fastrand::Rng::new(), load::histogram()?);
    let mut calls = tokio::time::interval(BETWEEN);
    for _ in 0..rig.scale.calls {
        calls.tick().await;
        let begun = Instant::now();
        buyers.order(&mut chance).await?;
        took.saturating_record(u64::try_from(begun.elapsed().as_micros())?.max(1));
    }
    system.stop().await?;
    let ms = |quantile| took.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(Taken::default().figure(Q::CreateIdle, ms(0.5)).tell(format_args!(
        "p50 {:.2} ms, p99 {:.2} ms",
        ms(0.5),
        ms(0.99)
    )))
}
