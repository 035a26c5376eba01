//! Pacing: how soon one batch may follow another.
//!
//! What waits a little finds company, and a row of a full batch costs a fraction of a row alone. Who comes after a
//! pause waits for nothing, so that an idle system pays no delay; the more the last batch carried, the longer the next
//! waits.

use std::time::Duration;

use tokio::time::Instant;

/// What each item of a batch adds to the wait before the next. At n items a second a wait of w gathers n·w of them, which then ask
/// for a wait of n·w times this: above 6,700 items a second (one in this time) waits grow to `MOST`, below they shrink.
const EACH: Duration = Duration::from_micros(150);

/// It waits no longer than this, however many there were: of a transaction that carries so many rows most of the price is
/// theirs, and longer waits would save nothing more.
const MOST: Duration = Duration::from_millis(20);

/// The least time from the beginning of one batch to that of the next.
#[derive(Debug)]
pub struct Pace {
    least: Duration,
    in_company: Duration,
    begun: Instant,
    next: Option<Instant>,
}

impl Pace {
    /// Nothing has begun yet. The runtime's timers count milliseconds: a pace is kept to the next one.
    pub fn new(least: Duration) -> Self {
        Self { least, in_company: least, begun: Instant::now(), next: None }
    }

    /// After a batch of more than one it is so long at least: what has found company will find some again, and one who asks
    /// again and again, alone, waits for nobody.
    pub fn in_company(self, least: Duration) -> Self {
        Self { in_company: least.max(self.least), ..self }
    }

    /// Waits until the next batch may begin, which it then does; `at_once` if there is no company to wait for. Dropped
    /// meanwhile, nothing has begun.
    pub async fn begin(&mut self, at_once: bool) {
        if let Some(next) = self.next.filter(|next| !at_once && *next > Instant::now()) {
            tokio::time::sleep_until(next).await;
        }
        self.begun = Instant::now();
        self.next = Some(self.begun + self.least);
    }

    /// The batch that has begun carries so many. The more there is to do, the longer the next waits for company: one command
    /// alone is answered at once, and under load, where there is no time to spare, fewer and fuller batches do the same work
    /// for less.
    pub fn carries(&mut self, items: usize) {
        let least = if items > 1 { self.in_company } else { self.least };
        let longer = EACH.saturating_mul(u32::try_from(items).unwrap_or(u32::MAX)).min(MOST);
        self.next = Some(self.begun + least.max(longer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long the next batch waits after one of so many.
    async fn waits_after(items: usize, at_once: bool) -> Duration {
        let mut pace = Pace::new(Duration::from_millis(1));
        pace.begin(false).await;
        pace.carries(items);
        let begun = Instant::now();
        pace.begin(at_once).await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn the_more_a_batch_carried_the_longer_the_next_waits_up_to_a_bound() {
        assert_eq!(waits_after(1, false).await, Duration::from_millis(1));
        assert_eq!(waits_after(40, false).await, Duration::from_millis(6));
        assert_eq!(waits_after(1_000_000, false).await, MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_has_found_company_waits_for_more_of_it() {
        for (items, waits) in [(1, 1), (2, 5), (30, 5), (40, 6)] {
            let mut pace = Pace::new(Duration::from_millis(1)).in_company(Duration::from_millis(5));
            pace.begin(false).await;
            pace.carries(items);
            let begun = Instant::now();
            pace.begin(false).await;
            assert_eq!(begun.elapsed(), Duration::from_millis(waits), "after {items}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_no_company_to_wait_for_begins_at_once() {
        assert_eq!(waits_after(1_000_000, true).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_after_a_pause_waits_for_nothing() {
        let mut pace = Pace::new(Duration::from_millis(1));
        pace.begin(false).await;
        pace.carries(1000);
        tokio::time::advance(MOST).await;
        let begun = Instant::now();
        pace.begin(false).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
