//! Answers as HTTP.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use serde_json::Value;
use uuid::Uuid;

use super::connection::Cut;
use crate::{ledger::Answer, stripe::Problem};

/// A body: whole, or told piece by piece.
pub(super) type Body = UnsyncBoxBody<Bytes, Cut>;

/// That an answer was kept from an earlier request.
const REPLAYED: &str = "idempotent-replayed";
/// By which Stripe's support finds a request.
const REQUEST_ID: &str = "request-id";

/// This status with this body.
pub(super) fn respond(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed_unsync());
    // Every status here is one of ours, or one of these that was kept.
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// This object.
pub(super) fn json(value: &Value) -> Response<Body> {
    respond(200, "application/json", value.to_string())
}

/// An answer of Stripe's API.
pub(super) fn stripe(answer: Answer) -> Response<Body> {
    let Answer { status, body, replayed } = answer;
    let mut response = respond(status, "application/json", body);
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&format!("req_{}", Uuid::now_v7().simple())) {
        headers.insert(REQUEST_ID, id);
    }
    if replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    match status {
        401 => drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"Stripe\""))),
        429 => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("1"))),
        _ => {}
    }
    response
}

/// A problem, in Stripe's shape.
pub(super) fn problem(problem: &Problem) -> Response<Body> {
    stripe(Answer::problem(problem))
}
