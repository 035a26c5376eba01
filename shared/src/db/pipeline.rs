//! What is sent together is synchronized once.
//!
//! The protocol lets a client send many statements and one `Sync` behind them, which the server answers in one piece.
//! tokio-postgres sends a `Sync` behind each, and at every one the server writes to its socket and wakes whoever reads it:
//! eight times for a transaction of eight statements, each of which may take less time than that. This leaves out every
//! `Sync` but the last of what is written at once, and says `ReadyForQuery` to the client in the server's stead.
//!
//! After an error the server skips what comes before the next `Sync`. That is all that would be refused in a transaction
//! which an error has aborted, so the client is told of each skipped statement what the server would have said then. Outside
//! a transaction, statements without a `Sync` between them are one of their own: this is for connections on which whatever
//! is sent together belongs to one transaction that is begun and ended expressly.
//!
//! Protocol: <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING>.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::{poll_read_buf, poll_write_buf};

/// So many bytes may wait to be written before more are taken.
const WAITING: usize = 64 * 1024;

/// Bytes to be read at once.
const READ: usize = 16 * 1024;

/// A client's stream to its server.
pub(super) struct Pipeline<S> {
    stream: S,
    requests: Requests,
    replies: Replies,
    /// What was asked for and not yet answered, oldest first.
    asked: VecDeque<Asked>,
}

/// One of the client's requests: what it ends with a `Sync` of its own, or a simple query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// Its `Sync` was left out: it is over after so many replies.
    Within { replies: usize },
    /// The server says itself when it is over.
    Last,
}

impl<S> Pipeline<S> {
    /// A stream on which nothing was sent yet.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, requests: Requests::default(), replies: Replies::default(), asked: VecDeque::new() }
    }
}

impl<S: AsyncWrite + Unpin> Pipeline<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.requests.out.has_remaining() {
            if ready!(poll_write_buf(Pin::new(&mut self.stream), cx, &mut self.requests.out))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Pipeline<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.requests.out.len() >= WAITING {
            ready!(this.poll_drain(cx))?;
        }
        this.requests.take(bytes, &mut this.asked)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.requests.synchronize(&mut this.asked);
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Pipeline<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.replies.out.is_empty() {
            this.replies.cut.reserve(READ);
            if ready!(poll_read_buf(Pin::new(&mut this.stream), cx, &mut this.replies.cut))? == 0 {
                return Poll::Ready(Ok(()));
            }
            this.replies.pass(&mut this.asked)?;
        }
        let ready = this.replies.out.len().min(buf.remaining());
        buf.put_slice(&this.replies.out[..ready]);
        this.replies.out.advance(ready);
        Poll::Ready(Ok(()))
    }
}

/// A message's type byte and its length, which counts itself.
const HEADER: usize = 5;
const SYNC: [u8; HEADER] = [b'S', 0, 0, 0, 4];
/// A transaction is open, as far as the client needs to know.
const READY: [u8; 6] = [b'Z', 0, 0, 0, 5, b'T'];
/// What a server answers within a transaction that is aborted: severity, severity, SQLSTATE, message.
const ABORTED: &[u8] = b"E\0\0\0\x4bSERROR\0VERROR\0C25P02\0Mskipped behind an error in the same transaction\0\0";

/// The first message of these bytes, once it is there whole, with its type.
fn message(bytes: &[u8]) -> io::Result<Option<(u8, &[u8])>> {
    let Some(&[kind, a, b, c, d]) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length < HEADER - 1 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message shorter than its own length"));
    }
    Ok(bytes.get(..=length).map(|message| (kind, message)))
}

/// From the client to the server.
#[derive(Default)]
struct Requests {
    /// Whether the first message is through, which has no type.
    started: bool,
    /// A message that isn't there whole yet.
    cut: BytesMut,
    /// To be written.
    out: BytesMut,
    /// How many replies the present request will have, as far as it goes.
    replies: usize,
    /// How many the one before will have, whose `Sync` was not written: it is left out if more follows before the next flush.
    held: Option<usize>,
}

impl Requests {
    fn take(&mut self, bytes: &[u8], asked: &mut VecDeque<Asked>) -> io::Result<()> {
        self.cut.extend_from_slice(bytes);
        if !self.started {
            let Some(length) = self.cut.first_chunk().map(|length| u32::from_be_bytes(*length) as usize) else {
                return Ok(());
            };
            let Some(startup) = self.cut.get(..length) else { return Ok(()) };
            self.out.extend_from_slice(startup);
            self.cut.advance(length);
            self.started = true;
        }
        // Taken out while it is walked over.
        let mut cut = std::mem::take(&mut self.cut);
        while let Some((kind, message)) = message(&cut)? {
            match kind {
                b'S' if self.replies > 0 => self.held = Some(std::mem::take(&mut self.replies)),
                // Parse, Bind, Describe, Execute, Close: each has one reply, and is skipped after an error.
                b'P' | b'B' | b'D' | b'E' | b'C' => {
                    asked.extend(self.held.take().map(|replies| Asked::Within { replies }));
                    self.replies += 1;
                    self.out.extend_from_slice(message);
                }
                // What the server ends itself, a simple query and a `Sync` alone; and what has no end.
                _ => {
                    self.synchronize(asked);
                    asked.extend(matches!(kind, b'Q' | b'S').then_some(Asked::Last));
                    self.out.extend_from_slice(message);
                }
            }
            let length = message.len();
            cut.advance(length);
        }
        self.cut = cut;
        Ok(())
    }

    /// Nothing more is coming for now: the server is to answer.
    fn synchronize(&mut self, asked: &mut VecDeque<Asked>) {
        if self.held.take().is_some() {
            asked.push_back(Asked::Last);
            self.out.extend_from_slice(&SYNC);
        }
    }
}

/// From the server to the client.
#[derive(Default)]
struct Replies {
    /// A message that isn't there whole yet.
    cut: BytesMut,
    /// To be read.
    out: BytesMut,
}

impl Replies {
    fn pass(&mut self, asked: &mut VecDeque<Asked>) -> io::Result<()> {
        let mut cut = std::mem::take(&mut self.cut);
        while let Some((kind, message)) = message(&cut)? {
            self.out.extend_from_slice(message);
            match kind {
                b'Z' => {
                    asked.pop_front();
                }
                b'E' => self.skip(asked),
                // Complete: Parse, Bind, Close, a command, none; a row's description, no rows; a portal suspended.
                b'1' | b'2' | b'3' | b'C' | b'I' | b'T' | b'n' | b's' => {
                    if let Some(Asked::Within { replies }) = asked.front_mut() {
                        *replies = replies.saturating_sub(1);
                        if *replies == 0 {
                            asked.pop_front();
                            self.out.extend_from_slice(&READY);
                        }
                    }
                }
                // Rows, notices, parameters and the like end nothing.
                _ => {}
            }
            let length = message.len();
            cut.advance(length);
        }
        self.cut = cut;
        Ok(())
    }

    /// An error ended the oldest request. Those behind it are skipped, up to the one that had its `Sync`.
    fn skip(&mut self, asked: &mut VecDeque<Asked>) {
        while let Some(Asked::Within { .. }) = asked.front() {
            asked.pop_front();
            self.out.extend_from_slice(&READY);
            self.out.extend_from_slice(ABORTED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(kinds: &str) -> Vec<u8> {
        let one = |kind: u8| -> Vec<u8> {
            let body: &[u8] = match kind {
                b'S' => &[],
                b'Z' => b"T",
                b'A' => return ABORTED.to_vec(),
                _ => b"whatever",
            };
            [&[kind][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat()
        };
        kinds.bytes().flat_map(one).collect()
    }

    fn startup() -> Vec<u8> {
        [&12u32.to_be_bytes()[..], b"startups"].concat()
    }

    /// What the server gets of what was sent up to each flush, and what the client gets of the server's answers to it.
    fn exchange(sent: &[&str], answered: &str, cut: usize) -> (Vec<u8>, Vec<u8>) {
        let (mut requests, mut replies, mut asked) = (Requests::default(), Replies::default(), VecDeque::new());
        requests.take(&startup(), &mut asked).unwrap();
        for flushed in sent {
            messages(flushed).chunks(cut).for_each(|bytes| requests.take(bytes, &mut asked).unwrap());
            requests.synchronize(&mut asked);
        }
        messages(answered).chunks(cut).for_each(|bytes| {
            replies.cut.extend_from_slice(bytes);
            replies.pass(&mut asked).unwrap();
        });
        assert_eq!(asked, [], "{sent:?} {answered}");
        (requests.out.to_vec(), replies.out.to_vec())
    }

    #[test]
    fn what_is_sent_together_is_synchronized_once_and_each_request_is_answered() {
        // Sent by the client, a text for each flush; what the server gets; what it answers; what the client gets. `A` is the
        // error of what was skipped.
        let cases: [(&[&str], &str, &str, &str); 10] = [
            (&["BES"], "BES", "2CZ", "2CZ"),
            (&["BES", "BES"], "BESBES", "2CZ2DDCZ", "2CZ2DDCZ"),
            (&["BESBESBES"], "BEBEBES", "2C2DDC2CZ", "2CZ2DDCZ2CZ"),
            (&["PDSBESCS"], "PDBECS", "1tT2DI3Z", "1tTZ2DIZ3Z"),
            (&["PDSBES"], "PDBES", "1tn2sZ", "1tnZ2sZ"),
            // An error skips what is behind it up to the next Sync, and nothing beyond.
            (&["BESBESBES", "BES"], "BEBEBESBES", "2C2EZ2CZ", "2CZ2EZAZ2CZ"),
            (&["PDSBESBES"], "PDBEBES", "EZ", "EZAZAZ"),
            (&["BESBES"], "BEBES", "2C2EZ", "2CZ2EZ"),
            // A simple query has an end of its own, and isn't reached over an error.
            (&["BESQBES"], "BESQBES", "2EZTDCZ2CZ", "2EZTDCZ2CZ"),
            // Notices and parameters come whenever they like; a Sync alone is one.
            (&["BESBES", "S"], "BEBESS", "2NC2SCZZ", "2NCZ2SCZZ"),
        ];
        for (sent, got, answered, read) in cases {
            for cut in 1..40 {
                let expected = ([startup(), messages(got)].concat(), messages(read));
                // Of the client's alphabet and the server's, `E` and `C` are in both: the bodies don't matter here.
                assert_eq!(exchange(sent, answered, cut), expected, "{sent:?}, cut every {cut} bytes");
            }
        }
    }

    #[test]
    fn what_is_said_of_the_skipped_is_one_whole_message() {
        assert_eq!(message(ABORTED).unwrap(), Some((b'E', ABORTED)));
    }

    #[test]
    fn a_message_shorter_than_its_own_length_is_no_message() {
        assert!(message(b"C\0\0\0\x03").is_err());
    }
}
