//! What the runner of jobs tells of itself.

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

use crate::ops::Metrics;

pub(crate) struct JobMetrics {
    under_way: Gauge,
    unrecorded: Counter,
}

impl JobMetrics {
    /// Registers every metric.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            under_way: metrics.gauge("jobs_under_way", "Calls of other systems that have begun"),
            unrecorded: metrics.counter(
                "jobs_unrecorded",
                "Jobs whose outcome could not be recorded: done again, unless it was refused, which is a bug",
            ),
        }
    }

    /// A job is under way until this is dropped.
    pub(super) fn under_way(&self) -> UnderWay<'_> {
        self.under_way.inc();
        UnderWay(&self.under_way)
    }

    pub(super) fn unrecorded(&self) {
        self.unrecorded.inc();
    }
}

pub(super) struct UnderWay<'a>(&'a Gauge);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
