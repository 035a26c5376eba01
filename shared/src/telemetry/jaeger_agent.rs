//! Spans to a Jaeger agent: Thrift over UDP, by the exporter of the crate `opentelemetry-jaeger`.
//!
//! That crate is unmaintained (RUSTSEC-2025-0123) and stays with the OpenTelemetry of its last release, whose types are
//! others than ours though they mean the same. So each span is told again in those. UDP says nothing of what arrives: a
//! span that is lost on the way, or an agent that isn't there, goes unnoticed.

use std::{
    borrow::Cow,
    sync::{Mutex, PoisonError},
};

use opentelemetry::{
    Array, InstrumentationScope, KeyValue, Value,
    trace::{Event, Link, SpanContext, SpanKind, Status},
};
use opentelemetry_jaeger as jaeger;
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{SpanData, SpanExporter},
};
use opentelemetry_then as then;
use opentelemetry_then_sdk as then_sdk;
use then_sdk::export::trace::SpanExporter as _;

/// Hands spans to the crate's exporter.
#[derive(Debug)]
pub(super) struct AgentExporter {
    #[allow(deprecated, reason = "it was asked for by name; the feature is off by default")]
    exporter: Mutex<jaeger::Exporter>,
}

/// Why no agent can be sent anything.
#[derive(Debug, thiserror::Error)]
#[error("the agent {agent} can't be used: {why}")]
pub struct AgentError {
    agent: String,
    why: then::trace::TraceError,
}

impl AgentExporter {
    /// For the agent at `host:port`. `resource` is what Jaeger calls the process.
    pub(super) fn new(service: &str, host: &str, port: u16, resource: &Resource) -> Result<Self, AgentError> {
        let agent = format!("{host}:{port}");
        let tags = resource.iter().map(|(key, value)| then::KeyValue::new(key.as_str().to_owned(), told(value)));
        #[allow(deprecated, reason = "as above")]
        let exporter = jaeger::new_agent_pipeline()
            .with_endpoint(&agent)
            .with_service_name(service)
            .with_trace_config(then_sdk::trace::config().with_resource(then_sdk::Resource::new(tags)))
            // A packet holds 65,000 bytes.
            .with_auto_split_batch(true)
            .build_sync_agent_exporter();
        let exporter = exporter.map_err(|why| AgentError { agent, why })?;
        Ok(Self { exporter: Mutex::new(exporter) })
    }
}

impl SpanExporter for AgentExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let batch = batch.into_iter().map(span).collect();
        // Locked for the conversion alone: what sends is a future of its own.
        let sent = self.exporter.lock().unwrap_or_else(PoisonError::into_inner).export(batch);
        sent.await.map_err(|error| OTelSdkError::InternalFailure(error.to_string()))
    }
}

fn span(span: SpanData) -> then_sdk::export::trace::SpanData {
    let mut events = then_sdk::trace::SpanEvents::default();
    events.dropped_count = span.events.dropped_count;
    events.events = span.events.events.into_iter().map(event).collect();
    let mut links = then_sdk::trace::SpanLinks::default();
    links.dropped_count = span.links.dropped_count;
    links.links = span.links.links.into_iter().map(link).collect();
    then_sdk::export::trace::SpanData {
        span_context: context(&span.span_context),
        parent_span_id: then::trace::SpanId::from_bytes(span.parent_span_id.to_bytes()),
        span_kind: kind(&span.span_kind),
        name: span.name,
        start_time: span.start_time,
        end_time: span.end_time,
        attributes: attributes(span.attributes),
        dropped_attributes_count: span.dropped_attributes_count,
        events,
        links,
        status: status(span.status),
        // The exporter has the process's own, once for all.
        resource: Cow::Owned(then_sdk::Resource::empty()),
        instrumentation_lib: library(&span.instrumentation_scope),
    }
}

fn context(context: &SpanContext) -> then::trace::SpanContext {
    then::trace::SpanContext::new(
        then::trace::TraceId::from_bytes(context.trace_id().to_bytes()),
        then::trace::SpanId::from_bytes(context.span_id().to_bytes()),
        then::trace::TraceFlags::new(context.trace_flags().to_u8()),
        context.is_remote(),
        // Jaeger has no place for one.
        then::trace::TraceState::NONE,
    )
}

fn kind(kind: &SpanKind) -> then::trace::SpanKind {
    match kind {
        SpanKind::Client => then::trace::SpanKind::Client,
        SpanKind::Server => then::trace::SpanKind::Server,
        SpanKind::Producer => then::trace::SpanKind::Producer,
        SpanKind::Consumer => then::trace::SpanKind::Consumer,
        SpanKind::Internal => then::trace::SpanKind::Internal,
    }
}

fn status(status: Status) -> then::trace::Status {
    match status {
        Status::Unset => then::trace::Status::Unset,
        Status::Ok => then::trace::Status::Ok,
        Status::Error { description } => then::trace::Status::Error { description },
    }
}

fn event(event: Event) -> then::trace::Event {
    then::trace::Event::new(event.name, event.timestamp, attributes(event.attributes), event.dropped_attributes_count)
}

fn link(link: Link) -> then::trace::Link {
    then::trace::Link::new(context(&link.span_context), attributes(link.attributes), link.dropped_attributes_count)
}

fn library(scope: &InstrumentationScope) -> then_sdk::InstrumentationLibrary {
    then_sdk::InstrumentationLibrary::builder(scope.name().to_owned()).build()
}

fn attributes(attributes: Vec<KeyValue>) -> Vec<then::KeyValue> {
    attributes
        .into_iter()
        .map(|KeyValue { key, value, .. }| then::KeyValue::new(String::from(key), told(&value)))
        .collect()
}

fn told(value: &Value) -> then::Value {
    match value {
        Value::Bool(value) => then::Value::Bool(*value),
        Value::I64(value) => then::Value::I64(*value),
        Value::F64(value) => then::Value::F64(*value),
        Value::String(value) => then::Value::String(value.as_str().to_owned().into()),
        Value::Array(Array::Bool(values)) => then::Value::Array(then::Array::Bool(values.clone())),
        Value::Array(Array::I64(values)) => then::Value::Array(then::Array::I64(values.clone())),
        Value::Array(Array::F64(values)) => then::Value::Array(then::Array::F64(values.clone())),
        Value::Array(Array::String(values)) => {
            let values = values.iter().map(|value| value.as_str().to_owned().into()).collect();
            then::Value::Array(then::Array::String(values))
        }
        // Kinds that are new since.
        other => then::Value::String(other.to_string().into()),
    }
}
