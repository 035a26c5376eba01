//! Load with a fixed schedule of arrivals: what is late because the system is slow counts as slow (no coordinated
//! omission). In: calls to be made and how many a second. Out: how many were made, refused and failed.

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::Result;
use hdrhistogram::Histogram;
use tokio::{
    sync::Semaphore,
    task::{JoinError, JoinSet},
    time::Instant,
};

/// Calls that may be under way at once; a system that lags by more than this doesn't hold the rate.
const UNDER_WAY: usize = 20_000;
/// How often arrivals that are due are sent on their way.
const TICK: Duration = Duration::from_millis(1);

/// What became of the calls.
#[derive(Clone, Debug)]
pub(crate) struct Offered {
    /// Made, and answered well.
    pub answered: u64,
    /// Made, and refused or failed.
    pub failed: u64,
    /// Never made: too many were under way.
    pub shed: u64,
    /// From due to answered, in microseconds.
    pub latencies: Histogram<u64>,
}

/// Makes `rate` calls a second for so long. Each is told when it was due, by which its latency is measured.
///
/// # Errors
///
/// None but of its own making.
pub(crate) async fn offer<F>(rate: f64, lasts: Duration, mut call: impl FnMut(Instant) -> F) -> Result<Offered>
where
    F: Future<Output = bool> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(UNDER_WAY));
    let mut calls = JoinSet::new();
    let latencies = histogram()?;
    let mut offered = Offered { answered: 0, failed: 0, shed: 0, latencies };
    let begun = Instant::now();
    let mut ticks = tokio::time::interval_at(begun, TICK);
    let (mut due, all) = (0_u64, rate * lasts.as_secs_f64());
    while (due as f64) < all {
        ticks.tick().await;
        let by_now = (begun.elapsed().as_secs_f64() * rate).min(all);
        while (due as f64) < by_now {
            let scheduled = begun + Duration::from_secs_f64(due as f64 / rate);
            due += 1;
            match room.clone().try_acquire_owned() {
                Ok(place) => {
                    let call = call(scheduled);
                    calls.spawn(async move {
                        let answered = call.await;
                        drop(place);
                        answered.then(|| scheduled.elapsed())
                    });
                }
                Err(_) => offered.shed += 1,
            }
        }
        while let Some(answered) = calls.try_join_next() {
            count(&mut offered, answered);
        }
    }
    while let Some(answered) = calls.join_next().await {
        count(&mut offered, answered);
    }
    Ok(offered)
}

/// For times in microseconds (or coarser), to two minutes; what took longer counts as that.
///
/// # Errors
///
/// None: the bounds are constants.
pub(crate) fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 120_000_000, 3)?)
}

/// A quantile of times in microseconds, in milliseconds.
pub(crate) fn ms(took: &Histogram<u64>, quantile: f64) -> f64 {
    took.value_at_quantile(quantile) as f64 / 1000.0
}

fn count(offered: &mut Offered, answered: Result<Option<Duration>, JoinError>) {
    if let Ok(Some(took)) = answered {
        offered.answered += 1;
        offered.latencies.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1));
    } else {
        offered.failed += 1;
    }
}
