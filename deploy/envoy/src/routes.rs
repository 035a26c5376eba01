//! Which service answers. In: the calls that there are. Out: a route each, by its path in gRPC, which all
//! have by then.

use serde_json::{Value, json};

use crate::{
    Config,
    api::{Api, Method, Service},
    bootstrap::{duration, type_url},
    clusters, filters,
};

/// Services of every server that are open to everyone, by what their paths begin with.
pub(crate) const OPEN: [&str; 2] = ["/grpc.health.", "/grpc.reflection."];

/// The routes of all calls.
pub(crate) fn routes(config: &Config, api: &Api) -> Value {
    let calls = api.services.iter().flat_map(|service| service.methods.iter().map(move |method| (service, method)));
    let mut routes: Vec<_> = calls.map(|(service, method)| call(config, service, method)).collect();
    // Health and reflection name no service that we could route by.
    routes.extend(OPEN.map(open));
    routes.push(json!({ "match": { "prefix": "/", "headers": [in_grpc()] }, "direct_response": { "status": 404 } }));
    // JSON that isn't gRPC yet, and pages that ask whether they may: they need a route to have CORS, and never get to its end.
    routes.push(json!({ "match": { "prefix": "/" }, "route": { "cluster": clusters::NOWHERE } }));
    json!({
        "name": "calls",
        "virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": routes,
            "typed_per_filter_config": { filters::CORS: filters::cors_policy(config, api) },
        }],
    })
}

/// Of what is gRPC, or gRPC-Web: the route is looked for before the one has become the other.
fn in_grpc() -> Value {
    json!({ "name": "content-type", "string_match": { "prefix": "application/grpc" } })
}

fn call(config: &Config, service: &Service, method: &Method) -> Value {
    let mut action = json!({ "cluster": clusters::name(service, method.streams()) });
    if method.streams() {
        // It may wait for hours. That its client still lives is the connection's business.
        action["timeout"] = "0s".into();
        action["idle_timeout"] = "0s".into();
    } else {
        action["timeout"] = duration(config.timeout).into();
        action["idle_timeout"] = duration(config.idle).into();
    }
    if method.reads() {
        action["retry_policy"] = retries();
    }
    json!({
        "name": method.path,
        "match": { "path": method.path, "headers": [in_grpc()] },
        "route": action,
        // What the span is called, as the services call theirs.
        "decorator": { "operation": method.path.trim_start_matches('/'), "propagate": false },
        // Which filters a request passes is settled by the route that it has when it comes: JSON that becomes gRPC has passed
        // them by the time that it gets here.
        "typed_per_filter_config": filters::without_json(),
    })
}

/// Only what reads is repeated here. Whether a write has happened is for its caller to find out, by its `request_id`.
fn retries() -> Value {
    json!({
        "retry_on": "connect-failure,refused-stream,reset,unavailable",
        "num_retries": 2,
        "retry_back_off": { "base_interval": "0.025s", "max_interval": "0.25s" },
        "retry_host_predicate": [{
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": type_url("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
            },
        }],
        "host_selection_retry_max_attempts": 3,
    })
}

/// How long such a stream may last: enough to ask for all that there is, and too little for strangers to pile them up.
const OPEN_FOR: &str = "60s";

fn open(prefix: &str) -> Value {
    json!({
        "match": { "prefix": prefix, "headers": [in_grpc()] },
        // Streams of both directions: what is asked comes bit by bit, and none of it may wait for the end.
        "route": {
            "cluster": clusters::OPEN,
            "timeout": "0s",
            "max_stream_duration": { "max_stream_duration": OPEN_FOR },
        },
        "typed_per_filter_config": filters::without_buffer(filters::without_json()),
    })
}
