//! The SQLSTATE of a server's errors, read off the wire.
//!
//! diesel-async folds most SQLSTATEs into one "unknown" kind and keeps the code to itself, and the message beside it is
//! in the server's language. What to do about an error hangs on the code, so this reads it where it passes: the
//! protocol frames every message with a type byte and a length, so that finding the few `ErrorResponse`s costs next to
//! nothing. Protocol: <https://www.postgresql.org/docs/current/protocol-message-formats.html>.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Five characters that say what went wrong, as the SQL standard and Postgres number it.
pub(super) type SqlState = [u8; 5];

/// An error of the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServerError {
    pub(super) state: SqlState,
    /// Whether it names the constraint that was violated.
    pub(super) names_constraint: bool,
}

/// The first error since the last [`take`](Self::take): in a pipeline, the ones behind it only say that the
/// transaction is aborted.
#[derive(Clone, Debug, Default)]
pub(super) struct FirstError(Arc<Mutex<Option<ServerError>>>);

impl FirstError {
    pub(super) fn take(&self) -> Option<ServerError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note(&self, error: ServerError) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// A stream from a server whose errors are noted as they pass.
pub(super) struct Tap<S> {
    stream: S,
    scanner: Scanner,
    first_error: FirstError,
}

impl<S> Tap<S> {
    pub(super) fn new(stream: S, first_error: FirstError) -> Self {
        Self { stream, scanner: Scanner::default(), first_error }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let tap = &mut *self;
        let before = buf.filled().len();
        ready!(Pin::new(&mut tap.stream).poll_read(cx, buf))?;
        tap.scanner.scan(&buf.filled()[before..], |error| tap.first_error.note(error));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A message's type byte and its length, which counts itself.
pub(super) const HEADER: usize = 5;
/// An `ErrorResponse`'s first fields are its severity and its SQLSTATE; what is beyond this, which only rows and queries that it
/// quotes can fill, is not kept.
const KEPT: usize = 4096;

/// Walks the frames of the server's messages, however they are cut into reads.
#[derive(Default)]
struct Scanner {
    header: Vec<u8>,
    /// Bytes of the present message's body still to come.
    remaining: usize,
    /// The beginning of the present message's body, if it is an error.
    error: Option<Vec<u8>>,
}

impl Scanner {
    fn scan(&mut self, mut bytes: &[u8], mut found: impl FnMut(ServerError)) {
        while !bytes.is_empty() {
            if self.remaining > 0 {
                let (body, rest) = bytes.split_at(self.remaining.min(bytes.len()));
                if let Some(error) = &mut self.error {
                    error.extend(body.iter().take(KEPT.saturating_sub(error.len())));
                }
                self.remaining -= body.len();
                bytes = rest;
                if self.remaining == 0
                    && let Some(error) = self.error.take().as_deref().and_then(server_error)
                {
                    found(error);
                }
                continue;
            }
            let (head, rest) = bytes.split_at((HEADER - self.header.len()).min(bytes.len()));
            self.header.extend(head);
            bytes = rest;
            if let [kind, a, b, c, d] = self.header[..] {
                self.header.clear();
                self.remaining = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(4);
                self.error = (kind == b'E').then(Vec::new);
            }
        }
    }
}

/// An error by its fields, each a type byte and a text that ends with a zero: `C` is the SQLSTATE, `n` the constraint. One
/// that is not here whole may have named one.
fn server_error(body: &[u8]) -> Option<ServerError> {
    let mut fields = body.split(|byte| *byte == 0);
    let state = fields.find_map(|field| field.strip_prefix(b"C"))?.try_into().ok()?;
    let names_constraint = body.len() >= KEPT || fields.any(|field| field.starts_with(b"n"));
    Some(ServerError { state, names_constraint })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[kind][..], &length, body].concat()
    }

    #[test]
    fn an_errors_code_is_found_however_the_bytes_are_cut() {
        let locked = b"SERROR\0VERROR\0C55P03\0Mcanceling statement due to lock timeout\0\0";
        let violated = b"SERROR\0VERROR\0C23514\0Mnew row violates a check\0sx\0tcounters\0nvalue_check\0\0";
        let long = [b"SERROR\0C23514\0D", &[b'x'; KEPT][..], b"\0nvalue_check\0\0"].concat();
        let bytes = [
            message(b'2', b""),
            message(b'D', b"CXX000\0"),
            message(b'E', locked),
            message(b'Z', b"E"),
            message(b'E', violated),
            message(b'E', &long),
        ]
        .concat();
        let of = |state: &SqlState, names_constraint| ServerError { state: *state, names_constraint };
        let expected = [of(b"55P03", false), of(b"23514", true), of(b"23514", true)];
        for cut in 1..bytes.len() {
            let mut scanner = Scanner::default();
            let mut found = Vec::new();
            for piece in bytes.chunks(cut) {
                scanner.scan(piece, |error| found.push(error));
            }
            assert_eq!(found, expected, "cut every {cut} bytes");
        }
    }
}
