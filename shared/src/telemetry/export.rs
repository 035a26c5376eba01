//! The way of spans out of this process, by which nobody waits: through a bounded queue, in batches, from a thread of its
//! own. What doesn't fit, or doesn't arrive, is lost, counted, and told now and then while it lasts.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use opentelemetry::Context;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};

use super::Spell;
use crate::ops::Metrics;

/// What became of this process's spans. One for all of it, as there is one exporter: the metrics are another part's, made
/// when spans are exported already.
static FATE: LazyLock<Fate> = LazyLock::new(Fate::default);

/// Adds what became of spans to a process's metrics.
pub(crate) fn register(metrics: &Metrics) {
    metrics.register("trace_spans_exported", "Spans that a collector took", FATE.exported.clone());
    metrics.register(
        "trace_spans_lost",
        "Spans that never reached a collector, for the queue was full or it didn't take them",
        FATE.lost.clone(),
    );
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Debug)]
struct Fate {
    exported: Counter,
    lost: Family<Reason, Counter>,
    queue_full: Counter,
    not_taken: Counter,
    /// Lost since it was last looked.
    fresh: AtomicU64,
    /// Lost, and not told of yet.
    untold: AtomicU64,
    losing: Spell,
}

impl Default for Fate {
    fn default() -> Self {
        let lost: Family<Reason, Counter> = Family::default();
        let of = |reason| lost.get_or_create_owned(&Reason { reason });
        let (queue_full, not_taken) = (of("queue_full"), of("not_taken"));
        Self {
            exported: Counter::default(),
            lost,
            queue_full,
            not_taken,
            fresh: AtomicU64::new(0),
            untold: AtomicU64::new(0),
            losing: Spell::default(),
        }
    }
}

impl Fate {
    fn lost(&self, why: &Counter, spans: usize) {
        let spans = u64::try_from(spans).unwrap_or(u64::MAX);
        why.inc_by(spans);
        self.fresh.fetch_add(spans, Relaxed);
    }

    /// Says so if spans are lost, and when that is over.
    fn tell(&self, result: &OTelSdkResult) {
        let (now, fresh) = (Instant::now(), self.fresh.swap(0, Relaxed));
        self.untold.fetch_add(fresh, Relaxed);
        if fresh > 0 && self.losing.happens(now).is_some() {
            let (spans, error) = (self.untold.swap(0, Relaxed), result.as_ref().err());
            let error = error.map_or_else(|| "they come faster than they are taken".to_owned(), ToString::to_string);
            tracing::warn!(spans, error, "spans are lost: the work itself goes on");
        }
        if let Some(over) = self.losing.over(now) {
            let left_out = self.untold.swap(0, Relaxed);
            tracing::info!(left_out, lasted = ?over.lasted, "no spans have been lost for a while");
        }
    }
}

/// The queue and the batches, in front of an exporter.
#[derive(Debug)]
pub(super) struct Outlet {
    batches: BatchSpanProcessor,
    /// Spans that are queued or being sent.
    waiting: Arc<AtomicUsize>,
    queue: usize,
}

impl Outlet {
    /// `queue` is how many spans may wait; how they are batched, the SDK's own variables say.
    pub(super) fn new(exporter: impl SpanExporter + 'static, queue: usize) -> Self {
        let waiting = Arc::new(AtomicUsize::new(0));
        let exporter = Watched { exporter, waiting: Arc::clone(&waiting) };
        // The SDK's queue is as long, and so never full: it would only log that it was.
        let config = BatchConfigBuilder::default().with_max_queue_size(queue).build();
        Self { batches: BatchSpanProcessor::new(exporter, config), waiting, queue }
    }
}

impl SpanProcessor for Outlet {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    // Nothing is logged here: this may be in the middle of anything.
    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Relaxed) < self.queue {
            self.batches.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Relaxed);
            FATE.lost(&FATE.queue_full, 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        let ended = self.batches.shutdown_with_timeout(timeout);
        let left = self.waiting.load(Relaxed);
        if left > 0 {
            tracing::warn!(spans = left, "the last spans were not exported");
        }
        ended
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// An exporter, and what becomes of what it is given.
#[derive(Debug)]
struct Watched<E> {
    exporter: E,
    waiting: Arc<AtomicUsize>,
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.exporter.export(batch).await;
        self.waiting.fetch_sub(spans, Relaxed);
        match result {
            Ok(()) => {
                FATE.exported.inc_by(u64::try_from(spans).unwrap_or(u64::MAX));
            }
            Err(_) => FATE.lost(&FATE.not_taken, spans),
        }
        FATE.tell(&result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
