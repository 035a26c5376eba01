//! Where calls go: the services' replicas, and the collector of traces. In: their addresses. Out: a cluster each, with what
//! protects it.

use std::{net::IpAddr, path::Path};

use reqwest::Url;
use serde_json::{Value, json};
use shared::config::JwksSource;

use crate::{
    Config,
    api::{Api, Service},
    bootstrap::{extension, socket},
    keys,
};

/// The cluster of what is no call: nobody is in it.
pub(crate) const NOWHERE: &str = "nowhere";
/// The cluster of the collector of traces.
pub(crate) const OTLP: &str = "otlp";
/// The cluster of whoever serves the keys that sign tokens.
pub(crate) const JWKS: &str = "jwks";

/// The cluster of health and reflection, which are open to everyone: strangers shall take no call's place.
pub(crate) const OPEN: &str = "open";

/// Such calls at once.
const MAX_OPEN: u32 = 64;
/// Calls that a service may have at once through us: far above what it can do, far below what would hurt us.
const MAX_CALLS: u32 = 4096;
/// Watches that a service, all its replicas together, may have at once through us.
const MAX_STREAMS: u32 = 16_384;

/// The cluster for a service's calls, or for its streams. They are apart, lest ten thousand watches leave no room for a
/// single call.
pub(crate) fn name(service: &Service, streams: bool) -> String {
    if streams { format!("{}-streams", service.room) } else { service.room.clone() }
}

/// All of them.
pub(crate) fn all(config: &Config, api: &Api) -> Vec<Value> {
    let mut clusters = vec![cluster(NOWHERE, &[])];
    for service in &api.services {
        let replicas = config.upstreams.get(&service.room).map(Vec::as_slice).unwrap_or_default();
        clusters.push(replicated(&name(service, false), replicas, MAX_CALLS));
        if service.methods.iter().any(|method| method.streams()) {
            clusters.push(replicated(&name(service, true), replicas, MAX_STREAMS));
        }
    }
    // The first answers: any of them describes all.
    if let Some(first) = api.services.first() {
        let replicas = config.upstreams.get(&first.room).map(Vec::as_slice).unwrap_or_default();
        clusters.push(replicated(OPEN, replicas, MAX_OPEN));
    }
    if let Some(url) = config.telemetry.otlp() {
        let mut cluster = cluster(OTLP, &[endpoint(url, 4317)]);
        speak_http2(&mut cluster);
        clusters.push(with_tls(cluster, url, &config.authorities));
    }
    clusters.push(match &config.auth.jwks {
        JwksSource::File(_) => keys::cluster(),
        JwksSource::Url(url) => {
            let port = url.port_or_known_default().unwrap_or(443);
            with_tls(cluster(JWKS, &[endpoint(url, port)]), url, &config.authorities)
        }
    });
    clusters
}

/// A service's replicas, with circuit breakers, health checks, and ejection of those that can't be reached.
fn replicated(name: &str, replicas: &[(String, u16)], max_calls: u32) -> Value {
    let mut cluster = cluster(name, replicas);
    speak_http2(&mut cluster);
    cluster["lb_policy"] = "LEAST_REQUEST".into();
    cluster["circuit_breakers"] = json!({ "thresholds": [{
        "max_connections": 256,
        "max_pending_requests": max_calls,
        "max_requests": max_calls,
        // Retries can't double the load of a service that is in trouble.
        "retry_budget": { "budget_percent": { "value": 20.0 }, "min_retry_concurrency": 3 },
    }] });
    // Its own word: not serving while it starts, stops, or misses its database. If fewer than half serve, all are tried, and
    // answer for themselves why not.
    cluster["health_checks"] = json!([{
        "timeout": "1s",
        // A replica that is to stop says so for a second before it takes no more calls.
        "interval": "0.5s",
        "no_traffic_interval": "0.5s",
        "no_traffic_healthy_interval": "0.5s",
        "unhealthy_interval": "1s",
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "grpc_health_check": {},
    }]);
    // Only by what we see ourselves: connections that fail or break. Statuses don't count, for a caller could bring them about,
    // a deadline of 1 ms as often as it likes, and have healthy replicas ejected.
    cluster["outlier_detection"] = json!({
        "split_external_local_origin_errors": true,
        "consecutive_local_origin_failure": 5,
        "enforcing_consecutive_local_origin_failure": 100,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "enforcing_local_origin_success_rate": 0,
        "interval": "2s",
        "base_ejection_time": "5s",
        "max_ejection_time": "60s",
        "max_ejection_percent": 50,
    });
    cluster
}

/// Whom a URL names, and its port or else this one.
fn endpoint(url: &Url, port: u16) -> (String, u16) {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    (host.to_owned(), url.port().unwrap_or(port))
}

fn cluster(name: &str, endpoints: &[(String, u16)]) -> Value {
    // Addresses need no resolver; names are asked for again and again.
    let addresses = endpoints.iter().all(|(host, _)| host.parse::<IpAddr>().is_ok());
    let endpoints: Vec<_> =
        endpoints.iter().map(|(host, port)| json!({ "endpoint": { "address": socket(host, *port) } })).collect();
    json!({
        "name": name,
        "type": if addresses { "STATIC" } else { "STRICT_DNS" },
        "connect_timeout": "1s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] },
        "upstream_connection_options": { "tcp_keepalive": {} },
    })
}

fn speak_http2(cluster: &mut Value) {
    const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    cluster["typed_extension_protocol_options"] = json!({ OPTIONS: {
        "@type": crate::bootstrap::type_url(OPTIONS),
        "explicit_http_config": { "http2_protocol_options": {
            "connection_keepalive": { "interval": "30s", "timeout": "5s" },
        } },
    } });
}

/// Over TLS, if the URL says so, to whom the URL names.
fn with_tls(mut cluster: Value, url: &Url, authorities: &Path) -> Value {
    const TLS: &str = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
    if url.scheme() == "https" {
        let settings = json!({
            "sni": url.host_str(),
            "auto_sni_san_validation": true,
            "common_tls_context": { "validation_context": { "trusted_ca": { "filename": authorities } } },
        });
        cluster["transport_socket"] = extension("envoy.transport_sockets.tls", TLS, settings);
    }
    cluster
}
