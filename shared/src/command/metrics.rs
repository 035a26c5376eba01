//! What the write path tells of itself.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
};

use crate::ops::Metrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByLane {
    lane: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

/// Counters, gauges and histograms of the write path, by lane.
pub struct CommandMetrics {
    queued: Family<ByLane, Gauge>,
    batch: Family<ByLane, Histogram>,
    events: Family<ByLane, Counter>,
    transaction: Family<ByLane, Histogram>,
    commit: Family<ByLane, Histogram>,
    refused: Family<ByReason, Counter>,
    halved: Family<ByLane, Counter>,
    faults: Family<ByLane, Counter>,
}

/// From a tenth of a millisecond to 13 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 18))
}

fn units() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 12))
}

impl CommandMetrics {
    /// Registers every family.
    pub fn new(metrics: &Metrics) -> Self {
        let by_lane = Family::<ByLane, Counter>::default;
        Self {
            queued: metrics.register("write_queue_commands", "Commands waiting to be written", Family::default()),
            batch: metrics.register(
                "write_batch_units",
                "Commands or messages a transaction",
                Family::new_with_constructor(units as fn() -> Histogram),
            ),
            events: metrics.register("write_events", "Events appended to the outbox", by_lane()),
            transaction: metrics.register(
                "write_transaction_seconds",
                "From BEGIN to the answer to COMMIT",
                Family::new_with_constructor(seconds as fn() -> Histogram),
            ),
            commit: metrics.register(
                "write_commit_seconds",
                "From the decision to the answer to COMMIT",
                Family::new_with_constructor(seconds as fn() -> Histogram),
            ),
            refused: metrics.register("write_refusals", "Commands of callers refused, by reason", Family::default()),
            halved: metrics.register("write_halvings", "Batches halved to find what did not go through", by_lane()),
            faults: metrics.register("write_faults", "Transactions that infrastructure made fail", by_lane()),
        }
    }

    /// Makes a lane's series appear before anything has happened.
    pub(super) fn introduce(&self, lane: &'static str) {
        let by = ByLane { lane };
        drop(self.queued.get_or_create(&by));
        drop(self.batch.get_or_create(&by));
        drop(self.events.get_or_create(&by));
        drop(self.transaction.get_or_create(&by));
        drop(self.commit.get_or_create(&by));
        drop(self.halved.get_or_create(&by));
        drop(self.faults.get_or_create(&by));
    }

    pub(super) fn queued(&self, lane: &'static str, commands: usize) {
        self.queued.get_or_create(&ByLane { lane }).set(i64::try_from(commands).unwrap_or(i64::MAX));
    }

    pub(super) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ByReason { reason }).inc();
    }

    pub(super) fn halved(&self, lane: &'static str) {
        self.halved.get_or_create(&ByLane { lane }).inc();
    }

    pub(super) fn faulted(&self, lane: &'static str) {
        self.faults.get_or_create(&ByLane { lane }).inc();
    }

    #[allow(clippy::cast_precision_loss, reason = "a batch has a few thousand units at most")]
    pub(super) fn committed(&self, lane: &'static str, units: usize, events: usize, all: Duration, commit: Duration) {
        let by = ByLane { lane };
        self.batch.get_or_create(&by).observe(units as f64);
        self.events.get_or_create(&by).inc_by(events as u64);
        self.transaction.get_or_create(&by).observe(all.as_secs_f64());
        self.commit.get_or_create(&by).observe(commit.as_secs_f64());
    }
}
