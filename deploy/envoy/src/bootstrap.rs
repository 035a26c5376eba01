//! Envoy's configuration as a whole: what it reads when it starts, and never again.

use std::time::Duration;

use serde_json::{Value, json};
use shared::config::{JwksSource, LogFormat};

use crate::{
    Config, NAME,
    api::{Api, Unreadable},
    clusters, keys, listener,
};

/// Connections of clients, all together. A connection that only waits costs some 20 KiB.
const MAX_CONNECTIONS: u32 = 10_000;

/// The configuration, as JSON.
///
/// # Errors
///
/// The contracts tell of a call that could not be routed.
pub fn bootstrap(config: &Config) -> Result<Value, Unreadable> {
    let api = Api::of_contracts()?;
    let mut listeners = vec![listener::listener(config, &api)];
    if let JwksSource::File(path) = &config.auth.jwks {
        listeners.push(keys::listener(path));
    }
    let mut bootstrap = json!({
        "node": { "id": NAME, "cluster": NAME },
        "admin": { "address": socket(&config.admin.ip().to_string(), config.admin.port()) },
        "static_resources": {
            "listeners": listeners,
            "clusters": clusters::all(config, &api),
        },
        "bootstrap_extensions": [keys::internal_listeners()],
        "overload_manager": {
            "resource_monitors": [{
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": {
                    "@type": type_url(
                        "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                    ),
                    "max_active_downstream_connections": MAX_CONNECTIONS,
                },
            }],
        },
    });
    if config.log_format() == LogFormat::Json {
        bootstrap["application_log_config"] = json!({ "log_format": { "json_format": {
            "timestamp": "%Y-%m-%dT%T.%F", "level": "%l", "target": "%n", "message": "%j",
        } } });
    }
    Ok(bootstrap)
}

/// The URL by which an `Any` names its type.
pub(crate) fn type_url(name: &str) -> String {
    format!("type.googleapis.com/{name}")
}

/// An extension with its settings.
pub(crate) fn extension(name: &str, message: &str, mut settings: Value) -> Value {
    settings["@type"] = type_url(message).into();
    json!({ "name": name, "typed_config": settings })
}

/// An address and a port.
pub(crate) fn socket(host: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": host, "port_value": port } })
}

/// A time that passes, as protobuf's JSON has it.
pub(crate) fn duration(duration: Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}

/// Of the lines or replies whose status compares so, `EQ` or `GE`, without being asked again at run time.
pub(crate) fn status(op: &str, status: u16) -> Value {
    let value = json!({ "default_value": status, "runtime_key": "unused" });
    json!({ "status_code_filter": { "comparison": { "op": op, "value": value } } })
}

/// Of all requests, without being asked again at run time.
pub(crate) fn always() -> Value {
    json!({ "default_value": { "numerator": 100, "denominator": "HUNDRED" } })
}
