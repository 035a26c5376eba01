//! Which span a thread is working in just now, so that log lines can name it.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::Span;

/// A trace and a span of it.
pub(super) type Ids = ([u8; 16], [u8; 8]);

thread_local! {
    static CURRENT: Cell<Option<Ids>> = const { Cell::new(None) };
}

/// The trace and the span that this thread is working in, if any.
pub fn current() -> Option<Ids> {
    CURRENT.get()
}

/// Makes a span the current one until it is dropped.
pub(super) struct Entered<'a> {
    before: Option<Ids>,
    _tracing: tracing::span::Entered<'a>,
}

pub(super) fn enter<'a>(ids: Ids, span: &'a tracing::Span) -> Entered<'a> {
    Entered { before: CURRENT.replace(Some(ids)), _tracing: span.enter() }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

pin_project! {
    /// A future whose every step happens in a span.
    #[derive(Debug)]
    pub struct InSpan<F> {
        #[pin]
        future: F,
        span: Span,
    }
}

impl<F> InSpan<F> {
    pub(super) fn new(span: Span, future: F) -> Self {
        Self { future, span }
    }
}

impl<F: Future> Future for InSpan<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let future = this.future;
        this.span.within(|| future.poll(cx))
    }
}
