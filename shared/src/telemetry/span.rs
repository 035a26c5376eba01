//! Spans: one constructor for each kind of work that the engine does.
//!
//! A span that nobody records is a random number or two and nothing more, so the constructors may stand on every path.
//! Names and attributes follow OpenTelemetry's semantic conventions for RPC and messaging.

use std::{fmt, future::Future, sync::OnceLock};

use opentelemetry::{
    Context, Value,
    trace::{SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{
    InSpan, TraceContext,
    current::{self, Ids},
    sampling,
};
use crate::config::SamplerConfig;

/// The target of every span here, by which the exporting layer knows them.
pub(super) const TARGET: &str = "shared::span";
/// Links kept on one span: what the SDK keeps by default.
const MAX_LINKS: usize = 128;

/// Set once spans are exported, with the sampler's ways.
static EXPORT: OnceLock<SamplerConfig> = OnceLock::new();

/// From now on spans are exported.
pub(super) fn export(sampler: SamplerConfig) {
    // A second exporter would need a second global subscriber, which was refused before.
    let _ = EXPORT.set(sampler);
}

/// Whether any span may be.
pub(super) fn exported() -> bool {
    EXPORT.get().is_some()
}

/// A piece of work in a trace, from now until its last clone is dropped.
#[derive(Clone)]
pub struct Span {
    context: TraceContext,
    tracing: tracing::Span,
}

/// A record of a topic, as `process` spans name it.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The group that reads it.
    pub group: &'a str,
    /// The partition's number.
    pub partition: i32,
    /// The record's place in it.
    pub offset: i64,
    /// Its key.
    pub key: &'a str,
}

impl Span {
    /// A call that this server answers, by its path `/package.Service/Method`. Without a caller's context a new trace
    /// begins.
    pub fn server(parent: Option<&TraceContext>, path: &str) -> Self {
        let full = path.trim_start_matches('/');
        Self::start(
            "server",
            parent,
            || full.to_owned(),
            None,
            |span| {
                let (service, method) = full.split_once('/').unwrap_or((full, ""));
                span.attribute("rpc.system", "grpc");
                span.attribute("rpc.service", service.to_owned());
                span.attribute("rpc.method", method.to_owned());
            },
        )
    }

    /// An event comes to be: the span that the event names as its parent to whoever processes it.
    pub fn create(parent: &TraceContext, topic: &str, event_type: &str, key: &str) -> Self {
        Self::start(
            "producer",
            Some(parent),
            || format!("create {topic}"),
            None,
            |span| {
                span.messaging(topic, "create");
                span.attribute("messaging.kafka.message.key", key.to_owned());
                span.attribute("cloudevents.event_type", event_type.to_owned());
            },
        )
    }

    /// A batch of events goes to the broker; the links are the events' own contexts.
    pub fn send(topic: &str, batch_size: usize, links: &[TraceContext]) -> Self {
        Self::batch(
            "client",
            || format!("send {topic}"),
            links,
            |span| {
                span.messaging(topic, "send");
                span.count("messaging.batch.message_count", batch_size);
            },
        )
    }

    /// A consumer takes one event, whose context is the parent.
    pub fn process(parent: &TraceContext, record: Record<'_>) -> Self {
        Self::start(
            "consumer",
            Some(parent),
            || format!("process {}", record.topic),
            None,
            |span| {
                span.messaging(record.topic, "process");
                span.attribute("messaging.consumer.group.name", record.group.to_owned());
                span.attribute("messaging.destination.partition.id", record.partition.to_string());
                span.attribute("messaging.kafka.offset", record.offset);
                span.attribute("messaging.kafka.message.key", record.key.to_owned());
            },
        )
    }

    /// A transaction does a batch of commands, whose contexts the links are; `reads` is the group and the topic that
    /// they came from, if that is Kafka. It belongs to all of them, so it is a trace of its own.
    pub fn transaction(lane: &str, batch_size: usize, reads: Option<(&str, &str)>, links: &[TraceContext]) -> Self {
        Self::batch(
            "internal",
            || format!("transaction {lane}"),
            links,
            |span| {
                span.attribute("db.system.name", "postgresql");
                span.attribute("ticketing.lane", lane.to_owned());
                // By the conventions, one alone is no batch of operations; a batch of messages may have one.
                if batch_size > 1 {
                    span.count("db.operation.batch.size", batch_size);
                }
                if let Some((group, topic)) = reads {
                    span.attribute("messaging.system", "kafka");
                    span.attribute("messaging.destination.name", topic.to_owned());
                    span.attribute("messaging.consumer.group.name", group.to_owned());
                    span.count("messaging.batch.message_count", batch_size);
                }
            },
        )
    }

    /// A job is done: another system is asked, and what came of it recorded.
    pub fn job(parent: &TraceContext) -> Self {
        Self::start("internal", Some(parent), || "job".to_owned(), None, |_| {})
    }

    /// Time itself causes something. Of no parent, a new trace begins.
    pub fn timer(parent: Option<&TraceContext>, name: &str) -> Self {
        Self::start("internal", parent, || format!("timer {name}"), None, |_| {})
    }

    /// A call to another system over HTTP or the like.
    pub fn client(parent: &TraceContext, name: &str) -> Self {
        Self::start("client", Some(parent), || name.to_owned(), None, |_| {})
    }

    /// Where this work stands: what it causes names this as its parent.
    pub fn context(&self) -> &TraceContext {
        &self.context
    }

    /// Whether anybody will see this span.
    pub fn is_recorded(&self) -> bool {
        !self.tracing.is_none()
    }

    /// The work failed, for a reason out of few (it names groups, not cases).
    pub fn error(&self, reason: &'static str) {
        if self.is_recorded() {
            self.tracing.set_attribute("error.type", reason);
            self.tracing.set_status(Status::error(reason));
        }
    }

    /// Says more about the work.
    pub fn attribute(&self, key: &'static str, value: impl Into<Value>) {
        if self.is_recorded() {
            self.tracing.set_attribute(key, value);
        }
    }

    /// Something else that this work is about, besides its parent. One that nobody records is left out.
    pub fn link(&self, other: &TraceContext) {
        if self.is_recorded() && other.sampled() {
            self.tracing.add_link(other.into());
        }
    }

    /// Does something in this span: its log lines name it.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        let _entered = current::enter(self.ids(), &self.tracing);
        work()
    }

    /// A future whose every step is done in this span.
    pub fn run<F: Future>(&self, future: F) -> InSpan<F> {
        InSpan::new(self.clone(), future)
    }

    fn ids(&self) -> Ids {
        (self.context.trace_id(), self.context.span_id())
    }

    /// Work for many at once: recorded if any of them is.
    fn batch(
        kind: &'static str,
        name: impl FnOnce() -> String,
        links: &[TraceContext],
        describe: impl FnOnce(&Self),
    ) -> Self {
        Self::start(kind, None, name, Some(links), describe)
    }

    fn start(
        kind: &'static str,
        parent: Option<&TraceContext>,
        name: impl FnOnce() -> String,
        links: Option<&[TraceContext]>,
        describe: impl FnOnce(&Self),
    ) -> Self {
        let context = parent.map_or_else(TraceContext::root, TraceContext::child);
        let Some(sampler) = EXPORT.get() else { return Self::unrecorded(context) };
        if !sampling::keeps(sampler, parent, links, context.trace_id()) {
            return Self::unrecorded(context.unsampled());
        }

        let name = name();
        let tracing =
            tracing::info_span!(target: TARGET, parent: None, "span", otel.name = name.as_str(), otel.kind = kind);
        match parent {
            Some(parent) => {
                // The span is new, so nothing has started it yet: the one way in which this fails otherwise.
                let _ = tracing.set_parent(Context::new().with_remote_span_context(parent.into()));
            }
            None => sampling::begins(context.trace_id()),
        }
        let mut span = Self { context, tracing };
        describe(&span);
        for link in links.into_iter().flatten().filter(|link| link.sampled()).take(MAX_LINKS) {
            span.link(link);
        }

        let started = span.tracing.context();
        match trace_context(started.span().span_context()) {
            Some(context) if context.sampled() => {
                span.context = context;
                span
            }
            // Exporting has ended.
            _ => Self::unrecorded(span.context),
        }
    }

    fn unrecorded(context: TraceContext) -> Self {
        Self { context, tracing: tracing::Span::none() }
    }

    fn messaging(&self, topic: &str, operation: &'static str) {
        self.attribute("messaging.system", "kafka");
        self.attribute("messaging.destination.name", topic.to_owned());
        self.attribute("messaging.operation.type", operation);
        self.attribute("messaging.operation.name", operation);
    }

    fn count(&self, key: &'static str, count: usize) {
        self.attribute(key, i64::try_from(count).unwrap_or(i64::MAX));
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.context.fmt(f)
    }
}

impl From<&TraceContext> for SpanContext {
    fn from(context: &TraceContext) -> Self {
        Self::new(
            TraceId::from_bytes(context.trace_id()),
            SpanId::from_bytes(context.span_id()),
            if context.sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() },
            true,
            // A state that the library can't read is dropped, as the specification has it.
            context.tracestate().and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default(),
        )
    }
}

fn trace_context(span: &SpanContext) -> Option<TraceContext> {
    let state = span.trace_state().header();
    TraceContext::new(span.trace_id().to_bytes(), span.span_id().to_bytes(), span.is_sampled(), Some(&state))
}
