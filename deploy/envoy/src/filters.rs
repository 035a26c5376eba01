//! What every request passes, in this order. In: settings and calls. Out: Envoy's HTTP filters.

use std::{collections::BTreeSet, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use shared::config::{AuthConfig, JwksSource};

use crate::{
    Config,
    api::Api,
    bootstrap::{always, duration, extension, type_url},
    clusters, keys, replies, routes,
};

/// The filters that have settings for single routes, too.
pub(crate) const CORS: &str = "envoy.filters.http.cors";
const BUFFER: &str = "envoy.filters.http.buffer";
const NOTES: &str = "envoy.filters.http.json_to_metadata";
const REFUSALS: &str = "envoy.filters.http.rbac";
const TRANSCODER: &str = "envoy.filters.http.grpc_json_transcoder";

/// Where it is noted what bodies say.
const BODIES: &str = "bodies";
/// What is taken of a request's body, as JSON: as much as a service takes of a message.
const MAX_BODY_BYTES: usize = shared::grpc::MAX_MESSAGE_BYTES;
/// What is taken of a service's answer that becomes JSON, for which it has to be whole: above the longest page of a list, 200 tickets
/// whose titles are all escapes, some 0.5 MB.
const MAX_ANSWER_BYTES: usize = 2 << 20;
/// The five bytes before a gRPC message.
const GRPC_FRAME_BYTES: usize = 5;
/// How far clocks may differ, in seconds: as the services have it.
const LEEWAY: u32 = 5;
/// Clients whose buckets are kept; who isn't among them any more begins with a full one.
const CLIENTS: u32 = 10_000;

/// All filters, the first first.
pub(crate) fn filters(config: &Config, api: &Api) -> Vec<Value> {
    vec![
        // Before all that may refuse, so that a page may read why.
        extension(CORS, "envoy.extensions.filters.http.cors.v3.Cors", json!({})),
        // Then gRPC-Web becomes gRPC, so that refusals become gRPC-Web again.
        extension("envoy.filters.http.grpc_web", "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb", json!({})),
        // Before tokens are checked: a flood of bad ones is what it is for.
        limits(config),
        tokens(&config.auth),
        buffer(),
        said_in_bodies(api),
        unclear(api),
        transcoder(api),
        extension(
            "envoy.filters.http.router",
            "envoy.extensions.filters.http.router.v3.Router",
            json!({ "suppress_envoy_headers": true }),
        ),
    ]
}

/// Which pages may call, and what of the answers they may see.
pub(crate) fn cors_policy(config: &Config, api: &Api) -> Value {
    let mut verbs: Vec<_> = api.methods().flat_map(|method| &method.bindings).map(|binding| binding.verb).collect();
    // gRPC-Web's.
    verbs.push("POST");
    verbs.sort_unstable();
    verbs.dedup();
    let origins: Vec<_> = config.origins.iter().map(|origin| json!({ "exact": origin })).collect();
    json!({
        "@type": type_url("envoy.extensions.filters.http.cors.v3.CorsPolicy"),
        "allow_origin_string_match": origins,
        "allow_methods": verbs.join(", "),
        "allow_headers": "authorization, content-type, grpc-timeout, traceparent, tracestate, x-grpc-web, x-user-agent",
        "expose_headers": "grpc-status, grpc-message, grpc-status-details-bin, retry-after",
        "max_age": "7200",
        // A foreign page's question ends here, without the headers that would mean yes.
        "forward_not_matching_preflights": false,
    })
}

/// A token bucket for each client.
///
/// A client is an address, and of IPv6 a /64, which is what one subscriber has. Not a token's subject: that is known only
/// after the token was checked, which is the dearest thing done here and what a flood should not get; and whoever can
/// sign up twice would have two buckets. Many users behind one address share one, so it is not a small one.
fn limits(config: &Config) -> Value {
    let bucket =
        |tokens: u32, each: u32| json!({ "max_tokens": tokens, "tokens_per_fill": each, "fill_interval": "1s" });
    extension(
        "envoy.filters.http.local_ratelimit",
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        json!({
            "stat_prefix": "clients",
            "filter_enabled": always(),
            "filter_enforced": always(),
            "rate_limits": [{ "actions": [{ "masked_remote_address": {
                "v4_prefix_mask_len": 32,
                "v6_prefix_mask_len": 64,
            } }] }],
            // No value: a bucket for each that there is.
            "descriptors": [{
                "entries": [{ "key": "masked_remote_address" }],
                "token_bucket": bucket(config.rate.burst, config.rate.per_second),
            }],
            "max_dynamic_descriptors": CLIENTS,
            // The filter wants one for whoever has no address, which nobody is.
            "token_bucket": bucket(config.rate.burst, config.rate.per_second),
            "always_consume_default_token_bucket": false,
            "rate_limited_as_resource_exhausted": true,
        }),
    )
}

/// Tokens are checked as the services check them, and go on to them as they are.
fn tokens(auth: &AuthConfig) -> Value {
    let mut provider = json!({
        "issuer": auth.issuer,
        "audiences": [auth.audience],
        "require_expiration": true,
        "clock_skew_seconds": LEEWAY,
        // Here and nowhere else: by default a token may stand in the URL, too. The scheme's case means nothing (RFC 9110), but
        // these are the two that are written.
        "from_headers": [
            { "name": "authorization", "value_prefix": "Bearer " },
            { "name": "authorization", "value_prefix": "bearer " },
        ],
        "forward": true,
        // The same token comes again and again, and checking it is public-key cryptography.
        "jwt_cache_config": { "jwt_cache_size": 8192 },
    });
    let url = match &auth.jwks {
        JwksSource::File(_) => keys::url(),
        JwksSource::Url(url) => url.to_string(),
    };
    let mut keys = json!({
        "http_uri": { "uri": url, "cluster": clusters::JWKS, "timeout": "5s" },
        // Not when a token names another, as services do it: strangers can't make us ask, once there are keys.
        "cache_duration": duration(auth.reread_after.max(Duration::from_secs(1))),
    });
    if matches!(auth.jwks, JwksSource::Url(_)) {
        // So that no request waits for them. Of a file's, one does: internal listeners are there for workers alone, and
        // it is the main thread that would fetch.
        keys["async_fetch"] = json!({});
    }
    provider["remote_jwks"] = keys;
    let open = routes::OPEN.map(|prefix| json!({ "match": { "prefix": prefix } }));
    let closed = json!({ "match": { "prefix": "/" }, "requires": { "provider_name": "issuer" } });
    extension(
        "envoy.filters.http.jwt_authn",
        "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        json!({
            "providers": { "issuer": provider },
            // The first that matches.
            "rules": open.into_iter().chain([closed]).collect::<Vec<_>>(),
        }),
    )
}

/// A request is whole before a service hears of it: slow senders are this program's business.
fn buffer() -> Value {
    extension(
        BUFFER,
        "envoy.extensions.filters.http.buffer.v3.Buffer",
        json!({ "max_request_bytes": MAX_BODY_BYTES + GRPC_FRAME_BYTES }),
    )
}

/// The fields of bodies that paths bind, too: the name of each note on one.
fn bound(api: &Api) -> BTreeSet<(&str, &str)> {
    let bindings = api.methods().flat_map(|method| &method.bindings).filter(|binding| binding.body);
    bindings.flat_map(|binding| binding.variables().map(|variable| (binding.template.as_str(), variable))).collect()
}

/// Notes which of these fields a body in JSON has. The transcoder minds one only if it says another thing than the path.
fn said_in_bodies(api: &Api) -> Value {
    let fields: BTreeSet<_> = bound(api).into_iter().map(|(_, field)| field).collect();
    let rule = |field: &str, spelled: &str| {
        // As it is: with a value of ours, what isn't there would be noted like what is.
        let note = json!({ "metadata_namespace": BODIES, "key": field });
        json!({ "selectors": [{ "key": spelled }], "on_present": note })
    };
    let rules = fields.into_iter().flat_map(|field| {
        BTreeSet::from([field.to_owned(), lower_camel(field)]).into_iter().map(move |spelled| rule(field, &spelled))
    });
    extension(
        NOTES,
        "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata",
        json!({ "request_rules": {
            "rules": rules.collect::<Vec<_>>(),
            // The transcoder takes anything for JSON but what is gRPC; that has no end that could be waited for.
            "allow_content_types_regex": { "regex": "([^a]|a[^p]|ap[^p]|application/[^g]).*" },
            "allow_empty_content_type": true,
        } }),
    )
}

/// Refuses what the transcoder would guess at.
fn unclear(api: &Api) -> Value {
    let path =
        |regex: &str| json!({ "header": { "name": ":path", "string_match": { "safe_regex": { "regex": regex } } } });
    let twice = bound(api).into_iter().map(|(template, field)| {
        let said = json!({ "sourced_metadata": { "metadata_matcher": {
            "filter": BODIES,
            "path": [{ "key": field }],
            // What is no text, the transcoder refuses by itself: what paths bind are texts.
            "value": { "string_match": { "safe_regex": { "regex": "(?s).*" } } },
        } } });
        json!({ "and_rules": { "rules": [path(&replies::regex(template)), said] } })
    });
    let policy = |permissions: Vec<Value>| json!({ "permissions": permissions, "principals": [{ "any": true }] });
    extension(
        REFUSALS,
        "envoy.extensions.filters.http.rbac.v3.RBAC",
        json!({ "rules": { "action": "DENY", "policies": {
            // A parameter without a value, or without a name, would be passed over.
            replies::UNCLEAR_QUERY: policy(vec![path(r"[^?]*\?(.*&)?([^=&]+|=[^&]*)(&.*)?")]),
            replies::UNCLEAR_BODY: policy(twice.collect()),
        } } }),
    )
}

/// A field's name as ProtoJSON has it.
fn lower_camel(field: &str) -> String {
    let mut words = field.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let (initial, rest) = word.split_at_checked(1).unwrap_or((word, ""));
        name + &initial.to_ascii_uppercase() + rest
    })
}

/// For routes of what is gRPC from the start: what deals with JSON alone would be up to a quarter of what a call costs here.
pub(crate) fn without_json() -> Value {
    let disabled = json!({ "@type": type_url("envoy.config.route.v3.FilterConfig"), "disabled": true });
    json!({ NOTES: disabled, REFUSALS: disabled, TRANSCODER: disabled })
}

/// For routes whose requests are streams, too.
pub(crate) fn without_buffer(mut per_filter: Value) -> Value {
    per_filter[BUFFER] =
        json!({ "@type": type_url("envoy.extensions.filters.http.buffer.v3.BufferPerRoute"), "disabled": true });
    per_filter
}

/// JSON becomes gRPC and the answer JSON, as the annotations of the protos say.
fn transcoder(api: &Api) -> Value {
    extension(
        TRANSCODER,
        "envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        json!({
            "proto_descriptor_bin": STANDARD.encode(contracts::DESCRIPTORS),
            "services": api.services.iter().map(|service| &service.name).collect::<Vec<_>>(),
            "print_options": {
                "always_print_primitive_fields": true,
                "stream_newline_delimited": false,
                "stream_sse_style_delimited": true,
            },
            "convert_grpc_status": true,
            // Else `/api/orders/1:pay` would be the order `1:pay`.
            "match_unregistered_custom_verb": true,
            "request_validation_options": {
                "reject_unknown_method": true,
                "reject_unknown_query_parameters": true,
                "reject_binding_body_field_collisions": true,
            },
            "max_request_body_size": MAX_BODY_BYTES,
            "max_response_body_size": MAX_ANSWER_BYTES,
        }),
    )
}
