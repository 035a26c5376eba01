//! Keys in a file. Envoy 1.40 reads a file of keys when it starts and never again, but asks a server again and again, and
//! answers with what is in a file now: so it asks itself. In: the file. Out: a listener that nobody else can reach, and
//! that has this file alone.

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    bootstrap::{extension, type_url},
    clusters,
};

/// The listener's name, which is its address.
const LISTENER: &str = "keys";
/// Where the file is on that listener.
const PATH: &str = "/keys";

/// What makes listeners possible that are reached from within alone.
pub(crate) fn internal_listeners() -> Value {
    let settings = json!({});
    extension(
        "envoy.bootstrap.internal_listener",
        "envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
        settings,
    )
}

/// The largest set of keys: as a service has it.
const MAX_BYTES: u32 = 1 << 20;

/// Serves the file.
pub(crate) fn listener(file: &Path) -> Value {
    // Seen when a file takes its place in this folder, by a rename: as Kubernetes does it, and whoever else wouldn't have
    // half a file read.
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let keys = json!({ "filename": file, "watched_directory": { "path": folder } });
    let router = extension("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router", json!({}));
    json!({
        "name": LISTENER,
        "internal_listener": {},
        "filter_chains": [{ "filters": [extension(
            "envoy.filters.network.http_connection_manager",
            "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            json!({
                "stat_prefix": LISTENER,
                "route_config": {
                    "virtual_hosts": [{
                        "name": LISTENER,
                        "domains": ["*"],
                        "routes": [{ "match": { "path": PATH }, "direct_response": { "status": 200, "body": keys } }],
                    }],
                    "max_direct_response_body_size_bytes": MAX_BYTES,
                },
                "http_filters": [router],
            }),
        )] }],
    })
}

/// Who asks for it, and where.
pub(crate) fn cluster() -> Value {
    let address = json!({ "envoy_internal_address": { "server_listener_name": LISTENER, "endpoint_id": LISTENER } });
    json!({
        "name": clusters::JWKS,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": clusters::JWKS,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }],
        },
        "transport_socket": {
            "name": "envoy.transport_sockets.internal_upstream",
            "typed_config": {
                "@type": type_url("envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport"),
                "transport_socket": {
                    "name": "envoy.transport_sockets.raw_buffer",
                    "typed_config": {
                        "@type": type_url("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"),
                    },
                },
            },
        },
    })
}

/// As what its URL is known; nobody resolves it.
pub(crate) fn url() -> String {
    format!("http://{LISTENER}{PATH}")
}
