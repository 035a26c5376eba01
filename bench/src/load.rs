//! Load with a fixed schedule of arrivals: what is late because the system is slow counts as slow (no coordinated
//! omission). In: calls to be made and how many a second. Out: how many were made, refused and failed.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

/// Calls that may be under way at once; a system that lags by more than this doesn't hold the rate.
const UNDER_WAY: usize = 20_000;
/// How often arrivals that are due are sent on their way.
const TICK: Duration = Duration::from_millis(1);

/// What became of the calls.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Offered {
    /// Made, and answered well.
    pub answered: u64,
    /// Made, and refused or failed.
    pub failed: u64,
    /// Never made: too many were under way.
    pub shed: u64,
}

/// Makes `rate` calls a second for so long. Each is told when it was due, by which its latency is measured.
pub(crate) async fn offer<F>(rate: f64, lasts: Duration, mut call: impl FnMut(Instant) -> F) -> Offered
where
    F: Future<Output = bool> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(UNDER_WAY));
    let mut calls = JoinSet::new();
    let mut offered = Offered::default();
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
                        answered
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
    offered
}

fn count(offered: &mut Offered, answered: Result<bool, tokio::task::JoinError>) {
    if matches!(answered, Ok(true)) {
        offered.answered += 1;
    } else {
        offered.failed += 1;
    }
}
