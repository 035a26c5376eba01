//! Which path leads where; what all requests have in common.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use super::{
    Context,
    answer::{self, Body},
    auth,
    connection::Cut,
    operators, stripe_api,
    tap::Trick,
};
use crate::{
    ledger::LedgerError,
    stripe::{Form, Problem},
};

/// A request's body, and how long it may take to come.
const BODY_BYTES: usize = 64 * 1024;
const BODY_TIME: Duration = Duration::from_secs(10);

/// A request that has been read whole.
pub(super) struct Asked {
    pub(super) headers: HeaderMap,
    pub(super) path: String,
    pub(super) query: Form,
    pub(super) body: Bytes,
}

/// Why a request isn't answered as it was meant.
pub(super) enum Failure {
    /// It is answered with this.
    Problem(Problem),
    /// Its connection is cut.
    Cut,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<LedgerError> for Failure {
    /// Whether something was done is unknown then: nothing may be said that sounds definite.
    fn from(error: LedgerError) -> Self {
        tracing::error!(%error, "a request has no answer");
        Self::Cut
    }
}

/// Answers a request, or has its connection cut.
pub(super) async fn answer(
    context: &Context,
    trick: &Trick,
    request: Request<Incoming>,
) -> Result<Response<Body>, Cut> {
    let method = request.method().clone();
    let answered = match read(request).await {
        Ok(asked) => route(context, trick, &method, &asked).await,
        Err(problem) => Err(Failure::Problem(problem)),
    };
    match answered {
        Ok(response) => Ok(response),
        Err(Failure::Problem(problem)) => Ok(answer::problem(&problem)),
        Err(Failure::Cut) => Err(Cut),
    }
}

async fn read(request: Request<Incoming>) -> Result<Asked, Problem> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let query = Form::parse(parts.uri.query().unwrap_or_default().as_bytes());
    let body = tokio::time::timeout(BODY_TIME, Limited::new(body, BODY_BYTES).collect()).await;
    match body {
        Ok(Ok(body)) => Ok(Asked { headers: parts.headers, path, query, body: body.to_bytes() }),
        Ok(Err(_)) | Err(_) => Err(Problem::too_large()),
    }
}

async fn route(context: &Context, trick: &Trick, method: &Method, asked: &Asked) -> Result<Response<Body>, Failure> {
    let segments: Vec<_> = asked.path.split('/').skip(1).collect();
    if segments.first() == Some(&"v1") {
        auth::check(&asked.headers)?;
    }
    match (method.as_str(), segments.as_slice()) {
        ("POST", ["v1", "payment_intents"]) => stripe_api::charge(context, trick, asked).await,
        ("GET", ["v1", "payment_intents", "search"]) => stripe_api::search(context, asked).await,
        ("GET", ["v1", "payment_intents", id]) => stripe_api::intent(context, id).await,
        ("POST", ["v1", "refunds"]) => stripe_api::refund(context, trick, asked).await,
        ("GET", ["v1", "refunds"]) => stripe_api::refunds(context, asked).await,
        ("GET", ["v1", "refunds", id]) => stripe_api::one_refund(context, id).await,
        ("GET", ["healthz"]) => Ok(operators::healthz(context)),
        ("GET", ["sandbox", "ledger"]) => operators::ledger(context, asked).await,
        ("GET", ["sandbox", "totals"]) => operators::totals(context).await,
        ("POST", ["sandbox", "faults"]) => operators::add_fault(context, asked),
        ("GET", ["sandbox", "faults"]) => Ok(operators::faults(context)),
        ("DELETE", ["sandbox", "faults"]) => Ok(operators::clear_faults(context)),
        (method, _) => Err(Problem::unrecognized(method, &asked.path).into()),
    }
}
