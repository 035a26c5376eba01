//! Between HTTP and the socket: writes an answer's bytes twice, or half of them and no more, when a request's handler has armed it.
//!
//! HTTP writes an answer and then flushes. So an armed tap holds what is written until the flush, and lets go then what the
//! trick leaves of it. What isn't armed passes through untouched.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const NONE: u8 = 0;
const TWICE: u8 = 1;
const CUT: u8 = 2;

/// What is to be done with the next answer's bytes. Shared by a connection's handler and its tap.
#[derive(Clone, Debug, Default)]
pub(super) struct Trick(Arc<AtomicU8>);

impl Trick {
    /// They are written twice.
    pub(super) fn twice(&self) {
        self.0.store(TWICE, Ordering::Release);
    }

    /// Half of them are written, and the connection is cut.
    pub(super) fn cut(&self) {
        self.0.store(CUT, Ordering::Release);
    }
}

/// A stream whose writes can be tampered with.
pub(super) struct Tap<S> {
    stream: S,
    trick: Trick,
    /// Written while armed, not flushed yet.
    held: Vec<u8>,
    /// What is left to be let go.
    leaving: Vec<u8>,
    /// How much of it has left.
    left: usize,
    /// Once it has, the stream fails.
    cut: bool,
}

impl<S> Tap<S> {
    /// A tap on a stream.
    pub(super) fn new(stream: S, trick: Trick) -> Self {
        Self { stream, trick, held: Vec::new(), leaving: Vec::new(), left: 0, cut: false }
    }

    /// Decides what becomes of what is held.
    fn release(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let mut held = std::mem::take(&mut self.held);
        match self.trick.0.swap(NONE, Ordering::AcqRel) {
            TWICE => held.extend_from_within(..),
            CUT => {
                held.truncate(held.len() / 2);
                self.cut = true;
            }
            _ => {}
        }
        self.leaving = held;
        self.left = 0;
    }
}

impl<S: AsyncWrite + Unpin> Tap<S> {
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.left < self.leaving.len() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.leaving[self.left..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.left += written;
        }
        self.leaving.clear();
        self.left = 0;
        if self.cut {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_leave(cx))?;
        if self.trick.0.load(Ordering::Acquire) == NONE {
            return Pin::new(&mut self.stream).poll_write(cx, bytes);
        }
        self.held.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_leave(cx))?;
        self.release();
        ready!(self.poll_leave(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn an_answer_is_written_once_twice_or_by_half() {
        let (mut near, far) = tokio::io::duplex(1024);
        let trick = Trick::default();
        let mut tap = Tap::new(far, trick.clone());

        tap.write_all(b"one ").await.unwrap();
        tap.flush().await.unwrap();
        trick.twice();
        tap.write_all(b"tw").await.unwrap();
        tap.write_all(b"o ").await.unwrap();
        tap.flush().await.unwrap();
        tap.write_all(b"one ").await.unwrap();
        tap.flush().await.unwrap();
        trick.cut();
        tap.write_all(b"halves").await.unwrap();
        assert_eq!(tap.flush().await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        drop(tap);

        let mut all = String::new();
        near.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "one two two one hal");
    }
}
