//! A collector that takes connections and never answers costs spans, and no time. One process has one exporter, so this
//! is one story.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use shared::{
    config::{ExportTo, SamplerConfig, TelemetryConfig},
    telemetry::{self, Span},
};
use tokio::net::TcpListener;

#[tokio::test]
async fn a_collector_that_never_answers_stops_nobody() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = TelemetryConfig {
        log_filter: "off".to_owned(),
        log_format: None,
        export: Some(ExportTo::Otlp(format!("http://{}", silent.local_addr().unwrap()).parse().unwrap())),
        sampler: SamplerConfig::DEFAULT,
        span_queue: TelemetryConfig::SPAN_QUEUE,
    };
    let telemetry = telemetry::init("counters", &config).unwrap();

    let began = Instant::now();
    // Several times what the exporter's queue holds.
    for _ in 0..10_000 {
        assert!(Span::timer(None, "sweep").is_recorded());
    }
    let worked = began.elapsed();
    telemetry.shutdown().await;
    let stopped = began.elapsed() - worked;
    assert!(worked < Duration::from_secs(5), "spans took {worked:?}");
    assert!(stopped < Duration::from_secs(4), "the end took {stopped:?}, of 2 s that it may");
}
