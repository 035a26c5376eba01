//! What is answered here rather than by a service: every refusal of Envoy's own, in the words of the contract. In: the calls that
//! there are. Out: `google.rpc.Status` with `ErrorInfo`, as JSON or in gRPC's headers.

use std::{collections::HashMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use serde_json::{Value, json};
use shared::grpc::DOMAIN;
use tonic::Code;
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    api::Api,
    bootstrap::{self, extension, type_url},
};

/// The policies by which a request is refused for what can't be made out of it.
pub(crate) const UNCLEAR_QUERY: &str = "unclear-query";
pub(crate) const UNCLEAR_BODY: &str = "unclear-body";

/// A refusal, and what it looks like.
struct Reply {
    when: When,
    /// The status in HTTP, if it is another than Envoy's.
    status: Option<u16>,
    code: Code,
    reason: &'static str,
    message: &'static str,
    /// Whether Envoy knows better, and says so in JSON.
    told: bool,
    /// After so many seconds a retry makes sense.
    retry_after: Option<u64>,
}

/// Of which replies it is.
#[derive(Clone, Copy)]
enum When {
    /// Of this status.
    Status(u16),
    /// Of this status, if Envoy's own note on it has these words.
    Noted(u16, &'static str),
    /// Of this status, to a call in gRPC.
    Grpc(u16),
    /// Of any.
    Any,
}

/// Who is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Json,
    Grpc,
}

impl When {
    fn protocols(self) -> &'static [Protocol] {
        match self {
            Self::Grpc(_) => &[Protocol::Grpc],
            _ => &[Protocol::Grpc, Protocol::Json],
        }
    }
}

const fn reply(when: When, code: Code, reason: &'static str, message: &'static str) -> Reply {
    Reply { when, status: None, code, reason, message, told: false, retry_after: None }
}

impl Reply {
    const fn retry(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// In Envoy's words where they can be had.
    const fn told(self) -> Self {
        Self { told: true, ..self }
    }

    const fn status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }
}

/// All of them; the first that is meant is taken. Tokens' reasons are the services' own.
const REPLIES: [Reply; 22] = [
    reply(
        When::Noted(401, "Jwt_is_missing"),
        Code::Unauthenticated,
        "TOKEN_MISSING",
        "the request needs `authorization: Bearer <token>`",
    ),
    reply(When::Noted(401, "Jwt_is_expired"), Code::Unauthenticated, "TOKEN_EXPIRED", "the token has expired"),
    reply(When::Noted(401, "Jwks_remote_fetch"), Code::Unavailable, "KEYS_UNAVAILABLE", "tokens can't be checked yet")
        .status(503)
        .retry(1),
    reply(When::Status(401), Code::Unauthenticated, "TOKEN_INVALID", "the token is not valid here"),
    // Another audience is no matter of permission: the token isn't one.
    reply(When::Noted(403, "jwt_authn"), Code::Unauthenticated, "TOKEN_INVALID", "the token is not valid here")
        .status(401),
    reply(
        When::Noted(403, UNCLEAR_QUERY),
        Code::InvalidArgument,
        "MALFORMED_REQUEST",
        "the query has a parameter without a name or a value",
    )
    .status(400),
    reply(
        When::Noted(403, UNCLEAR_BODY),
        Code::InvalidArgument,
        "MALFORMED_REQUEST",
        "the body has a field that the path binds already",
    )
    .status(400),
    reply(When::Status(403), Code::PermissionDenied, "PERMISSION_DENIED", "this may not be done"),
    // Of which Envoy has nothing to tell.
    reply(
        When::Noted(400, "path_normalization_failed"),
        Code::InvalidArgument,
        "MALFORMED_REQUEST",
        "the path has what no path of ours can have",
    ),
    reply(When::Status(400), Code::InvalidArgument, "MALFORMED_REQUEST", "the request is malformed").told(),
    reply(When::Grpc(404), Code::Unimplemented, "UNKNOWN_METHOD", "there is no such method here"),
    reply(When::Status(404), Code::NotFound, "UNKNOWN_PATH", "there is no such path here"),
    reply(When::Status(408), Code::DeadlineExceeded, "REQUEST_TIMEOUT", "the request took too long to arrive"),
    reply(When::Status(413), Code::ResourceExhausted, "MESSAGE_TOO_LARGE", "the body is larger than 64 KiB"),
    reply(When::Status(429), Code::ResourceExhausted, "RATE_LIMITED", "more requests than one client may make")
        .retry(1),
    reply(When::Status(431), Code::ResourceExhausted, "HEADERS_TOO_LARGE", "the headers are too many or too large"),
    reply(When::Status(500), Code::Internal, "INTERNAL", "something went wrong on our side"),
    reply(When::Status(502), Code::Unavailable, "SERVICE_UNAVAILABLE", "the service can't be reached just now")
        .retry(1),
    reply(
        When::Noted(503, "overflow"),
        Code::Unavailable,
        "GATEWAY_OVERLOADED",
        "the service has too much to do just now",
    )
    .retry(1),
    reply(When::Status(503), Code::Unavailable, "SERVICE_UNAVAILABLE", "the service can't be reached just now")
        .retry(1),
    reply(
        When::Status(504),
        Code::DeadlineExceeded,
        "DEADLINE_EXCEEDED",
        "no answer in time; what was asked may still happen",
    ),
    reply(When::Any, Code::Unknown, "REFUSED", "the request can't be taken").told(),
];

/// A path that there is, asked for by a verb that it doesn't have; to Envoy it is one that there isn't.
const WRONG_VERB: Reply =
    reply(When::Status(404), Code::Unimplemented, "UNKNOWN_METHOD", "there is such a path, but not by this method")
        .status(405);

/// How Envoy is told.
pub(crate) fn replies(api: &Api) -> Value {
    let wrong_verbs = templates(api).into_iter().map(|(template, verbs)| {
        let mut mapper = mapper(&WRONG_VERB, Protocol::Json);
        let path = json!({ "name": ":path", "string_match": { "safe_regex": { "regex": regex(template) } } });
        if let Some(filters) = mapper["filter"]["and_filter"]["filters"].as_array_mut() {
            filters.push(json!({ "header_filter": { "header": path } }));
        }
        if let Some(headers) = mapper["headers_to_add"].as_array_mut() {
            headers.push(header("allow", &verbs.join(", ")));
        }
        mapper
    });
    let others = REPLIES.iter().flat_map(|reply| reply.when.protocols().iter().map(move |of| mapper(reply, *of)));
    json!({ "mappers": wrong_verbs.chain(others).collect::<Vec<_>>() })
}

/// Each path that there is, with its verbs.
fn templates(api: &Api) -> Vec<(&str, Vec<&str>)> {
    let mut templates: Vec<(&str, Vec<&str>)> = Vec::new();
    for binding in api.methods().flat_map(|method| &method.bindings) {
        match templates.iter_mut().find(|(template, _)| *template == binding.template) {
            Some((_, verbs)) => verbs.push(binding.verb),
            None => templates.push((&binding.template, vec![binding.verb])),
        }
    }
    templates
}

/// `/api/orders/{id}:cancel`, and perhaps a query, as a regex: no variable has what ends its segment or begins a verb of our own.
/// What templates are made of besides means nothing in one.
pub(crate) fn regex(template: &str) -> String {
    let mut parts = template.split('{');
    let first = parts.next().unwrap_or_default().to_owned();
    let path = parts.fold(first, |regex, part| regex + "[^/?:]+" + part.split_once('}').map_or("", |(_, rest)| rest));
    path + r"(\?.*)?"
}

fn mapper(reply: &Reply, protocol: Protocol) -> Value {
    let mut headers = Vec::new();
    if let Some(seconds) = reply.retry_after {
        headers.push(header("retry-after", &seconds.to_string()));
    }
    let (status, body) = match protocol {
        Protocol::Json => (reply.status, json!({ "json_format": status(reply) })),
        Protocol::Grpc => {
            // All in headers, and well in HTTP: so it is gRPC's own answer without a message, and gRPC-Web's too. From a body,
            // and a status of HTTP's, gRPC-Web would be made one of gRPC's that we don't mean, with nothing else.
            headers.push(header("content-type", "application/grpc"));
            headers.push(header("grpc-status", &(reply.code as i32).to_string()));
            headers.push(header("grpc-message", reply.message));
            headers.push(header("grpc-status-details-bin", &details(reply)));
            (Some(200), json!({ "text_format_source": { "inline_string": "" } }))
        }
    };
    let mut mapper =
        json!({ "filter": filter(reply.when, protocol), "headers_to_add": headers, "body_format_override": body });
    if let Some(status) = status {
        mapper["status_code"] = status.into();
    }
    mapper
}

fn header(name: &str, value: &str) -> Value {
    json!({ "header": { "key": name, "value": value }, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD" })
}

/// `google.rpc.Status` as JSON.
fn status(reply: &Reply) -> Value {
    let mut details = vec![json!({
        "@type": type_url("google.rpc.ErrorInfo"),
        "reason": reply.reason,
        "domain": DOMAIN,
        "metadata": {},
    })];
    if let Some(seconds) = reply.retry_after {
        details.push(json!({ "@type": type_url("google.rpc.RetryInfo"), "retryDelay": format!("{seconds}s") }));
    }
    let message = if reply.told { "%LOCAL_REPLY_BODY%" } else { reply.message };
    json!({ "code": reply.code as i32, "message": message, "details": details })
}

/// The same as gRPC has it in a header.
fn details(reply: &Reply) -> String {
    let mut details = ErrorDetails::with_error_info(reply.reason, DOMAIN, HashMap::new());
    if let Some(seconds) = reply.retry_after {
        details.set_retry_info(Some(Duration::from_secs(seconds)));
    }
    STANDARD_NO_PAD.encode(tonic::Status::with_error_details(reply.code, reply.message, details).details())
}

fn filter(when: When, protocol: Protocol) -> Value {
    let header = |header: Value| json!({ "header_filter": { "header": header } });
    let in_grpc = header(json!({ "name": "content-type", "string_match": { "prefix": "application/grpc" } }));
    // JSON that has become gRPC on its way has its path of before.
    let was_json = |was: bool| header(json!({ "name": "x-envoy-original-path", "present_match": was }));
    let protocol_is = match protocol {
        Protocol::Grpc => json!({ "and_filter": { "filters": [in_grpc, was_json(false)] } }),
        // Without the default, a request that has no content-type would be of neither kind.
        Protocol::Json => {
            let other = header(json!({
                "name": "content-type",
                "string_match": { "prefix": "application/grpc" },
                "invert_match": true,
                "treat_missing_header_as_empty": true,
            }));
            json!({ "or_filter": { "filters": [other, was_json(true)] } })
        }
    };
    let status = |status| bootstrap::status("EQ", status);
    let noted = |words: &str| {
        let expression = format!("response.code_details.contains('{words}')");
        json!({ "extension_filter": extension(
            "envoy.access_loggers.extension_filters.cel",
            "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
            json!({ "expression": expression }),
        ) })
    };
    let filters = match when {
        When::Status(of) | When::Grpc(of) => vec![protocol_is, status(of)],
        When::Noted(of, words) => vec![protocol_is, status(of), noted(words)],
        When::Any => return protocol_is,
    };
    json!({ "and_filter": { "filters": filters } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_templates_variables_are_one_segment_each() {
        assert_eq!(regex("/api/orders"), r"/api/orders(\?.*)?");
        assert_eq!(regex("/api/orders/{id}:cancel"), r"/api/orders/[^/?:]+:cancel(\?.*)?");
    }
}
