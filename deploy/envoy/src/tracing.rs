//! Our place in traces. In: where spans go, and which. Out: Envoy's tracer; none if they go nowhere, and then a caller's
//! `traceparent` passes through as it is.

use serde_json::{Value, json};
use shared::config::SamplerConfig;

use crate::{
    Config, NAME,
    bootstrap::{duration, extension},
    clusters,
};

pub(crate) fn tracing(config: &Config) -> Option<Value> {
    config.telemetry.otlp()?;
    let tracer = extension(
        "envoy.tracers.opentelemetry",
        "envoy.config.trace.v3.OpenTelemetryConfig",
        json!({
            "service_name": NAME,
            "grpc_service": {
                "envoy_grpc": { "cluster_name": clusters::OTLP },
                "timeout": duration(std::time::Duration::from_secs(1)),
            },
            "sampler": sampler(&config.telemetry.sampler),
        }),
    );
    Some(json!({
        "provider": tracer,
        // The sampler decides; Envoy's own dice would be a second one.
        "random_sampling": { "value": 100.0 },
        // A span for the request that came, and one below it for each time that it was passed on.
        "spawn_upstream_span": true,
        // A query may name users, and an address is somebody's.
        "max_path_tag_length": 0,
        "custom_tags": [{ "tag": "peer.address", "literal": { "value": "-" } }],
    }))
}

/// By the trace's id, as the services' own: one that begins here is exported as a whole or not at all.
fn sampler(config: &SamplerConfig) -> Value {
    // Of a million, the finest that there is. Below 1e6, so it fits.
    let numerator = (config.ratio * 1e6).round() as u32;
    let ratio = extension(
        "envoy.tracers.opentelemetry.samplers.trace_id_ratio_based",
        "envoy.extensions.tracers.opentelemetry.samplers.v3.TraceIdRatioBasedSamplerConfig",
        json!({ "sampling_percentage": { "numerator": numerator, "denominator": "MILLION" } }),
    );
    if !config.parent_based {
        return ratio;
    }
    extension(
        "envoy.tracers.opentelemetry.samplers.parent_based",
        "envoy.extensions.tracers.opentelemetry.samplers.v3.ParentBasedSamplerConfig",
        json!({ "wrapped_sampler": ratio }),
    )
}
