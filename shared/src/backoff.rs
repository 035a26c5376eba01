//! Waiting between tries: the one retry policy of the engine.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
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
