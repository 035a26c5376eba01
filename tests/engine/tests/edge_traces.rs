//! Where spans hang, as a collector sees them. One process has one exporter, so this is one story.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod edge_support;

use std::sync::{Arc, Mutex};

use edge_support::{Edge, Key, authorized, awaited, claims};
use engine_tests::counter::v1::{CreateCounterRequest, GetCounterRequest};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, any_value::Value},
    trace::v1::{Span as Exported, span::SpanKind, status::StatusCode},
};
use shared::{
    config::{ExportTo, LogFormat, SamplerConfig, TelemetryConfig},
    telemetry::{self, Record, Span, TraceContext},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// A collector that keeps what it is sent.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Exported>>>,
    services: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for batch in request.into_inner().resource_spans {
            let resource = batch.resource.unwrap_or_default();
            let name = resource.attributes.into_iter().find(|attribute| attribute.key == "service.name");
            self.services.lock().unwrap().push(text(name.unwrap().value));
            self.spans.lock().unwrap().extend(batch.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

/// The one exported span that a context names.
fn exported<'a>(spans: &'a [Exported], context: &TraceContext) -> &'a Exported {
    let mut named = spans.iter().filter(|span| span.span_id == context.span_id());
    let span = named.next().unwrap_or_else(|| unreachable!("{context:?} was not exported"));
    assert!(named.next().is_none(), "{context:?} was exported twice");
    assert_eq!(span.trace_id, context.trace_id());
    span
}

/// The context of a span that is over with this.
fn ended(span: Span) -> TraceContext {
    span.context().clone()
}

fn attribute(span: &Exported, key: &str) -> String {
    text(span.attributes.iter().find(|attribute| attribute.key == key).and_then(|found| found.value.clone()))
}

fn assert_attributes(span: &Exported, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        assert_eq!(attribute(span, key), *value, "{key} of {}", span.name);
    }
}

const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UBER: &str = "a3ce929d0e0e4736:f067aa0ba902b7:0:1";
const UNSAMPLED: &str = "00-5bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_goes_from_the_caller_through_the_service_to_whoever_its_events_reach() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let collector = Collector::default();
    let mut tasks = JoinSet::new();
    let service = TraceServiceServer::new(collector.clone());
    let incoming = TcpListenerStream::new(listener);
    tasks.spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    let config = TelemetryConfig {
        // Logging less must not export less.
        log_filter: "off".to_owned(),
        log_format: Some(LogFormat::Json),
        export: Some(ExportTo::Otlp(endpoint.parse().unwrap())),
        sampler: SamplerConfig::DEFAULT,
        span_queue: TelemetryConfig::SPAN_QUEUE,
    };
    let telemetry = telemetry::init("counters", &config).unwrap();

    let key = Key::ed25519("ed");
    let token = key.sign(&claims("alice"));
    let edge = Edge::start(&[&key]).await;
    let call = async |traceparent: Option<&'static str>, states: &[&'static str]| {
        let mut request = authorized(GetCounterRequest::default(), &token);
        if let Some(traceparent) = traceparent {
            request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
        }
        for state in states {
            request.metadata_mut().append("tracestate", state.parse().unwrap());
        }
        edge.client().await.get_counter(request).await.unwrap();
        edge.counters.calls.lock().unwrap().pop().unwrap().trace
    };

    // A caller's trace goes on, its state with it.
    let server = call(Some(SAMPLED), &["a=1", "b=2"]).await;
    assert_eq!(server.tracestate(), Some("a=1,b=2"));
    // A caller's trace that nobody records goes on too, unseen.
    let unseen = call(Some(UNSAMPLED), &[]).await;
    assert!(unseen.same_trace(&TraceContext::parse(UNSAMPLED, None).unwrap()) && !unseen.sampled());
    assert!(!Span::create(&unseen, "counters", "counter.created", "k").is_recorded());
    // No trace, or none that can be read: a new one.
    let root = call(None, &[]).await;
    let malformed = call(Some("00-nonsense"), &[]).await;
    // A caller who speaks of traces as Jaeger's clients do is understood, and the trace goes on as all others.
    let mut request = authorized(GetCounterRequest::default(), &token);
    request.metadata_mut().insert("uber-trace-id", UBER.parse().unwrap());
    edge.client().await.get_counter(request).await.unwrap();
    let uber = edge.counters.calls.lock().unwrap().pop().unwrap().trace;
    assert!(uber.traceparent().starts_with("00-0000000000000000a3ce929d0e0e4736-"), "{uber:?}");
    // A refusal is told as one.
    let refused = CreateCounterRequest { title: Some("sold out".to_owned()), limit: 1, request_id: None };
    edge.client().await.create_counter(authorized(refused, &token)).await.unwrap_err();
    let refused = edge.counters.calls.lock().unwrap().pop().unwrap().trace;
    // What fails by our fault is seen to.
    let failing = CreateCounterRequest { title: Some("panic".to_owned()), limit: 1, request_id: None };
    edge.client().await.create_counter(authorized(failing, &token)).await.unwrap_err();
    let failed = edge.counters.calls.lock().unwrap().pop().unwrap().trace;

    // From the call to an event, through its topic, to a consumer.
    let create = Span::create(&server, "counters", "counter.created", "key-1").context().clone();
    let send = Span::send("counters", 3, &[create.clone(), unseen.clone()]).context().clone();
    let record = Record { topic: "counters", group: "others-counters", partition: 4, offset: 42, key: "key-1" };
    let process = Span::process(&create, record);
    process.link(&root);
    process.run(async { assert_eq!(telemetry::current().unwrap().1, process.context().span_id()) }).await;
    let process = ended(process);
    let transaction = Span::transaction("grpc", 2, None, &[server.clone(), root.clone()]);
    transaction.error("SERIALIZATION_FAILURE");
    let transaction = ended(transaction);
    let timer = Span::timer(None, "sweep").context().clone();
    assert!(!Span::transaction("grpc", 1, None, &[unseen]).is_recorded(), "work for nobody who looks");

    edge.stop().await;
    awaited("the last spans to leave", telemetry.shutdown()).await;
    let spans = collector.spans.lock().unwrap().clone();
    assert!(collector.services.lock().unwrap().iter().all(|name| name == "counters"));

    let span = exported(&spans, &server);
    assert_eq!(span.parent_span_id, TraceContext::parse(SAMPLED, None).unwrap().span_id());
    assert_eq!((span.name.as_str(), span.kind()), ("counter.v1.CounterService/GetCounter", SpanKind::Server));
    assert_attributes(
        span,
        &[
            ("rpc.system", "grpc"),
            ("rpc.service", "counter.v1.CounterService"),
            ("rpc.method", "GetCounter"),
            ("rpc.grpc.status_code", "0"),
        ],
    );
    for root in [&root, &malformed] {
        assert!(exported(&spans, root).parent_span_id.is_empty());
    }
    let span = exported(&spans, &uber);
    assert_eq!(span.parent_span_id, TraceContext::parse_uber(UBER).unwrap().span_id());
    let span = exported(&spans, &refused);
    assert_eq!(
        span.status.clone().unwrap_or_default().code(),
        StatusCode::Unset,
        "by the conventions, no error of the server's"
    );
    assert_attributes(span, &[("ticketing.reason", "SOLD_OUT"), ("rpc.grpc.status_code", "9")]);
    assert!(!span.attributes.iter().any(|attribute| attribute.key == "error.type"));
    let span = exported(&spans, &failed);
    assert_eq!(span.status.as_ref().unwrap().code(), StatusCode::Error);
    assert_attributes(span, &[("error.type", "INTERNAL"), ("rpc.grpc.status_code", "13")]);

    let span = exported(&spans, &create);
    assert_eq!(span.parent_span_id, server.span_id());
    assert_eq!((span.name.as_str(), span.kind()), ("create counters", SpanKind::Producer));
    assert_attributes(
        span,
        &[
            ("messaging.system", "kafka"),
            ("messaging.destination.name", "counters"),
            ("messaging.operation.type", "create"),
            ("messaging.operation.name", "create"),
            ("messaging.kafka.message.key", "key-1"),
        ],
    );

    let span = exported(&spans, &send);
    assert_eq!((span.name.as_str(), span.kind()), ("send counters", SpanKind::Client));
    assert_attributes(span, &[("messaging.operation.type", "send"), ("messaging.batch.message_count", "3")]);
    let links: Vec<_> = span.links.iter().map(|link| link.span_id.clone()).collect();
    assert_eq!(links, [create.span_id()], "what nobody records is not linked");

    let span = exported(&spans, &process);
    assert_eq!(span.parent_span_id, create.span_id());
    assert_eq!((span.name.as_str(), span.kind()), ("process counters", SpanKind::Consumer));
    assert_attributes(
        span,
        &[
            ("messaging.operation.type", "process"),
            ("messaging.consumer.group.name", "others-counters"),
            ("messaging.destination.partition.id", "4"),
            ("messaging.kafka.offset", "42"),
        ],
    );
    assert_eq!(span.links[0].span_id, root.span_id());

    let span = exported(&spans, &transaction);
    assert!(span.parent_span_id.is_empty(), "a batch is many callers', so it is a trace of its own");
    assert_eq!((span.name.as_str(), span.kind()), ("transaction grpc", SpanKind::Internal));
    assert_eq!(span.links.len(), 2);
    assert_attributes(span, &[("db.operation.batch.size", "2"), ("error.type", "SERIALIZATION_FAILURE")]);

    assert_eq!(exported(&spans, &timer).name, "timer sweep");
    assert_eq!(spans.len(), 11, "{:?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>());
}
