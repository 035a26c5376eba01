//! The layer around every service.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::FutureExt as _;
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body, service::Routes};
use tower::{Layer, Service};

use super::{
    answer::{Answer, Ongoing},
    deadline::{MAX, deadline},
    methods::{Methods, code_name},
};
use crate::{
    grpc::{Call, Fault, auth::Verifier},
    telemetry::{Span, TraceContext},
};

/// Puts a server's services behind what every call passes.
#[derive(Clone, Debug)]
pub(in crate::grpc) struct EdgeLayer(Arc<Common>);

/// What all calls of a server share.
#[derive(Debug)]
struct Common {
    methods: Arc<Methods>,
    verifier: Verifier,
    /// Ends every stream.
    stop: CancellationToken,
}

/// The services of a server, behind what every call passes.
#[derive(Clone, Debug)]
pub(in crate::grpc) struct Edge {
    common: Arc<Common>,
    routes: Routes,
}

impl EdgeLayer {
    pub(in crate::grpc) fn new(methods: Arc<Methods>, verifier: Verifier, stop: CancellationToken) -> Self {
        Self(Arc::new(Common { methods, verifier, stop }))
    }
}

impl Layer<Routes> for EdgeLayer {
    type Service = Edge;

    fn layer(&self, routes: Routes) -> Edge {
        Edge { common: Arc::clone(&self.0), routes }
    }
}

impl Service<Request<Body>> for Edge {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.routes, cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // Taken before the call is made: tonic starts its own clock only afterwards.
        let now = Instant::now();
        let mut routes = self.routes.clone();
        let common = Arc::clone(&self.common);
        Box::pin(async move {
            let response = if is_open(request.uri().path()) {
                // Strangers call these: what they never send whole is not waited for for ever.
                let Ok(response) = timeout_at(now + MAX, routes.call(request)).await else {
                    return Ok(Status::from(Fault::deadline_exceeded()).into_http());
                };
                let response = response?;
                if let Some(status) = unexplained(response.headers()) {
                    return Ok(answered(&explained(&status), response.headers()));
                }
                let stop = Some(common.stop.clone().cancelled_owned());
                response.map(|body| Body::new(Answer::new(body, None, stop)))
            } else {
                common.answer(request, routes, now).await
            };
            Ok(response)
        })
    }
}

/// Health and reflection are for everyone.
fn is_open(path: &str) -> bool {
    path.starts_with("/grpc.health.") || path.starts_with("/grpc.reflection.")
}

impl Common {
    async fn answer(&self, mut request: Request<Body>, mut routes: Routes, now: Instant) -> Response<Body> {
        let method = self.methods.find(request.uri().path());
        let span = Span::server(parent(request.headers()).as_ref(), &method.path);
        let mut ongoing = Ongoing::begin(&self.methods, method, span.clone(), now);

        let handled = match deadline(request.headers(), now) {
            Err(fault) => Ok(Err(fault)),
            Ok(deadline) => {
                let handle = async {
                    let caller = self.verifier.verify(bearer(request.headers())?).await?;
                    let trace = span.context().clone();
                    request.extensions_mut().insert(Call { caller, deadline, trace });
                    let Ok(response) = routes.call(request).await;
                    Ok(response)
                };
                let handle = span.run(AssertUnwindSafe(handle).catch_unwind());
                // Of a stream it is when that begins.
                if deadline <= now {
                    Ok(Err(Fault::deadline_exceeded()))
                } else {
                    timeout_at(deadline, handle).await.unwrap_or_else(|_| Ok(Err(Fault::deadline_exceeded())))
                }
            }
        };
        let response = match handled {
            Ok(Ok(response)) => response,
            Ok(Err(fault)) => Status::from(fault).into_http(),
            Err(panic) => ongoing.panicked(&*panic).into_http(),
        };

        // A status among the headers is the whole answer.
        match Status::from_header_map(response.headers()) {
            Some(status) => {
                let Some(status) = unexplained(response.headers()) else {
                    ongoing.answered(&status);
                    return response;
                };
                let status = explained(&status);
                ongoing.answered(&status);
                answered(&status, response.headers())
            }
            None => {
                let stop = method.streams.then(|| self.stop.clone().cancelled_owned());
                response.map(|body| Body::new(Answer::new(body, Some(ongoing), stop)))
            }
        }
    }
}

/// The status that is the whole answer, if it is one of tonic's own, from before the handler ran: what handlers answer,
/// faults, has a reason.
fn unexplained(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers).filter(|status| status.code() != Code::Ok && status.details().is_empty())
}

/// A status as the whole answer, with what tonic's own said of the encodings that it accepts.
fn answered(status: &Status, of: &HeaderMap) -> Response<Body> {
    const ACCEPTED: &str = "grpc-accept-encoding";
    let mut response = status.clone().into_http();
    if let Some(accepted) = of.get(ACCEPTED) {
        response.headers_mut().insert(ACCEPTED, accepted.clone());
    }
    response
}

/// A status of tonic's own with the reason that it lacks.
fn explained(status: &Status) -> Status {
    let message = status.message().to_owned();
    let fault = match status.code() {
        // What came was no message, or badly framed or compressed.
        Code::Internal => Fault::new(Code::InvalidArgument, "MALFORMED_MESSAGE", message),
        Code::OutOfRange | Code::ResourceExhausted => Fault::new(Code::ResourceExhausted, "MESSAGE_TOO_LARGE", message),
        Code::Unimplemented if message.is_empty() => {
            Fault::new(Code::Unimplemented, "UNKNOWN_METHOD", "there is no such method here")
        }
        code => Fault::new(code, code_name(code), message),
    };
    fault.into()
}

/// The token of a call that has exactly one.
fn bearer(headers: &HeaderMap) -> Result<&str, Fault> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let missing = || Fault::unauthenticated("TOKEN_MISSING", "the metadata need `authorization: Bearer <token>`");
    let value = given.next().ok_or_else(missing)?;
    if given.next().is_some() {
        return Err(Fault::unauthenticated("TOKEN_INVALID", "the metadata have more than one `authorization`"));
    }
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(missing)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim_start_matches(' ')) } else { Err(missing()) }
}

/// The span that a call says it belongs to, in W3C's words or else in Jaeger's.
fn parent(headers: &HeaderMap) -> Option<TraceContext> {
    let w3c = || {
        let states: Option<Vec<_>> = headers.get_all("tracestate").iter().map(|state| state.to_str().ok()).collect();
        // Several headers are one list, in their order.
        let state = states.map(|states| states.join(","));
        TraceContext::parse(only(headers, "traceparent")?, state.as_deref())
    };
    w3c().or_else(|| TraceContext::parse_uber(only(headers, "uber-trace-id")?))
}

/// The value of a header that is there once.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    value.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const W3C: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const UBER: &str = "0af7651916cd43dd8448eb211c80319c:b7ad6b7169203331:0:1";
    const UBER_AS_W3C: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_callers_span_is_told_by_traceparent_or_else_by_uber_trace_id() {
        for (given, expected) in [
            (&[][..], None),
            (&[("traceparent", W3C)], Some(W3C)),
            (&[("uber-trace-id", UBER)], Some(UBER_AS_W3C)),
            (&[("uber-trace-id", UBER), ("traceparent", W3C)], Some(W3C)),
            // One that says nothing is none.
            (&[("uber-trace-id", UBER), ("traceparent", "00-nonsense")], Some(UBER_AS_W3C)),
            (&[("uber-trace-id", UBER), ("traceparent", W3C), ("traceparent", W3C)], Some(UBER_AS_W3C)),
            (&[("uber-trace-id", "nonsense"), ("traceparent", W3C)], Some(W3C)),
            (&[("uber-trace-id", UBER), ("uber-trace-id", UBER)], None),
            (&[("uber-trace-id", "0:0:0:0")], None),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in given {
                headers.append(*name, value.parse().unwrap());
            }
            let found = parent(&headers).map(|context| context.traceparent());
            assert_eq!(found.as_deref(), expected, "{given:?}");
        }
    }
}
