//! What a relay tells of itself.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::metrics::{
    counter::Counter,
    gauge::Gauge,
    histogram::{Histogram, exponential_buckets},
};

use crate::{
    clock::{self, Timestamp},
    ops::Metrics,
};

/// Counters, gauges and histograms of the outbox.
pub struct OutboxMetrics {
    published: Counter,
    batch: Histogram,
    age: Histogram,
    holder: Gauge,
    failures: Counter,
    waiting: Gauge,
    waiting_since: Gauge<f64, AtomicU64>,
}

impl OutboxMetrics {
    /// Registers every metric.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            published: metrics.counter("outbox_published", "Events that the broker acknowledged"),
            batch: metrics.histogram("outbox_batch_events", "Events a read", exponential_buckets(1.0, 2.0, 14)),
            age: metrics.histogram(
                "outbox_age_seconds",
                "From an event's transaction to the broker's answer",
                exponential_buckets(0.0005, 2.0, 20),
            ),
            holder: metrics.gauge("outbox_lease_held", "1 if this process publishes"),
            failures: metrics.counter("outbox_failures", "Times that the relay had to begin anew"),
            waiting: metrics.gauge("outbox_lag_events", "Events that wait to be published; counted up to 100,000"),
            waiting_since: metrics.register(
                "outbox_lag_seconds",
                "For how long the oldest event has waited to be published",
                Gauge::default(),
            ),
        }
    }

    pub(super) fn leading(&self, leading: bool) {
        self.holder.set(i64::from(leading));
    }

    pub(super) fn waiting(&self, events: i64, seconds: f64) {
        self.waiting.set(events);
        self.waiting_since.set(seconds.max(0.0));
    }

    pub(super) fn failed(&self) {
        self.failures.inc();
    }

    #[allow(clippy::cast_precision_loss, reason = "a batch has a few thousand events at most")]
    pub(super) fn published(&self, events: usize, oldest: Option<Timestamp>) {
        self.published.inc_by(events as u64);
        self.batch.observe(events as f64);
        if let Some(oldest) = oldest {
            self.age.observe((clock::now() - oldest).to_std().unwrap_or(Duration::ZERO).as_secs_f64());
        }
    }
}
