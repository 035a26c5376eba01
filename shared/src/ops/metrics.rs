//! The metrics of a process, in one place.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::{
    collector::Collector,
    encoding::text,
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry},
};

/// Every metric of a process. Cheap to clone: all clones are one.
///
/// Each part registers its own when it is made, whole families with all labels that are known by then, so that what
/// never happened reads 0 rather than nothing.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a metric or a family. The name is in snake case with its unit and without `_total`, which counters are
    /// given; the help has no full stop.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.registry().register(name, help, metric.clone());
        metric
    }

    /// Adds a counter: it only grows.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        self.register(name, help, Counter::default())
    }

    /// Adds a gauge: it goes up and down.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(name, help, Gauge::default())
    }

    /// Adds a histogram with these upper bounds.
    pub fn histogram(&self, name: &str, help: &str, buckets: impl IntoIterator<Item = f64>) -> Histogram {
        self.register(name, help, Histogram::new(buckets))
    }

    /// Adds what is looked up when metrics are shown: it must be cheap, and wait for nothing.
    pub fn collector(&self, collector: impl Collector) {
        self.registry().register_collector(Box::new(collector));
    }

    /// All of them in OpenMetrics' text format, as they are now.
    pub fn encode(&self) -> String {
        let mut page = String::new();
        // Writing to a string fails only if a metric's own encoding does: then what came before it is shown.
        if let Err(error) = text::encode(&mut page, &self.registry()) {
            tracing::error!(%error, "a metric can't be encoded");
        }
        page
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // A registry that a panic left behind is whole: registering is one push.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

/// Upper bounds for times, in seconds: 0.5 ms to 30 s, closer where services live.
pub fn seconds() -> impl Iterator<Item = f64> {
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0].into_iter()
}
