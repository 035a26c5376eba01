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
/// `messaging.system`, by the conventions.
const KAFKA: &str = "kafka";
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

/// What one span is to the library: its kind and name, and attributes that are known from the start. All at once, for each that is
/// set later is looked up anew.
macro_rules! span {
    ($kind:literal, $name:expr $(, $($attributes:tt)*)?) => {
        tracing::info_span!(
            target: TARGET, parent: None, "span", otel.kind = $kind, otel.name = %$name $(, $($attributes)*)?
        )
    };
}

/// One that is about messages of a topic.
macro_rules! messaging_span {
    ($kind:literal, $operation:literal, $topic:expr, $($attributes:tt)*) => {
        span!(
            $kind,
            format_args!("{} {}", $operation, $topic),
            messaging.system = KAFKA,
            messaging.destination.name = $topic,
            messaging.operation.type = $operation,
            messaging.operation.name = $operation,
            $($attributes)*
        )
    };
}

impl Span {
    /// A call that this server answers, by its path `/package.Service/Method`. Without a caller's context a new trace
    /// begins.
    pub fn server(parent: Option<&TraceContext>, path: &str) -> Self {
        Self::start(parent, None, || {
            let full = path.trim_start_matches('/');
            let (service, method) = full.split_once('/').unwrap_or((full, ""));
            span!("server", full, rpc.system = "grpc", rpc.service = service, rpc.method = method)
        })
    }

    /// An event comes to be: the span that the event names as its parent to whoever processes it.
    pub fn create(parent: &TraceContext, topic: &str, event_type: &str, key: &str) -> Self {
        Self::start(Some(parent), None, || {
            messaging_span!(
                "producer",
                "create",
                topic,
                messaging.kafka.message.key = key,
                cloudevents.event_type = event_type,
            )
        })
    }

    /// A batch of events goes to the broker; the links are the events' own contexts.
    pub fn send(topic: &str, batch_size: usize, links: &[TraceContext]) -> Self {
        Self::start(None, Some(links), || {
            messaging_span!("client", "send", topic, messaging.batch.message_count = count(batch_size),)
        })
    }

    /// A consumer takes one event, whose context is the parent.
    pub fn process(parent: &TraceContext, record: Record<'_>) -> Self {
        let Record { topic, group, partition, offset, key } = record;
        Self::start(Some(parent), None, || {
            messaging_span!(
                "consumer",
                "process",
                topic,
                messaging.consumer.group.name = group,
                messaging.destination.partition.id = %partition,
                messaging.kafka.offset = offset,
                messaging.kafka.message.key = key,
            )
        })
    }

    /// A transaction does a batch of commands, whose contexts the links are; `reads` is the group and the topic that
    /// they came from, if that is Kafka. It belongs to all of them, so it is a trace of its own.
    pub fn transaction(lane: &str, batch_size: usize, reads: Option<(&str, &str)>, links: &[TraceContext]) -> Self {
        Self::start(None, Some(links), || {
            span!(
                "internal",
                format_args!("transaction {lane}"),
                db.system.name = "postgresql",
                ticketing.lane = lane,
                // By the conventions, one alone is no batch of operations; a batch of messages may have one.
                db.operation.batch.size = (batch_size > 1).then(|| count(batch_size)),
                messaging.system = reads.map(|_| KAFKA),
                messaging.consumer.group.name = reads.map(|(group, _)| group),
                messaging.destination.name = reads.map(|(_, topic)| topic),
                messaging.batch.message_count = reads.map(|_| count(batch_size)),
            )
        })
    }

    /// A job is done: another system is asked, and what came of it recorded.
    pub fn job(parent: &TraceContext) -> Self {
        Self::start(Some(parent), None, || span!("internal", "job"))
    }

    /// Time itself causes something. Of no parent, a new trace begins.
    pub fn timer(parent: Option<&TraceContext>, name: &str) -> Self {
        Self::start(parent, None, || span!("internal", format_args!("timer {name}")))
    }

    /// A call to another system over HTTP or the like.
    pub fn client(parent: &TraceContext, name: &str) -> Self {
        Self::start(Some(parent), None, || span!("client", name))
    }

    /// The work that this thread is at, whose context this is: to go on with it elsewhere.
    pub fn current(context: &TraceContext) -> Self {
        Self { context: context.clone(), tracing: tracing::Span::current() }
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

    /// Work with this parent, or for all of these at once, which is recorded if any of them is.
    fn start(
        parent: Option<&TraceContext>,
        links: Option<&[TraceContext]>,
        make: impl FnOnce() -> tracing::Span,
    ) -> Self {
        let context = parent.map_or_else(TraceContext::root, TraceContext::child);
        let Some(sampler) = EXPORT.get() else { return Self::unrecorded(context) };
        if !sampling::keeps(sampler, parent, links, context.trace_id()) {
            return Self::unrecorded(context.unsampled());
        }

        let mut span = Self { context, tracing: make() };
        match parent {
            Some(parent) => {
                // The span is new, so nothing has started it yet: the one way in which this fails otherwise.
                let _ = span.tracing.set_parent(Context::new().with_remote_span_context(parent.into()));
            }
            None => sampling::begins(span.context.trace_id()),
        }

        let started = span.tracing.context();
        let started = started.span();
        match trace_context(started.span_context()) {
            Some(context) if context.sampled() => {
                for link in links.into_iter().flatten().filter(|link| link.sampled()).take(MAX_LINKS) {
                    started.add_link(link.into(), Vec::new());
                }
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
}

/// A number as attributes have it.
fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
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
