//! What happens again and again while one cause lasts: told when it begins, now and then, and when it is over.
//!
//! A broker that is away makes librdkafka complain many times a second, and a log that is full of one thing hides all
//! others. Whoever has such a thing to tell keeps a [`Spell`] of it and asks that first; the line and its fields stay
//! where they are.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How often it is told while it lasts.
const TOLD_EVERY: Duration = Duration::from_secs(30);
/// So long it has to stay away to be over: longer than what is tried again and again takes to fail once more.
const QUIET: Duration = Duration::from_secs(15);

/// One thing that may happen again and again.
#[derive(Debug, Default)]
pub(crate) struct Spell(Mutex<Option<Lasting>>);

#[derive(Debug)]
struct Lasting {
    since: Instant,
    last: Instant,
    told: Instant,
    times: u64,
    left_out: u64,
}

/// A spell that is over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Over {
    /// How often it happened.
    pub(crate) times: u64,
    /// From the first time to the last.
    pub(crate) lasted: Duration,
}

impl Spell {
    /// It has not happened yet.
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// It happens: `Some` if that is to be told, with how many times were left out since it was told last.
    pub(crate) fn happens(&self, now: Instant) -> Option<u64> {
        let mut spell = self.lock();
        let Some(lasting) = spell.as_mut().filter(|lasting| !lasting.is_over(now)) else {
            *spell = Some(Lasting { since: now, last: now, told: now, times: 1, left_out: 0 });
            return Some(0);
        };
        lasting.last = now;
        lasting.times += 1;
        if now < lasting.told + TOLD_EVERY {
            lasting.left_out += 1;
            return None;
        }
        lasting.told = now;
        Some(std::mem::take(&mut lasting.left_out))
    }

    /// `Some`, once, when it has stayed away for 15 s. To be asked every now and then.
    pub(crate) fn over(&self, now: Instant) -> Option<Over> {
        let over = self.lock().take_if(|lasting| lasting.is_over(now))?;
        Some(Over { times: over.times, lasted: over.last - over.since })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Lasting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lasting {
    fn is_over(&self, now: Instant) -> bool {
        now >= self.last + QUIET
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When something happens or is asked about, in milliseconds, and what is told then.
    enum Row {
        Happens(u64, Option<u64>),
        Over(u64, Option<(u64, u64)>),
    }
    use Row::{Happens, Over as IsOver};

    #[test]
    fn it_is_told_at_its_beginning_twice_a_minute_with_what_was_left_out_and_at_its_end() {
        let story = [
            IsOver(0, None),
            Happens(1_000, Some(0)),
            Happens(1_000, None),
            Happens(1_100, None),
            IsOver(16_000, None),
            Happens(16_000, None),
            Happens(30_999, None),
            Happens(31_000, Some(4)),
            Happens(31_001, None),
            Happens(46_000, None),
            Happens(60_999, None),
            Happens(61_000, Some(3)),
            IsOver(75_999, None),
            IsOver(76_000, Some((10, 60_000))),
            IsOver(90_000, None),
            // Another one.
            Happens(90_000, Some(0)),
            // Nobody asked whether it was over: another one again.
            Happens(105_000, Some(0)),
            IsOver(120_000, Some((1, 0))),
        ];
        let (begin, spell) = (Instant::now(), Spell::default());
        let at = |ms| begin + Duration::from_millis(ms);
        for row in story {
            match row {
                Happens(ms, told) => assert_eq!(spell.happens(at(ms)), told, "it happens at {ms} ms"),
                IsOver(ms, told) => {
                    let told = told.map(|(times, ms)| Over { times, lasted: Duration::from_millis(ms) });
                    assert_eq!(spell.over(at(ms)), told, "over at {ms} ms?");
                }
            }
        }
    }
}
