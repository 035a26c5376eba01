//! One `Sync` for each flush.
//!
//! The protocol lets a client send many statements and one `Sync` behind them, which the server answers in one piece.
//! tokio-postgres sends a `Sync` behind each, and at every one the server writes to its socket and wakes whoever reads it:
//! eight times for a transaction of eight statements, each of which may take less time than that. [`Pipeline`] leaves out
//! every `Sync` but the last before a flush, and says `ReadyForQuery` to the client for the ones left out. (tokio-postgres
//! flushes at the end of what it has to send, and at every 8 KiB.)
//!
//! After an error the server skips everything up to the next `Sync`. In an aborted transaction it would refuse those
//! statements anyway, and the client is told just that of each (25P02). COMMIT and ROLLBACK are the exception: skipped, they
//! end nothing, so that after an error the client must send a ROLLBACK in a later flush. Outside a transaction, statements
//! without a `Sync` between them are one of their own. So this is for connections on which statements in flight together
//! lie within one BEGIN and its COMMIT; a statement alone stands for itself. COPY isn't for them.
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

use super::sqlstate::HEADER;

/// Above so many bytes `poll_write` writes before it takes more.
const MAX_UNWRITTEN: usize = 64 * 1024;
/// Bytes that are read at once.
const READ_SIZE: usize = 16 * 1024;

const SYNC: [u8; HEADER] = [b'S', 0, 0, 0, 4];
/// `ReadyForQuery`, in a transaction. tokio-postgres ignores which status it tells of.
const READY: [u8; 6] = [b'Z', 0, 0, 0, 5, b'T'];
/// What the client is told of a skipped request: severity, severity, SQLSTATE, message.
const SKIPPED: &[u8] = b"E\0\0\0\x4bSERROR\0VERROR\0C25P02\0Mskipped behind an error in the same transaction\0\0";

/// A client's stream to its server. Nothing reaches the server before its `Sync` and its entry in `in_flight` exist: an
/// error is answered at once, and all that it makes the server skip must be known by then.
pub(super) struct Pipeline<S> {
    stream: S,
    requests: Requests,
    replies: Replies,
    /// What was sent and isn't answered yet, oldest first.
    in_flight: VecDeque<Request>,
}

/// What the client ended with a `Sync`, or a simple query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    /// Its `Sync` was left out: it ends after so many replies.
    Unsynced { replies_left: usize },
    /// It ends when the server says `ReadyForQuery`.
    Synced,
}

impl<S> Pipeline<S> {
    /// A stream on which nothing was sent yet.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, requests: Requests::default(), replies: Replies::default(), in_flight: VecDeque::new() }
    }
}

impl<S: AsyncWrite + Unpin> Pipeline<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.requests.synchronize(&mut self.in_flight);
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
        if this.requests.out.len() >= MAX_UNWRITTEN {
            ready!(this.poll_drain(cx))?;
        }
        this.requests.accept(bytes, &mut this.in_flight)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
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
            this.replies.unparsed.reserve(READ_SIZE);
            if ready!(poll_read_buf(Pin::new(&mut this.stream), cx, &mut this.replies.unparsed))? == 0 {
                return Poll::Ready(Ok(()));
            }
            this.replies.relay(&mut this.in_flight)?;
        }
        let ready = this.replies.out.len().min(buf.remaining());
        buf.put_slice(&this.replies.out[..ready]);
        this.replies.out.advance(ready);
        Poll::Ready(Ok(()))
    }
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The first message of these bytes, once it is there whole, with its type.
fn first_message(bytes: &[u8]) -> io::Result<Option<(u8, &[u8])>> {
    let Some(&[tag, a, b, c, d]) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length < HEADER - 1 {
        return Err(broken("a message shorter than its own length"));
    }
    Ok(bytes.get(..=length).map(|message| (tag, message)))
}

/// From the client to the server.
#[derive(Default)]
struct Requests {
    /// Whether the first message is through, which has no type.
    started: bool,
    /// Taken, not yet parsed.
    unparsed: BytesMut,
    /// To be written.
    out: BytesMut,
    /// How many replies the present request will have, as far as it goes.
    expected: usize,
    /// The same of the last request, whose `Sync` is held back until a message or a flush follows.
    held_sync: Option<usize>,
}

impl Requests {
    fn accept(&mut self, bytes: &[u8], in_flight: &mut VecDeque<Request>) -> io::Result<()> {
        self.unparsed.extend_from_slice(bytes);
        if !self.started {
            let Some(length) = self.unparsed.first_chunk().map(|length| u32::from_be_bytes(*length) as usize) else {
                return Ok(());
            };
            let Some(startup) = self.unparsed.get(..length) else { return Ok(()) };
            self.out.extend_from_slice(startup);
            self.unparsed.advance(length);
            self.started = true;
        }
        // Moved out so that `self` can be borrowed.
        let mut unparsed = std::mem::take(&mut self.unparsed);
        while let Some((tag, message)) = first_message(&unparsed)? {
            let length = message.len();
            match tag {
                b'S' if self.expected > 0 => self.held_sync = Some(std::mem::take(&mut self.expected)),
                // Parse, Bind, Describe, Execute, Close: each has one reply, and is skipped after an error.
                b'P' | b'B' | b'D' | b'E' | b'C' => {
                    in_flight.extend(self.held_sync.take().map(|replies_left| Request::Unsynced { replies_left }));
                    self.expected += 1;
                    self.out.extend_from_slice(message);
                }
                // A simple query and a `Sync` alone, which `ReadyForQuery` ends; and what it doesn't answer: a password,
                // Terminate.
                _ => {
                    self.synchronize(in_flight);
                    in_flight.extend(matches!(tag, b'Q' | b'S').then_some(Request::Synced));
                    self.out.extend_from_slice(message);
                }
            }
            unparsed.advance(length);
        }
        self.unparsed = unparsed;
        Ok(())
    }

    /// Sends the `Sync` that was held back.
    fn synchronize(&mut self, in_flight: &mut VecDeque<Request>) {
        if self.held_sync.take().is_some() {
            in_flight.push_back(Request::Synced);
            self.out.extend_from_slice(&SYNC);
        }
    }
}

/// From the server to the client.
#[derive(Default)]
struct Replies {
    /// Read, not yet parsed.
    unparsed: BytesMut,
    /// To be read by the client.
    out: BytesMut,
}

impl Replies {
    fn relay(&mut self, in_flight: &mut VecDeque<Request>) -> io::Result<()> {
        let mut unparsed = std::mem::take(&mut self.unparsed);
        while let Some((tag, message)) = first_message(&unparsed)? {
            let length = message.len();
            self.out.extend_from_slice(message);
            match tag {
                // Of the first, to the startup, nothing is in flight.
                b'Z' => {
                    if let Some(Request::Unsynced { .. }) = in_flight.pop_front() {
                        return Err(broken("the server is ready before a request has all its replies"));
                    }
                }
                b'E' => self.skip(in_flight),
                // Complete: Parse, Bind, Close, a command, none; a row's description, no rows; a portal suspended.
                b'1' | b'2' | b'3' | b'C' | b'I' | b'T' | b'n' | b's' => self.count(in_flight),
                // Rows, notices, parameters and the like end nothing.
                _ => {}
            }
            unparsed.advance(length);
        }
        self.unparsed = unparsed;
        Ok(())
    }

    /// One more reply to the oldest request.
    fn count(&mut self, in_flight: &mut VecDeque<Request>) {
        match in_flight.front_mut() {
            Some(Request::Unsynced { replies_left }) if *replies_left > 1 => *replies_left -= 1,
            Some(Request::Unsynced { .. }) => {
                in_flight.pop_front();
                self.out.extend_from_slice(&READY);
            }
            Some(Request::Synced) | None => {}
        }
    }

    /// An error ended the oldest request. Those behind it are skipped, up to the one that had its `Sync`.
    fn skip(&mut self, in_flight: &mut VecDeque<Request>) {
        while let Some(Request::Unsynced { .. }) = in_flight.front() {
            in_flight.pop_front();
            self.out.extend_from_slice(&READY);
            self.out.extend_from_slice(SKIPPED);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A message for each letter, its type; `A` is what is said of the skipped.
    fn messages(tags: &str) -> Vec<u8> {
        let one = |tag: u8| -> Vec<u8> {
            let body: &[u8] = match tag {
                b'S' => &[],
                b'Z' => b"T",
                b'A' => return SKIPPED.to_vec(),
                _ => b"whatever",
            };
            [&[tag][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat()
        };
        tags.bytes().flat_map(one).collect()
    }

    fn startup() -> Vec<u8> {
        [&12u32.to_be_bytes()[..], b"startups"].concat()
    }

    /// What the server gets of what was sent up to each flush, and what the client gets of the server's answers to it.
    fn exchange(sent: &[&str], answered: &str, cut: usize) -> (Vec<u8>, Vec<u8>) {
        let (mut requests, mut replies, mut in_flight) = (Requests::default(), Replies::default(), VecDeque::new());
        requests.accept(&startup(), &mut in_flight).unwrap();
        for flushed in sent {
            messages(flushed).chunks(cut).for_each(|bytes| requests.accept(bytes, &mut in_flight).unwrap());
            requests.synchronize(&mut in_flight);
        }
        messages(answered).chunks(cut).for_each(|bytes| {
            replies.unparsed.extend_from_slice(bytes);
            replies.relay(&mut in_flight).unwrap();
        });
        assert_eq!(in_flight, [], "{sent:?} {answered}");
        (requests.out.to_vec(), replies.out.to_vec())
    }

    #[test]
    fn there_is_one_sync_for_each_flush_and_an_end_to_each_request() {
        // Sent by the client, a text for each flush; what the server gets; what it answers; what the client gets. `C`, `D`,
        // `E` and `S` mean different things each way.
        let cases: [(&[&str], &str, &str, &str); 11] = [
            (&["BES"], "BES", "2CZ", "2CZ"),
            (&["BES", "BES"], "BESBES", "2CZ2DDCZ", "2CZ2DDCZ"),
            (&["BESBESBES"], "BEBEBES", "2C2DDC2CZ", "2CZ2DDCZ2CZ"),
            (&["PDSBESCS"], "PDBECS", "1tT2DI3Z", "1tTZ2DIZ3Z"),
            (&["PDSBES"], "PDBES", "1tn2sZ", "1tnZ2sZ"),
            // An error skips what is behind it up to the next Sync, and nothing beyond.
            (&["BESBESBES", "BES"], "BEBEBESBES", "2C2EZ2CZ", "2CZ2EZAZ2CZ"),
            (&["PDSBESBES"], "PDBEBES", "EZ", "EZAZAZ"),
            (&["BESBES"], "BEBES", "2C2EZ", "2CZ2EZ"),
            (&["BESPDS"], "BEPDS", "2CEZ", "2CZEZ"),
            // A simple query has an end of its own, and isn't reached over an error.
            (&["BESQBES"], "BESQBES", "2EZTDCZ2CZ", "2EZTDCZ2CZ"),
            // Notices and parameters come whenever they like; a Sync alone is one.
            (&["BESBES", "S"], "BEBESS", "2NC2SCZZ", "2NCZ2SCZZ"),
        ];
        for (sent, got, answered, read) in cases {
            for cut in 1..40 {
                let expected = ([startup(), messages(got)].concat(), messages(read));
                assert_eq!(exchange(sent, answered, cut), expected, "{sent:?}, cut every {cut} bytes");
            }
        }
    }

    #[test]
    fn what_is_said_of_the_skipped_is_one_whole_message() {
        assert_eq!(first_message(SKIPPED).unwrap(), Some((b'E', SKIPPED)));
    }

    #[test]
    fn what_breaks_the_protocol_ends_the_connection() {
        assert!(first_message(b"C\0\0\0\x03").is_err(), "shorter than its own length");
        let mut in_flight = VecDeque::from([Request::Unsynced { replies_left: 2 }, Request::Synced]);
        let mut replies = Replies { unparsed: messages("2Z")[..].into(), ..Replies::default() };
        assert!(replies.relay(&mut in_flight).is_err(), "ready too soon");
    }

    #[tokio::test]
    async fn a_server_that_dies_behind_an_error_leaves_no_request_but_the_last_without_an_end() {
        // Fewer bytes than a message has are under way at any time.
        let (near, mut server) = tokio::io::duplex(7);
        let mut client = Pipeline::new(near);
        let (sent, got) = ([startup(), messages("BESBESBES")].concat(), [startup(), messages("BEBEBES")].concat());
        let serve = async {
            let mut read = vec![0; got.len()];
            server.read_exact(&mut read).await.unwrap();
            server.write_all(&messages("2E")).await.unwrap();
            drop(server);
            read
        };
        let call = async {
            client.write_all(&sent).await.unwrap();
            client.flush().await.unwrap();
            let mut answers = Vec::new();
            client.read_to_end(&mut answers).await.unwrap();
            answers
        };
        let (read, answers) = tokio::join!(serve, call);
        assert_eq!((read, answers), (got, messages("2EZAZA")));
        assert_eq!(client.in_flight, [Request::Synced]);
    }
}
