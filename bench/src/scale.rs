//! How much of everything: the whole, or a hundredth to see that all of it works.

use std::time::Duration;

/// Sizes and times.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Scale {
    /// How often each figure is taken.
    pub rounds: usize,
    /// How long Kafka's virtual machine is warmed up, once.
    pub warm_up: Duration,
    /// How long a rate has to hold.
    pub try_for: Duration,
    /// How long latencies are watched at a steady rate.
    pub watch_for: Duration,
    /// How long a yardstick runs.
    pub yardstick_for: Duration,
    /// Events of a backlog.
    pub backlog: usize,
    /// Timers that are due at once.
    pub due: usize,
    /// Calls to an idle system, one after the other.
    pub calls: usize,
    /// How long a service is stopped that is then to catch up.
    pub stopped_for: Duration,
    /// Ended orders in the databases that have grown; events in their outboxes' window are as many.
    pub grown: usize,
    /// Live timers there.
    pub grown_timers: usize,
    /// Tickets that orders are spread over.
    pub tickets: usize,
}

impl Scale {
    /// What the report is made of: more than an hour.
    pub(crate) const FULL: Self = Self {
        rounds: 5,
        warm_up: Duration::from_secs(60),
        try_for: Duration::from_secs(8),
        watch_for: Duration::from_secs(15),
        yardstick_for: Duration::from_secs(10),
        backlog: 500_000,
        due: 500_000,
        calls: 500,
        stopped_for: Duration::from_secs(20),
        grown: 10_000_000,
        grown_timers: 1_000_000,
        tickets: 10_000,
    };

    /// A hundredth of it, once.
    pub(crate) const QUICK: Self = Self {
        rounds: 1,
        warm_up: Duration::from_secs(10),
        try_for: Duration::from_secs(3),
        watch_for: Duration::from_secs(3),
        yardstick_for: Duration::from_secs(2),
        backlog: 5_000,
        due: 5_000,
        calls: 50,
        stopped_for: Duration::from_secs(3),
        grown: 100_000,
        grown_timers: 10_000,
        tickets: 100,
    };
}
