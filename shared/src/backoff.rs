//! Waiting between tries: the one retry policy of the engine, and the one of a call that waits for news.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The first wait, and the longest, before chance makes it up to twice as long.
const WAITS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Exponential, with jitter, without an end: from 50 ms to 5 s, and up to as much again by chance.
pub struct Backoff {
    waits: ExponentialBackoff,
    tried: u32,
}

impl Backoff {
    /// Nothing has failed yet.
    pub fn new() -> Self {
        let (first, longest) = WAITS;
        let builder =
            ExponentialBuilder::new().with_min_delay(first).with_max_delay(longest).without_max_times().with_jitter();
        Self { waits: builder.build(), tried: 0 }
    }

    /// How often it has been waited.
    pub fn tried(&self) -> u32 {
        self.tried
    }

    /// Waits for the next try, or until the program is to stop.
    pub async fn wait(&mut self, stop: &CancellationToken) {
        self.tried = self.tried.saturating_add(1);
        let wait = self.waits.next().unwrap_or(WAITS.1);
        let _ = tokio::time::timeout(wait, stop.cancelled()).await;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

/// Pauses of a call that waits for what is about to come, while its caller waits: short at first, 5 ms, and ever longer, up
/// to 250 ms.
pub struct Pauses {
    next: Duration,
    until: Instant,
}

impl Pauses {
    /// None has been made yet; the last ends then.
    pub fn until(until: Instant) -> Self {
        const FIRST: Duration = Duration::from_millis(5);
        Self { next: FIRST, until }
    }

    /// Makes the next one. False if there is no time left for another look.
    pub async fn pause(&mut self) -> bool {
        const LONGEST: Duration = Duration::from_millis(250);
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        tokio::time::sleep(self.next.min(left)).await;
        self.next = (self.next * 2).min(LONGEST);
        true
    }
}
