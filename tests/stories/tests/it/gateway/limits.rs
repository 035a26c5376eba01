//! What the edge bounds, repeats, lets pages of other origins do, and tells of in traces.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use contracts::orders::v1::{
    CancelOrderRequest, CancelOrderResponse, CancelReason, CreateOrderRequest, CreateOrderResponse, GetOrderRequest,
    GetOrderResponse, ListOrdersRequest, ListOrdersResponse, OrderStatus, WatchOrderRequest, WatchOrderResponse,
    order_service_client::OrderServiceClient,
    order_service_server::{OrderService, OrderServiceServer},
};
use local::{
    keys::Signer,
    stack::{SharedServers, Stack},
    tools::Tools,
    wait,
};
use reqwest::{Method, header::ORIGIN};
use serde_json::json;
use stories::{Answer, Refused, SOON, Visitor, World, collector::Collector, groups::awaits_caught_up};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinSet,
    time::timeout,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Response, Status,
    transport::{Endpoint, Server},
};
use uuid::Uuid;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A gateway in front of nothing, or of what is told by `UPSTREAMS`.
async fn alone(settings: &[(&str, &str)]) -> Result<Stack> {
    let stack =
        Stack::builder().on(SharedServers::from_env()?).gateway().env("gateway", "UPSTREAMS", "orders=127.0.0.1:1");
    let stack = settings.iter().fold(stack, |stack, (name, value)| stack.env("gateway", name, value));
    stack.start(&Tools::from_env()?).await
}

fn visitor(stack: &Stack) -> Result<Visitor> {
    let gateway = stack.gateway().context("a gateway")?;
    Ok(Visitor::new(gateway.url())?.with_token(&stack.signer().token("bob", &[])?))
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_when_to_come_back() -> Result<()> {
    let stack = alone(&[("CLIENT_RATE", "1"), ("CLIENT_BURST", "5")]).await?;
    // Whoever it says that it is: an address is a client, and tokens aren't even looked at.
    let strangers = Visitor::new(stack.gateway().context("a gateway")?.url())?.with_token("sesame");

    let mut statuses = Vec::new();
    let limited = loop {
        let request = strangers
            .request(Method::GET, "/api/orders")
            .header("x-forwarded-for", format!("10.0.0.{}", statuses.len()));
        let answer = Answer::of(request).await?;
        statuses.push(answer.status);
        if answer.status != 401 {
            break answer;
        }
        ensure!(statuses.len() < 100, "nothing is limited");
    };

    assert!((6..=8).contains(&statuses.len()), "a burst of 5, and what came back meanwhile: {statuses:?}");
    assert_eq!(limited.refusal()?, (429, Code::ResourceExhausted as i64, "RATE_LIMITED".to_owned()));
    assert_eq!(limited.header("retry-after"), Some("1"));
    assert_eq!(limited.detail("google.rpc.RetryInfo")?["retryDelay"], "1s");
    // And it is let in again.
    wait::until("the bucket to fill", SOON, async || {
        let answer = strangers.get("/api/orders").await?;
        ensure!(answer.status == 401, "{answer:?}");
        Ok(())
    })
    .await?;
    stack.stop().await
}

/// Orders, as it is when nothing works: it counts what it is asked, and refuses it; or says nothing at all.
#[derive(Clone, Default)]
struct Broken {
    reads: Arc<AtomicUsize>,
    writes: Arc<AtomicUsize>,
    silent: bool,
}

impl Broken {
    async fn asked<T>(&self, of: &AtomicUsize) -> Result<Response<T>, Status> {
        of.fetch_add(1, Ordering::Relaxed);
        if self.silent {
            std::future::pending::<()>().await;
        }
        Err(Status::unavailable("it can't be reached"))
    }

    /// Serves until the tasks are dropped.
    async fn serve(&self) -> Result<(SocketAddr, JoinSet<Result<(), tonic::transport::Error>>)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (addr, service) = (listener.local_addr()?, OrderServiceServer::new(self.clone()));
        let mut tasks = JoinSet::new();
        tasks.spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
        Ok((addr, tasks))
    }
}

#[tonic::async_trait]
impl OrderService for Broken {
    async fn create_order(&self, _: Request<CreateOrderRequest>) -> Result<Response<CreateOrderResponse>, Status> {
        self.asked(&self.writes).await
    }

    async fn get_order(&self, _: Request<GetOrderRequest>) -> Result<Response<GetOrderResponse>, Status> {
        self.asked(&self.reads).await
    }

    async fn list_orders(&self, _: Request<ListOrdersRequest>) -> Result<Response<ListOrdersResponse>, Status> {
        self.asked(&self.reads).await
    }

    async fn cancel_order(&self, _: Request<CancelOrderRequest>) -> Result<Response<CancelOrderResponse>, Status> {
        self.asked(&self.writes).await
    }

    type WatchOrderStream = tokio_stream::Empty<Result<WatchOrderResponse, Status>>;

    async fn watch_order(&self, _: Request<WatchOrderRequest>) -> Result<Response<Self::WatchOrderStream>, Status> {
        self.asked(&self.reads).await
    }
}

#[tokio::test]
async fn only_what_reads_is_asked_again() -> Result<()> {
    let broken = Broken::default();
    let (addr, _tasks) = broken.serve().await?;
    let stack = alone(&[("UPSTREAMS", &format!("orders={addr}"))]).await?;
    let bob = visitor(&stack)?;
    let order = format!("/api/orders/{}", Uuid::now_v7());

    for (write, request) in [
        (true, bob.request(Method::POST, "/api/orders").json(&json!({"requestId": Uuid::now_v7().to_string()}))),
        (true, bob.request(Method::POST, &format!("{order}:cancel")).json(&json!({}))),
        (true, bob.request(Method::DELETE, &order)),
        // Whatever a client says of it.
        (
            true,
            bob.request(Method::POST, "/api/orders")
                .json(&json!({}))
                .header("x-envoy-retry-on", "5xx")
                .header("x-envoy-retry-grpc-on", "unavailable")
                .header("x-envoy-max-retries", "9"),
        ),
        (false, bob.request(Method::GET, &order)),
        (false, bob.request(Method::GET, "/api/orders")),
        (false, bob.request(Method::GET, &format!("{order}:watch"))),
    ] {
        let before = (broken.reads.load(Ordering::Relaxed), broken.writes.load(Ordering::Relaxed));
        let answer = Answer::of(request).await?;
        let asked = (broken.reads.load(Ordering::Relaxed) - before.0, broken.writes.load(Ordering::Relaxed) - before.1);
        assert_eq!(answer.status, 503, "{answer:?}");
        assert_eq!(asked, if write { (0, 1) } else { (3, 0) });
    }
    stack.stop().await
}

#[tokio::test]
async fn a_call_ends_in_time_whatever_its_service_does() -> Result<()> {
    let silent = Broken { silent: true, ..Broken::default() };
    let (addr, _tasks) = silent.serve().await?;
    for (timeout_of_calls, idle) in [("300ms", "1m"), ("1m", "300ms")] {
        let upstreams = format!("orders={addr}");
        let settings =
            [("UPSTREAMS", upstreams.as_str()), ("CALL_TIMEOUT", timeout_of_calls), ("CALL_IDLE_TIMEOUT", idle)];
        let stack = alone(&settings).await?;
        let bob = visitor(&stack)?;
        let requests =
            [bob.request(Method::GET, "/api/orders"), bob.request(Method::POST, "/api/orders").json(&json!({}))];
        for request in requests {
            let late = timeout(SOON, Answer::of(request)).await.context("it waits for ever")??;
            assert_eq!(late.refusal()?, (504, Code::DeadlineExceeded as i64, "DEADLINE_EXCEEDED".to_owned()));
        }
        stack.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_request_that_never_comes_whole_is_waited_for_only_so_long() -> Result<()> {
    let stack = alone(&[("REQUEST_TIMEOUT", "1s")]).await?;
    let (addr, token) = (stack.gateway().context("a gateway")?.addr(), stack.signer().token("bob", &[])?);
    let late = "\"reason\":\"REQUEST_TIMEOUT\"";

    // Headers without an end, and a body without one.
    let head = format!("POST /api/orders HTTP/1.1\r\nhost: {addr}\r\nauthorization: Bearer {token}\r\n");
    let body = format!("{head}content-type: application/json\r\ncontent-length: 100\r\n\r\n{{");
    for slow in [&head, &body] {
        let mut line = TcpStream::connect(addr).await?;
        line.write_all(slow.as_bytes()).await?;
        let mut answer = String::new();
        timeout(SOON, line.read_to_string(&mut answer)).await.context("it is waited for without an end")??;
        ensure!(answer.starts_with("HTTP/1.1 408 ") && answer.contains(late), "{answer}");
    }
    // The same in gRPC.
    let mut client = tonic::client::Grpc::new(Endpoint::from_shared(format!("http://{addr}"))?.connect().await?);
    client.ready().await?;
    let mut request = Request::new(futures_util::stream::pending::<ListOrdersRequest>());
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    let path = "/ticketing.orders.v1.OrderService/ListOrders".parse()?;
    let codec = contracts::codec::Codec::<ListOrdersRequest, ListOrdersResponse>::default();
    let answer = timeout(SOON, client.client_streaming(request, path, codec));
    let refused = Refused::of(answer.await.context("it is waited for without an end")?.map(drop))?;
    assert_eq!(refused, Refused::new(Code::DeadlineExceeded, "REQUEST_TIMEOUT"));
    stack.stop().await
}

#[tokio::test]
async fn of_ten_thousand_calls_to_a_service_that_says_nothing_most_are_refused_at_once() -> Result<()> {
    const CALLS: usize = 10_000;
    /// What the gateway passes on at once, and what one connection to it may carry.
    const TAKEN: usize = 4096;
    const EACH: usize = 256;
    let silent = Broken { silent: true, ..Broken::default() };
    let (addr, _tasks) = silent.serve().await?;
    let upstreams = format!("orders={addr}");
    let settings = [("UPSTREAMS", upstreams.as_str()), ("CLIENT_RATE", "1000000"), ("CLIENT_BURST", "1000000")];
    // None of them ends before the last has come.
    let stack = alone(&[&settings[..], &[("CALL_TIMEOUT", "10m"), ("CALL_IDLE_TIMEOUT", "10m")]].concat()).await?;
    let (bob, url) = (visitor(&stack)?, stack.gateway().context("a gateway")?.url());
    let token: tonic::metadata::MetadataValue<_> = format!("Bearer {}", stack.signer().token("bob", &[])?).parse()?;

    let mut calls = JoinSet::new();
    for begun in (0..CALLS).step_by(EACH) {
        let line = Endpoint::from_shared(url.clone())?.connect().await?;
        for _ in begun..CALLS.min(begun + EACH) {
            let (mut orders, token) = (OrderServiceClient::new(line.clone()), token.clone());
            calls.spawn(async move {
                let mut request = Request::new(CreateOrderRequest::default());
                request.metadata_mut().insert("authorization", token);
                Refused::of(orders.create_order(request).await)
            });
        }
        // Bit by bit as long as they are passed on, for the service, too, has to take the connections that they come by.
        wait::until("calls to be passed on", SOON, async || {
            let passed_on = silent.writes.load(Ordering::Relaxed);
            ensure!(passed_on == TAKEN.min(begun + EACH), "{passed_on} are");
            Ok(())
        })
        .await?;
    }
    for _ in TAKEN..CALLS {
        let ended = timeout(SOON, calls.join_next()).await.context("they wait for what never comes")?;
        let overloaded = Refused { retry: true, ..Refused::new(Code::Unavailable, "GATEWAY_OVERLOADED") };
        assert_eq!(ended.context("a call")???, overloaded);
    }
    assert_eq!(silent.writes.load(Ordering::Relaxed), TAKEN);
    // Whatever is asked of others is answered meanwhile, and this service, too, once there is room again.
    assert_eq!(bob.get("/api/tickets").await?.refusal()?.2, "SERVICE_UNAVAILABLE");
    calls.shutdown().await;
    let line = Endpoint::from_shared(url.clone())?.connect().await?;
    wait::until("room for another call", SOON, async || {
        let mut request = Request::new(CreateOrderRequest::default());
        request.metadata_mut().insert("authorization", token.clone());
        request.set_timeout(Duration::from_millis(500));
        let answer = OrderServiceClient::new(line.clone()).create_order(request).await;
        ensure!(silent.writes.load(Ordering::Relaxed) > TAKEN, "{answer:?}");
        Ok(())
    })
    .await?;
    stack.stop().await
}

#[tokio::test]
async fn keys_are_rotated_without_a_restart() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("jwks.json");
    let (old, new) = (Signer::generate()?, Signer::generate()?);
    old.write_jwks(&file)?;
    let file_name = file.to_str().context("a path")?;
    let stack = alone(&[("JWKS", file_name), ("JWKS_REREAD_AFTER", "1s")]).await?;
    let nobody = Visitor::new(stack.gateway().context("a gateway")?.url())?;
    let ask = async |signer: &Signer| nobody.with_token(&signer.token("bob", &[])?).get("/api/orders").await?.refusal();
    // Nobody is behind the gateway: whoever gets as far as that was let in.
    assert_eq!(
        (ask(&old).await?.2, ask(&new).await?.2),
        ("SERVICE_UNAVAILABLE".to_owned(), "TOKEN_INVALID".to_owned())
    );

    new.write_jwks(&file)?;
    wait::until("the new key to count", SOON, async || {
        let reason = ask(&new).await?.2;
        ensure!(reason == "SERVICE_UNAVAILABLE", "{reason}");
        Ok(())
    })
    .await?;
    assert_eq!(ask(&old).await?.2, "TOKEN_INVALID");
    stack.stop().await
}

#[tokio::test]
async fn a_token_that_cant_be_checked_yet_is_not_called_unsound() -> Result<()> {
    let stack = alone(&[("JWKS", "http://127.0.0.1:1/keys")]).await?;
    let refused = visitor(&stack)?.get("/api/orders").await?;
    assert_eq!(refused.refusal()?, (503, Code::Unavailable as i64, "KEYS_UNAVAILABLE".to_owned()));
    assert_eq!(refused.headers["retry-after"], "1");
    stack.stop().await
}

#[tokio::test]
async fn a_watch_outlives_every_timeout() -> Result<()> {
    let settings = [("CALL_TIMEOUT", "1s"), ("CALL_IDLE_TIMEOUT", "1s")];
    let world = World::with(|stack| {
        let stack = stack.gateway().env("orders", "ORDER_TTL", "5s");
        Ok(settings.iter().fold(stack, |stack, (name, value)| stack.env("gateway", name, value)))
    })
    .await?;
    let (bob, browser) = (world.user_outside("bob")?, world.visitor("bob", &[])?);
    // Not through the gateway, for an order may wait for longer than that until its ticket is known.
    let inside = world.user("bob")?;
    let ticket = inside.lists("Concert", 29900, 5).await?;
    let order = inside.places(&ticket, 1).await?;

    let path = format!("/api/orders/{}:watch", order.id);
    let events = browser.get(&path);
    let story = async {
        let watch = WatchOrderRequest { id: order.id.clone(), after_version: None };
        let mut story = bob.orders.clone().watch_order(watch).await?.into_inner();
        let mut last = None;
        while let Some(told) = timeout(SOON, story.message()).await.context("nothing was told")?? {
            last = told.order;
        }
        anyhow::Ok(last)
    };
    let (events, last) = tokio::try_join!(events, story)?;

    let last = last.context("a story")?;
    assert_eq!((last.status(), last.cancel_reason()), (OrderStatus::Cancelled, CancelReason::Expired));
    assert!(events.text.ends_with("\n\n") && events.text.contains("CANCEL_REASON_EXPIRED"), "{events:?}");
    world.end().await
}

#[tokio::test]
async fn pages_of_named_origins_may_call_and_others_may_not() -> Result<()> {
    const OURS: &str = "https://tickets.example";
    let stack = alone(&[
        ("CORS_ORIGINS", "http://localhost:3000,https://tickets.example"),
        ("CLIENT_BURST", "20"),
        ("CLIENT_RATE", "1"),
    ])
    .await?;
    let nobody = Visitor::new(stack.gateway().context("a gateway")?.url())?;
    let asks = |origin: &str, path: &str, method: &str| {
        let request = nobody.request(Method::OPTIONS, path).header(ORIGIN, origin);
        let headers = "authorization,content-type,x-grpc-web,grpc-timeout";
        Answer::of(
            request.header("access-control-request-method", method).header("access-control-request-headers", headers),
        )
    };

    for (path, method) in
        [("/api/orders", "POST"), ("/api/orders/1", "DELETE"), ("/ticketing.orders.v1.OrderService/GetOrder", "POST")]
    {
        let allowed = asks(OURS, path, method).await?;
        assert_eq!((allowed.status, allowed.header("access-control-allow-origin")), (200, Some(OURS)), "{allowed:?}");
        let listed = |name: &str| -> Vec<String> {
            allowed.header(name).unwrap_or_default().split(',').map(|one| one.trim().to_ascii_lowercase()).collect()
        };
        assert!(listed("access-control-allow-methods").contains(&method.to_ascii_lowercase()), "{allowed:?}");
        for header in ["authorization", "content-type", "x-grpc-web", "grpc-timeout", "traceparent"] {
            assert!(listed("access-control-allow-headers").contains(&header.to_owned()), "{header}: {allowed:?}");
        }
        assert!(allowed.header("access-control-max-age").is_some());
        // By a token that a page has to have, never by what a browser sends of itself.
        assert_eq!(allowed.header("access-control-allow-credentials"), None);

        for stranger in
            ["https://evil.example", "https://tickets.example.evil.example", "http://tickets.example", "null"]
        {
            let refused = asks(stranger, path, method).await?;
            assert_eq!(refused.header("access-control-allow-origin"), None, "{stranger}: {refused:?}");
        }
    }

    // A page may read why it was refused, and when to try again; that of a stranger may not.
    let seen = async |origin: &str| Answer::of(nobody.request(Method::GET, "/api/orders").header(ORIGIN, origin)).await;
    let refused = seen(OURS).await?;
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, Some(OURS)), "{refused:?}");
    let exposed = refused.header("access-control-expose-headers").unwrap_or_default();
    for header in ["grpc-status", "grpc-message", "grpc-status-details-bin", "retry-after"] {
        assert!(exposed.split(", ").any(|one| one == header), "{header}: {exposed}");
    }
    assert_eq!(seen("https://evil.example").await?.header("access-control-allow-origin"), None);
    let limited = wait::until("the bucket to be empty", SOON, async || {
        let answer = seen(OURS).await?;
        ensure!(answer.status == 429, "{answer:?}");
        Ok(answer)
    });
    let limited = limited.await?;
    assert_eq!(limited.header("access-control-allow-origin"), Some(OURS), "{limited:?}");
    stack.stop().await
}

#[tokio::test]
async fn readers_notice_nothing_of_a_replica_that_dies() -> Result<()> {
    let world = World::with(|stack| Ok(stack.service("tickets")?.gateway())).await?;
    let (alice, bob) = (world.user_outside("alice")?, world.user_outside("bob")?);
    let ticket = alice.lists("Concert", 29900, 5).await?;

    // Read on and on, while one of two dies: not once does it fail.
    let (begun, dies) = oneshot::channel();
    let read = async {
        for _ in 0..20 {
            bob.ticket(&ticket.id).await?;
        }
        begun.send(()).ok().context("somebody to tell")?;
        for _ in 0..200 {
            bob.ticket(&ticket.id).await?;
        }
        anyhow::Ok(())
    };
    let kill = async {
        dies.await?;
        world.replica("tickets", 1)?.process().kill().await
    };
    tokio::try_join!(read, kill)?;
    // Nobody repeats what writers want, but soon they are no longer sent to the dead.
    wait::until("the dead to be left alone", SOON, async || {
        for _ in 0..10 {
            alice.lists("Opera", 100, 1).await?;
        }
        Ok(())
    })
    .await?;
    world.end().await
}

#[tokio::test]
async fn the_gateway_takes_part_in_the_trace() -> Result<()> {
    let collector = Collector::start().await?;
    let world = World::with(|stack| Ok(stack.gateway().otlp(&collector.endpoint()))).await?;
    let (alice, browser) = (world.user("alice")?, world.visitor("bob", &[])?);
    let ticket = alice.lists("Concert", 29900, 5).await?;

    // A page that is in a trace, and one that isn't; and one whose trace isn't exported.
    let order = |traceparent: Option<String>| {
        let request = browser.request(Method::POST, "/api/orders").json(&json!({"ticketId": ticket.id}));
        Answer::of(match traceparent {
            Some(traceparent) => request.header("traceparent", traceparent),
            None => request,
        })
    };
    order(Some(format!("00-{TRACE}-00f067aa0ba902b7-01"))).await?.ok()?;
    order(None).await?.ok()?;
    const UNSAMPLED: &str = "0af7651916cd43dd8448eb211c80319c";
    order(Some(format!("00-{UNSAMPLED}-00f067aa0ba902b7-00"))).await?.ok()?;
    browser.get("/api/orders?userId=bob").await?.ok()?;
    // Envoy tells of its spans now and then, and not at its end.
    wait::until("the gateway's spans", SOON, async || {
        let edges = collector.spans().iter().filter(|span| span.service == "gateway").count();
        ensure!(
            edges >= 2 * 3,
            "{edges} spans: of each call that is traced one for its coming and one for its going on"
        );
        Ok(())
    })
    .await?;
    awaits_caught_up(&world).await?;
    world.end().await?;
    let spans = collector.spans();

    let edges: Vec<_> = spans.iter().filter(|span| span.service == "gateway").collect();
    let span = |name: &str, parent: &str, trace: &str| {
        let found = edges.iter().find(|span| span.name.contains(name) && span.parent == parent && span.trace == trace);
        found.with_context(|| format!("no {name} below {parent:?} in {trace}: {edges:#?}"))
    };
    let create = "ticketing.orders.v1.OrderService/CreateOrder";
    let came = span(create, "00f067aa0ba902b7", TRACE)?;
    let passed_on =
        edges.iter().find(|span| span.parent == came.id && span.name.contains("egress")).context("it was passed on")?;
    let served = spans.iter().find(|span| span.parent == passed_on.id);
    let served = served.with_context(|| format!("it was served, below {passed_on:?}: {spans:#?}"))?;
    assert_eq!((served.service.as_str(), served.name.as_str(), served.trace.as_str()), ("orders", create, TRACE));
    // Its own trace begins here, if there is none.
    let begun = edges.iter().find(|span| span.name.contains(create) && span.parent.is_empty()).context("a root")?;
    assert!(spans.iter().any(|span| span.trace == begun.trace && span.service == "tickets"), "{begun:?}");
    assert!(!spans.iter().any(|span| span.trace == UNSAMPLED), "its parent said that nobody wants it");
    // No token, no name.
    for span in &edges {
        let attributes = format!("{:?}", span.attributes);
        for secret in ["bob", "Bearer", "eyJ"] {
            assert!(!attributes.contains(secret), "{secret}: {span:#?}");
        }
    }
    assert_eq!(came.attributes["peer.address"], "-", "nor where somebody calls from: {came:#?}");
    Ok(())
}

#[tokio::test]
async fn refusals_of_the_gateway_are_refusals_in_grpc_too() -> Result<()> {
    let world =
        World::with(|stack| Ok(stack.gateway().env("gateway", "CLIENT_RATE", "1").env("gateway", "CLIENT_BURST", "1")))
            .await?;
    let bob = world.user_outside("bob")?;
    let limited = wait::until("the bucket to be empty", SOON, async || {
        let refused = Refused::of(bob.order(&Uuid::now_v7().to_string()).await)?;
        ensure!(refused.code == Code::ResourceExhausted, "{refused:?}");
        Ok(refused)
    })
    .await?;
    assert_eq!(limited, Refused { retry: true, ..Refused::new(Code::ResourceExhausted, "RATE_LIMITED") });
    world.end().await
}
