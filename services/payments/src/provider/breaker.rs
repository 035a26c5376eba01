//! A circuit breaker: a provider that fails is left alone for a while, then tried by one request.
//!
//! Pure: time is an argument, and nothing here waits. What is open refuses at once, which says nothing about any payment.

use std::time::Duration;

use tokio::time::Instant;

use super::BreakerConfig;

/// Whether the provider may be asked.
#[derive(Debug)]
pub(super) struct Breaker {
    config: BreakerConfig,
    state: State,
    /// The provider itself has asked to be left alone until then.
    held_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// All may ask. So many have failed in a row.
    Closed { failures: u32 },
    /// Nobody may until then.
    Open { until: Instant },
    /// One is asking. If it isn't heard of until then (its caller may be gone), another may.
    Probing { until: Instant },
}

/// Why nobody may ask now, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Too much has failed.
    Open(Duration),
    /// The provider has asked for it.
    Held(Duration),
}

/// For metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    Closed = 0,
    Probing = 1,
    Open = 2,
}

impl Breaker {
    pub(super) fn new(config: BreakerConfig) -> Self {
        Self { config, state: State::Closed { failures: 0 }, held_until: None }
    }

    /// Whether a request may be made now. One that may is followed by [`Self::answered`], [`Self::hold`] or
    /// [`Self::failed`], unless its caller leaves before anything is known.
    pub(super) fn admit(&mut self, now: Instant) -> Result<(), Refusal> {
        if let Some(until) = self.held_until.filter(|until| *until > now) {
            return Err(Refusal::Held(until - now));
        }
        self.held_until = None;
        match self.state {
            State::Closed { .. } => Ok(()),
            State::Open { until } | State::Probing { until } if until > now => Err(Refusal::Open(until - now)),
            State::Open { .. } | State::Probing { .. } => {
                self.state = State::Probing { until: now + self.config.pause };
                Ok(())
            }
        }
    }

    /// The provider has answered, whatever it said.
    pub(super) fn answered(&mut self) {
        self.state = State::Closed { failures: 0 };
    }

    /// It hasn't, or has failed.
    pub(super) fn failed(&mut self, now: Instant) {
        self.state = match self.state {
            State::Closed { failures } if failures + 1 < self.config.failures => {
                State::Closed { failures: failures + 1 }
            }
            // One that was admitted before it opened tells nothing new.
            State::Open { until } if until > now => State::Open { until },
            _ => State::Open { until: now + self.config.pause },
        };
    }

    /// It has asked not to be asked for this long, which is an answer, too.
    pub(super) fn hold(&mut self, now: Instant, time: Duration) {
        self.answered();
        self.held_until = self.held_until.max(Some(now + time));
    }

    pub(super) fn position(&self) -> Position {
        match self.state {
            State::Closed { .. } => Position::Closed,
            State::Open { .. } => Position::Open,
            State::Probing { .. } => Position::Probing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(5);

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Admitted,
        Refused(Refusal),
        Answered,
        Failed,
        Hold(u64),
        Pass(u64),
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_after_one_answer() {
        use Refusal::{Held, Open};
        use Step::{Admitted, Answered, Failed, Hold, Pass, Refused};
        let seconds = Duration::from_secs;
        for (story, steps) in [
            ("an answer between failures begins anew", vec![Failed, Answered, Failed, Admitted]),
            ("it opens", vec![Failed, Failed, Refused(Open(PAUSE)), Pass(4), Refused(Open(seconds(1)))]),
            ("one probe closes it", vec![Failed, Failed, Pass(5), Admitted, Refused(Open(PAUSE)), Answered, Admitted]),
            ("a failed probe opens it again", vec![Failed, Failed, Pass(5), Admitted, Failed, Refused(Open(PAUSE))]),
            (
                "a probe that is never heard of is followed by another",
                vec![Failed, Failed, Pass(5), Admitted, Pass(5), Admitted, Refused(Open(PAUSE))],
            ),
            ("late failures don't prolong it", vec![Failed, Failed, Pass(4), Failed, Pass(1), Admitted]),
            ("a late answer closes it", vec![Failed, Failed, Answered, Admitted]),
            ("it is left alone as long as it asks", vec![Hold(2), Refused(Held(seconds(2))), Pass(2), Admitted]),
            ("the longer wish counts", vec![Hold(9), Hold(1), Refused(Held(seconds(9)))]),
            ("a wish to be left alone is no failure", vec![Hold(1), Hold(1), Hold(1), Pass(1), Admitted]),
            (
                "a probe that is asked to wait closes it, after that wait",
                vec![
                    Failed,
                    Failed,
                    Pass(5),
                    Admitted,
                    Hold(1),
                    Refused(Held(seconds(1))),
                    Pass(1),
                    Admitted,
                    Admitted,
                ],
            ),
        ] {
            let mut breaker = Breaker::new(BreakerConfig { failures: 2, pause: PAUSE });
            let mut now = Instant::now();
            for (nth, step) in steps.into_iter().enumerate() {
                match step {
                    Admitted => assert_eq!(breaker.admit(now), Ok(()), "{story}, step {nth}"),
                    Refused(refusal) => assert_eq!(breaker.admit(now), Err(refusal), "{story}, step {nth}"),
                    Answered => breaker.answered(),
                    Failed => breaker.failed(now),
                    Hold(time) => breaker.hold(now, seconds(time)),
                    Pass(time) => now += seconds(time),
                }
            }
        }
    }
}
