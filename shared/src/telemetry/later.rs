//! A link to work that hasn't begun yet: a command's to the transaction that will do it.

use std::sync::{Arc, OnceLock};

use opentelemetry::trace::SpanContext;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{Span, TraceContext, span};

/// Told by whoever does the work, read by whoever asked for it. Nothing where nobody would see the link.
#[derive(Clone, Debug, Default)]
pub(crate) struct Later(Option<Arc<OnceLock<TraceContext>>>);

impl Later {
    /// For work that a span of this context asks for.
    pub(crate) fn of(asking: &TraceContext) -> Self {
        Self((asking.sampled() && span::exported()).then(Arc::default))
    }

    /// The work is this span.
    pub(crate) fn tell(&self, work: &Span) {
        if let Some(told) = self.0.as_ref().filter(|_| work.is_recorded()) {
            // The first of several is as good as any.
            let _ = told.set(work.context().clone());
        }
    }

    /// Links a span to the work, if that was told.
    pub(crate) fn link(&self, asking: &Span) {
        if let Some(work) = self.0.as_ref().and_then(|told| told.get()) {
            asking.link(work);
        }
    }

    /// Links the span that this thread is working in to the work, if that was told.
    pub(crate) fn link_current(&self) {
        if let Some(work) = self.0.as_ref().and_then(|told| told.get()) {
            tracing::Span::current().add_link(SpanContext::from(work));
        }
    }
}
