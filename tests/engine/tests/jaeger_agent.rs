//! Spans by the agent's exporter, as a real Jaeger shows them. One process has one exporter, so this is one story.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use local::{
    jaeger::{Jaeger, JaegerConfig},
    ports::Port,
    tools::Tools,
    wait,
};
use serde_json::Value;
use shared::{
    config::{ExportTo, SamplerConfig, TelemetryConfig},
    telemetry::{self, Record, Span, TraceContext},
};

/// How long what should come soon may take.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_to_an_agent_is_what_goes_to_a_collector() {
    let folder = tempfile::tempdir().unwrap();
    let [api, otlp, agent] = std::array::from_fn(|_| Port::free().unwrap());
    let config = JaegerConfig {
        program: Tools::from_env().unwrap().jaeger().await.unwrap(),
        dir: folder.path().to_owned(),
        log: folder.path().join("jaeger.log"),
        api,
        otlp,
        agent,
    };
    let jaeger = Jaeger::create(config).unwrap();
    jaeger.process().start().await.unwrap();
    let config = TelemetryConfig {
        log_filter: "info".to_owned(),
        log_format: None,
        export: Some(ExportTo::JaegerAgent { host: jaeger.agent().ip().to_string(), port: jaeger.agent().port() }),
        sampler: SamplerConfig::DEFAULT,
        span_queue: TelemetryConfig::SPAN_QUEUE,
    };
    let telemetry = telemetry::init("counters", &config).unwrap();

    // Given a call that tells of an event, whoever reads it, and a transaction of both that fails.
    let server = Span::server(None, "/counter.v1.CounterService/CreateCounter");
    server.attribute("ratio", 0.5);
    server.attribute("swift", true);
    server.within(|| tracing::info!(tries = 3, "it is done"));
    let create = Span::create(server.context(), "counters", "counter.created", "key-1");
    let record = Record { topic: "counters", group: "others-counters", partition: 4, offset: 42, key: "key-1" };
    let process = Span::process(create.context(), record);
    let transaction = Span::transaction("calls", 2, None, &[server.context().clone(), process.context().clone()]);
    transaction.error("REJECTED");
    // More than one packet holds.
    let many: Vec<Span> = (0..1000).map(|_| Span::timer(Some(process.context()), &"x".repeat(200))).collect();

    // When they are over.
    drop(many);
    let [server, create, process, transaction] = [server, create, process, transaction].map(ended);
    telemetry.shutdown().await;

    // Then Jaeger has them all, with what they say, and with how they hang together.
    let spans = wait::until("all spans to arrive", SOON, || all_spans(&jaeger, &server, 1003)).await.unwrap();
    for (context, parent, name, expected) in [
        (
            &server,
            None,
            "counter.v1.CounterService/CreateCounter",
            &[("span.kind", "server"), ("rpc.system", "grpc"), ("ratio", "0.5"), ("swift", "true")][..],
        ),
        (
            &create,
            Some(&server),
            "create counters",
            &[("span.kind", "producer"), ("messaging.kafka.message.key", "key-1")],
        ),
        (&process, Some(&create), "process counters", &[("span.kind", "consumer"), ("messaging.kafka.offset", "42")]),
    ] {
        let span = the_span(&spans, context);
        assert_eq!(span["operationName"], name);
        assert_eq!(reference(span, "CHILD_OF"), parent.map(span_id).into_iter().collect::<Vec<_>>(), "{span}");
        for (key, value) in expected {
            assert_eq!(tag(span, key).as_deref(), Some(*value), "{key} of {span}");
        }
    }
    assert!(the_span(&spans, &server)["logs"].to_string().contains("it is done"), "{}", the_span(&spans, &server));
    assert_eq!(spans["processes"]["p1"]["serviceName"], "counters");
    let instance = |tag: &Value| tag["key"] == "service.instance.id";
    assert!(spans["processes"]["p1"]["tags"].as_array().unwrap().iter().any(instance), "{}", spans["processes"]);

    let spans = all_spans(&jaeger, &transaction, 1).await.unwrap();
    let span = the_span(&spans, &transaction);
    assert_eq!(reference(span, "FOLLOWS_FROM"), [span_id(&server), span_id(&process)], "{span}");
    assert_eq!(tag(span, "error").as_deref(), Some("true"));
    assert_eq!(tag(span, "error.type").as_deref(), Some("REJECTED"));
    jaeger.process().terminate().await.unwrap();
}

/// The context of a span that is over with this.
fn ended(span: Span) -> TraceContext {
    span.context().clone()
}

/// The trace of a span, once it has so many.
async fn all_spans(jaeger: &Jaeger, of: &TraceContext, spans: usize) -> anyhow::Result<Value> {
    let id: String = of.trace_id().iter().map(|byte| format!("{byte:02x}")).collect();
    let answer = reqwest::get(format!("{}/api/traces/{id}", jaeger.url())).await?;
    let page: Value = answer.json().await?;
    let found = page["data"][0]["spans"].as_array().map_or(0, Vec::len);
    anyhow::ensure!(found == spans, "{found} of {spans}");
    Ok(page["data"][0].clone())
}

fn span_id(context: &TraceContext) -> String {
    context.span_id().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn the_span<'a>(trace: &'a Value, context: &TraceContext) -> &'a Value {
    let spans = trace["spans"].as_array().unwrap();
    spans.iter().find(|span| span["spanID"] == span_id(context)).unwrap()
}

fn tag(span: &Value, key: &str) -> Option<String> {
    let tag = span["tags"].as_array()?.iter().find(|tag| tag["key"] == key)?;
    Some(tag["value"].as_str().map_or_else(|| tag["value"].to_string(), str::to_owned))
}

fn reference(span: &Value, kind: &str) -> Vec<String> {
    let references = span["references"].as_array().unwrap();
    let of_kind = references.iter().filter(|reference| reference["refType"] == kind);
    of_kind.map(|reference| reference["spanID"].as_str().unwrap().to_owned()).collect()
}
