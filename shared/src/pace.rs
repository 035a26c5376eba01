//! Pacing: how soon one batch may follow another.
//!
//! What waits a little finds company, and a row of a full batch costs a fraction of a row alone. Who comes after a
//! pause waits for nothing, so that an idle system pays no delay.

use std::time::Duration;

use tokio::time::Instant;

/// The least time from the beginning of one batch to that of the next.
#[derive(Debug)]
pub(crate) struct Pace {
    least: Duration,
    next: Option<Instant>,
}

impl Pace {
    /// Nothing has begun yet. The runtime's timers count milliseconds: a pace is kept to the next one.
    pub(crate) fn new(least: Duration) -> Self {
        Self { least, next: None }
    }

    /// Waits until the next batch may begin, which it then does. Dropped meanwhile, nothing has begun.
    pub(crate) async fn begin(&mut self) {
        if let Some(next) = self.next.filter(|next| *next > Instant::now()) {
            tokio::time::sleep_until(next).await;
        }
        self.begun();
    }

    /// A batch begins now, whatever the pace: it was full.
    pub(crate) fn begun(&mut self) {
        self.next = Some(Instant::now() + self.least);
    }
}
