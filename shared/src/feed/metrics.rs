//! What a feed tells of itself.

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

use crate::ops::Metrics;

pub(crate) struct FeedMetrics {
    watches: Gauge,
    passed: Counter,
    gaps: Counter,
}

impl FeedMetrics {
    /// Registers every metric.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            watches: metrics.gauge("feed_watches", "Watches that are open"),
            passed: metrics.counter("feed_passed", "States that were passed on to watches"),
            gaps: metrics.counter("feed_gaps", "Times that states may have been missed, so that watches read again"),
        }
    }

    pub(super) fn watching(&self, watches: usize) {
        self.watches.set(i64::try_from(watches).unwrap_or(i64::MAX));
    }

    pub(super) fn passed(&self) {
        self.passed.inc();
    }

    pub(super) fn gap(&self) {
        self.gaps.inc();
    }
}
