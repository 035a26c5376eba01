//! How a call ends: counted once, its span closed, whichever way it went.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt as _;

use super::methods::{Method, Methods, code_name};
use crate::{grpc::Fault, telemetry::Span};

/// A call on its way. When it is dropped, it is over: by then it was told how, or else its caller went away.
#[derive(Debug)]
pub(super) struct Ongoing {
    pub(super) methods: Arc<Methods>,
    pub(super) method: Arc<Method>,
    pub(super) span: Span,
    pub(super) since: Instant,
    pub(super) code: Code,
}

impl Ongoing {
    pub(super) fn begin(methods: &Arc<Methods>, method: &Arc<Method>, span: Span, since: Instant) -> Self {
        method.in_flight.inc();
        Self { methods: Arc::clone(methods), method: Arc::clone(method), span, since, code: Code::Cancelled }
    }

    /// The answer is this status.
    pub(super) fn answered(&mut self, status: &Status) {
        self.code = status.code();
        // Of a refusal, too, its reason is told; decoding it is for those who look.
        if status.code() != Code::Ok
            && self.span.is_recorded()
            && let Some(info) = status.get_details_error_info()
        {
            self.span.attribute("ticketing.reason", info.reason);
        }
    }

    /// The handler panicked: says so, and answers for it.
    pub(super) fn panicked(&self, panic: &(dyn Any + Send)) -> Status {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text");
        self.span.within(|| tracing::error!(rpc = self.method.path, panic = text, "a handler panicked"));
        self.methods.panicked();
        Fault::internal().into()
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        let Self { method, span, since, code, .. } = self;
        method.in_flight.dec();
        method.seconds.observe(since.elapsed().as_secs_f64());
        if let Some(calls) = method.calls.get(*code as usize) {
            calls.inc();
        }
        span.attribute("rpc.grpc.status_code", *code as i64);
        // Of a server's span, only what is the server's fault is an error.
        if matches!(
            code,
            Code::Unknown
                | Code::DeadlineExceeded
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss
        ) {
            span.error(code_name(*code));
        }
    }
}

pin_project! {
    /// An answer's body, followed to its end.
    pub(super) struct Answer {
        #[pin]
        body: Body,
        // What is told of its end; nothing is of health's and reflection's.
        ongoing: Option<Ongoing>,
        // When set, the server's stop ends the answer.
        #[pin]
        stop: Option<WaitForCancellationFutureOwned>,
        ended: bool,
    }
}

impl Answer {
    pub(super) fn new(body: Body, ongoing: Option<Ongoing>, stop: Option<WaitForCancellationFutureOwned>) -> Self {
        Self { body, ongoing, stop, ended: false }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        if let Some(stop) = this.stop.as_pin_mut()
            && stop.poll(cx).is_ready()
        {
            let fault = Fault::unavailable("SHUTTING_DOWN", "the server is shutting down: call again");
            return Poll::Ready(Some(Ok(end(this.ended, this.ongoing, &fault.into()))));
        }

        let body = this.body;
        let step = || match this.ongoing {
            Some(ongoing) => ongoing.span.clone().within(|| body.poll_frame(cx)),
            None => body.poll_frame(cx),
        };
        let frame = match catch_unwind(AssertUnwindSafe(step)) {
            Ok(polled) => ready!(polled),
            Err(panic) => {
                let status = this.ongoing.as_ref().map(|ongoing| ongoing.panicked(&*panic));
                let status = status.unwrap_or_else(|| Fault::internal().into());
                return Poll::Ready(Some(Ok(end(this.ended, this.ongoing, &status))));
            }
        };
        // The last frame of an answer says how it went; a body that just ends didn't say, and its caller will not know.
        if let Some(Ok(last)) = &frame
            && let Some(trailers) = last.trailers_ref()
        {
            let status = Status::from_header_map(trailers).unwrap_or_else(|| Status::unknown("no status"));
            if status.code() != Code::Ok && status.details().is_empty() {
                let fault = Fault::new(status.code(), code_name(status.code()), status.message().to_owned());
                return Poll::Ready(Some(Ok(end(this.ended, this.ongoing, &fault.into()))));
            }
            if let Some(ongoing) = this.ongoing {
                ongoing.answered(&status);
            }
        }
        Poll::Ready(frame)
    }
}

/// The last frame of an answer that ends otherwise than its handler meant.
fn end(ended: &mut bool, ongoing: &mut Option<Ongoing>, status: &Status) -> Frame<Bytes> {
    *ended = true;
    if let Some(mut ongoing) = ongoing.take() {
        ongoing.answered(status);
    }
    let mut trailers = HeaderMap::new();
    // Fails only on a message that no header holds; ours are percent-encoded, and a bare end of stream would say the same.
    let _ = status.add_header(&mut trailers);
    Frame::trailers(trailers)
}
