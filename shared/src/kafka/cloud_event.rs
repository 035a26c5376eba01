//! The headers of an event: CloudEvents' binding for Kafka in binary mode, and the W3C trace context.
//!
//! Format: <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md>

use rdkafka::message::{BorrowedHeaders, Header, Headers, OwnedHeaders};

use crate::telemetry::TraceContext;

const CONTENT_TYPE: &str = "application/protobuf";

/// What the headers of an event say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudEvent<'a> {
    /// Unique, and the same however often the event is delivered.
    pub id: &'a str,
    /// The kind of event: `order.created`.
    pub kind: &'a str,
    /// Who says so: `/ticketing/orders`.
    pub source: &'a str,
    /// What it is about: the key.
    pub subject: &'a str,
    /// When it happened, in RFC 3339.
    pub time: &'a str,
    /// Its number in the outbox it came from.
    pub sequence: &'a str,
    /// The span that made it.
    pub traceparent: &'a str,
    /// What vendors carry along with the trace.
    pub tracestate: Option<&'a str>,
}

impl CloudEvent<'_> {
    /// As Kafka's headers.
    pub(crate) fn headers(&self) -> OwnedHeaders {
        let mut headers = OwnedHeaders::new_with_capacity(10);
        for (key, value) in [
            ("ce_specversion", "1.0"),
            ("ce_id", self.id),
            ("ce_type", self.kind),
            ("ce_source", self.source),
            ("ce_subject", self.subject),
            ("ce_time", self.time),
            ("ce_sequence", self.sequence),
            ("content-type", CONTENT_TYPE),
            ("traceparent", self.traceparent),
        ] {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        match self.tracestate {
            Some(value) => headers.insert(Header { key: "tracestate", value: Some(value) }),
            None => headers,
        }
    }
}

/// The trace that a message came with; a new one if it came without.
pub(crate) fn trace_of(headers: Option<&BorrowedHeaders>) -> TraceContext {
    let (mut parent, mut state) = (None, None);
    for header in headers.into_iter().flat_map(Headers::iter) {
        let place = match header.key {
            "traceparent" => &mut parent,
            "tracestate" => &mut state,
            _ => continue,
        };
        *place = place.or_else(|| header.value.and_then(|value| std::str::from_utf8(value).ok()));
    }
    parent.and_then(|parent| TraceContext::parse(parent, state)).unwrap_or_else(TraceContext::root)
}
