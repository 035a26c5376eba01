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

use super::{Failure, Milestone, Milestones, Refusal, Service};
use crate::ops::Metrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByLane {
    lane: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

/// Counters, gauges and histograms of the write path, by lane; and of what a service's aggregates reach by it.
pub struct CommandMetrics {
    queued: Family<ByLane, Gauge>,
    batch: Family<ByLane, Histogram>,
    events: Family<ByLane, Counter>,
    transaction: Family<ByLane, Histogram>,
    commit: Family<ByLane, Histogram>,
    halved: Family<ByLane, Counter>,
    faults: Family<ByLane, Counter>,
    refusals: Family<ByReason, Counter>,
    /// Those by which it is counted, looked up once.
    refused: Vec<(&'static str, Counter)>,
    milestones: Vec<(&'static str, Histogram)>,
}

/// From a tenth of a millisecond to 13 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 18))
}

fn units() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 12))
}

/// Of what takes as long as people do: from 10 ms to half an hour.
fn lives() -> Histogram {
    Histogram::new([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0])
}

impl CommandMetrics {
    /// Registers every family, for this service's refusals and milestones.
    pub fn of<S: Service>(metrics: &Metrics) -> Self {
        let by_lane = Family::<ByLane, Counter>::default;
        let refusals = metrics.register(
            "write_refusals",
            "Commands that were not done, by reason",
            Family::<ByReason, _>::default(),
        );
        let reasons = S::Refusal::REASONS.iter().chain(Failure::<S::Refusal>::REASONS);
        let refused = reasons.map(|reason| (*reason, refusals.get_or_create_owned(&ByReason { reason }))).collect();
        Self {
            queued: metrics.register("write_queue_commands", "Commands waiting to be written", Family::default()),
            batch: metrics.register(
                "write_batch_units",
                "Commands or messages per transaction",
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
            halved: metrics.register("write_halvings", "Batches halved to find what did not go through", by_lane()),
            faults: metrics.register("write_faults", "Transactions that infrastructure made fail", by_lane()),
            refusals,
            refused,
            milestones: S::MILESTONES.map(|these| milestones(these, metrics)).unwrap_or_default(),
        }
    }

    /// A lane's series, which appear by this, before anything has happened.
    pub(super) fn lane(&self, lane: &'static str) -> LaneMetrics {
        let by = ByLane { lane };
        LaneMetrics {
            queued: self.queued.get_or_create_owned(&by),
            batch: self.batch.get_or_create_owned(&by),
            events: self.events.get_or_create_owned(&by),
            transaction: self.transaction.get_or_create_owned(&by),
            commit: self.commit.get_or_create_owned(&by),
            halved: self.halved.get_or_create_owned(&by),
            faults: self.faults.get_or_create_owned(&by),
        }
    }

    pub(super) fn refused<R: Refusal>(&self, failure: &Failure<R>) {
        let reason = failure.reason();
        match self.refused.iter().find(|(known, _)| *known == reason) {
            Some((_, counter)) => counter.inc(),
            // Counted all the same.
            None => {
                debug_assert!(false, "{reason} is not among the REASONS of its service");
                self.refusals.get_or_create(&ByReason { reason }).inc()
            }
        };
    }

    /// What was reached, once it is committed.
    pub(super) fn reached(&self, milestones: &[Milestone]) {
        for Milestone { outcome, after } in milestones {
            if let Some((_, histogram)) = self.milestones.iter().find(|(known, _)| known == outcome) {
                histogram.observe(after.as_secs_f64());
            }
        }
    }
}

fn milestones(these: Milestones, metrics: &Metrics) -> Vec<(&'static str, Histogram)> {
    let family = Family::<ByOutcome, Histogram>::new_with_constructor(lives as fn() -> Histogram);
    let family = metrics.register(these.metric, these.help, family);
    these.outcomes.iter().map(|outcome| (*outcome, family.get_or_create_owned(&ByOutcome { outcome }))).collect()
}

/// The series of one lane.
pub(super) struct LaneMetrics {
    queued: Gauge,
    batch: Histogram,
    events: Counter,
    transaction: Histogram,
    commit: Histogram,
    halved: Counter,
    faults: Counter,
}

impl LaneMetrics {
    pub(super) fn queued(&self, commands: usize) {
        self.queued.set(i64::try_from(commands).unwrap_or(i64::MAX));
    }

    pub(super) fn halved(&self) {
        self.halved.inc();
    }

    pub(super) fn faulted(&self) {
        self.faults.inc();
    }

    #[allow(clippy::cast_precision_loss, reason = "a batch has a few thousand units at most")]
    pub(super) fn committed(&self, units: usize, events: usize, all: Duration, commit: Duration) {
        self.batch.observe(units as f64);
        self.events.inc_by(events as u64);
        self.transaction.observe(all.as_secs_f64());
        self.commit.observe(commit.as_secs_f64());
    }
}
