//! Whoever opens more than they mean to use: streams that are reset at once, answers that nobody reads. Others notice
//! nothing of it, and nothing of it stays.

use std::{future::poll_fn, net::SocketAddr, task::Poll};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use contracts::tickets::v1::ListTicketsRequest;
use futures_util::future::try_join_all;
use h2::{Reason, client::SendRequest};
use http::Request;
use local::wait;
use prost::Message;
use stories::{SOON, User, World, metrics::Page, stranger::framed};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

const LIST: &str = "/ticketing.tickets.v1.TicketService/ListTickets";
/// Streams that are opened and reset on one connection.
const RESETS: usize = 10_000;
/// Streams that a connection may have open.
const STREAMS: usize = 256;
/// Answers that nobody reads.
const UNREAD: usize = 200;

/// A connection of HTTP/2 whose every frame is ours to send.
struct Line {
    send: SendRequest<Bytes>,
    to: SocketAddr,
    token: String,
    _connection: JoinSet<Result<(), h2::Error>>,
}

impl Line {
    async fn open(to: SocketAddr, token: &str, configure: impl FnOnce(&mut h2::client::Builder)) -> Result<Self> {
        let mut builder = h2::client::Builder::new();
        configure(&mut builder);
        let (send, driven) = builder.handshake(TcpStream::connect(to).await?).await?;
        let mut connection = JoinSet::new();
        connection.spawn(driven);
        Ok(Self { send, to, token: token.to_owned(), _connection: connection })
    }

    /// Asks for a list, and gives back what of it is under way. None if the other side wants no more of this.
    async fn ask(&mut self) -> Option<(h2::client::ResponseFuture, h2::SendStream<Bytes>)> {
        self.send = self.send.clone().ready().await.ok()?;
        let request = Request::post(format!("http://{}{LIST}", self.to))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {}", self.token))
            .body(())
            .ok()?;
        self.send.send_request(request, false).ok()
    }
}

/// At tickets, whoever they are from.
async fn awaits_under_way(world: &World, expected: usize) -> Result<()> {
    wait::until(&format!("{expected} calls to be under way"), SOON, async || {
        let calls = Page::of(world, "tickets", 0).await?.sum("grpc_server_calls_in_flight{")?;
        ensure!(calls == expected as f64, "{calls} are");
        Ok(())
    })
    .await
}

/// A well-behaved client's calls, all the time that something else happens.
async fn served_meanwhile<T>(alice: &User, ticket: &str, other: impl Future<Output = Result<T>>) -> Result<T> {
    let serve = async {
        loop {
            alice.ticket(ticket).await?;
        }
    };
    tokio::select! {
        biased;
        done = other => done,
        failed = serve => failed,
    }
}

#[tokio::test]
async fn streams_that_are_reset_at_once_disturb_nobody() -> Result<()> {
    let world = world().await?;
    let (alice, outside) = (world.user("alice")?, world.user_outside("alice")?);
    let ticket = alice.lists("Concert", 100, 1).await?.id;
    let token = world.stack().signer().token("mallory", &[])?;

    let gateway = world.gateway()?.addr();
    for (to, neighbour) in [(world.replica("tickets", 0)?.grpc(), &alice), (gateway, &outside)] {
        let flood = async {
            let mut line = Line::open(to, &token, |_| {}).await?;
            for _ in 0..RESETS {
                // Whoever sees that nothing else comes may have had enough of it.
                let Some((_, mut stream)) = line.ask().await else { break };
                // What was never sent is reset in silence.
                tokio::task::yield_now().await;
                stream.send_reset(Reason::CANCEL);
            }
            Ok(())
        };
        served_meanwhile(neighbour, &ticket, flood).await.with_context(|| format!("at {to}"))?;
        neighbour.ticket(&ticket).await?;
    }
    awaits_under_way(&world, 0).await?;
    world.end().await
}

#[tokio::test]
async fn a_connection_has_as_many_streams_at_once_as_it_may_and_the_rest_wait() -> Result<()> {
    let world = world().await?;
    let alice = world.user("alice")?;
    let ticket = alice.lists("Concert", 100, 1).await?.id;
    let token = world.stack().signer().token("mallory", &[])?;
    // The gateway passes on what has come in whole, so that only its word can be seen from outside.
    limited(world.gateway()?.addr(), &token).await?;

    let mut line = limited(world.replica("tickets", 0)?.grpc(), &token).await?;
    let mut open = Vec::new();
    for _ in 0..STREAMS {
        // Never ended: a call is under way as long as its caller has more to say.
        open.push(line.ask().await.context("a stream")?);
    }
    awaits_under_way(&world, STREAMS).await?;
    // Of the next one nothing is sent, and after it there is no room even for that.
    open.push(line.ask().await.context("a stream that waits")?);
    let room = poll_fn(|cx| Poll::Ready(line.send.poll_ready(cx).is_ready())).await;
    ensure!(!room, "there is room beyond {STREAMS} streams");
    alice.ticket(&ticket).await?;

    let (answer, mut ended) = open.swap_remove(0);
    ended.send_reset(Reason::CANCEL);
    drop((answer, ended));
    timeout(SOON, poll_fn(|cx| line.send.poll_ready(cx))).await.context("no room after one has ended")??;
    drop((open, line));
    awaits_under_way(&world, 0).await?;
    world.end().await
}

/// A connection whose other side has said how many streams it may have.
async fn limited(to: SocketAddr, token: &str) -> Result<Line> {
    let line = Line::open(to, token, |_| {}).await?;
    wait::until("the server to say how many streams there may be", SOON, async || {
        let most = line.send.current_max_send_streams();
        ensure!(most == STREAMS, "{most} may be open at {to}");
        Ok(())
    })
    .await?;
    Ok(line)
}

#[tokio::test]
async fn answers_that_nobody_reads_keep_nobody_waiting() -> Result<()> {
    let world = world().await?;
    let (alice, outside) = (world.user("alice")?, world.user_outside("alice")?);
    let titles = (0..50).map(|_| alice.lists("A title of some length, lest an answer fit anywhere", 100, 1));
    let ticket = try_join_all(titles).await?.pop().context("a ticket")?.id;
    let token = world.stack().signer().token("mallory", &[])?;

    for (to, neighbour) in [(world.replica("tickets", 0)?.grpc(), &alice), (world.gateway()?.addr(), &outside)] {
        // No window: not one byte of an answer's body may be sent.
        let mut line = Line::open(to, &token, |builder| {
            builder.initial_window_size(0);
        })
        .await?;
        let mut answers = Vec::new();
        for _ in 0..UNREAD {
            let (answer, mut stream) = line.ask().await.context("a stream")?;
            let whole = framed(&ListTicketsRequest::default().encode_to_vec())?;
            stream.send_data(whole.into(), true)?;
            answers.push((answer, stream));
        }
        let begun = try_join_all(answers.iter_mut().map(|(answer, _)| answer));
        let begun = served_meanwhile(neighbour, &ticket, async { Ok(begun.await?) }).await?;
        ensure!(begun.iter().all(|answer| answer.status() == 200), "they are all there to be read");
        neighbour.ticket(&ticket).await?;
        drop((begun, answers, line));
        awaits_under_way(&world, 0).await?;
    }
    world.end().await
}

/// A world whose gateway doesn't mind how much comes of one address.
async fn world() -> Result<World> {
    World::with(|stack| {
        let stack = stack.gateway();
        Ok(["CLIENT_RATE", "CLIENT_BURST"].iter().fold(stack, |stack, name| stack.env("gateway", name, "1000000")))
    })
    .await
}
