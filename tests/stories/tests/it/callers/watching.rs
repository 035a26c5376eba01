//! Orders that are watched: live, whichever replica wrote them, and always to their end.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use contracts::orders::v1::{
    CancelReason, Order, OrderStatus, WatchOrderRequest, WatchOrderResponse, order_service_client::OrderServiceClient,
};
use futures_util::future::try_join_all;
use local::wait;
use stories::{Refused, SOON, User, World};
use tokio::time::timeout;
use tonic::{Code, Request, Status, Streaming, metadata::MetadataValue, transport::Endpoint};

type Story = Streaming<WatchOrderResponse>;

async fn watch(user: &User, id: &str, after_version: Option<i64>) -> Result<Story, Status> {
    let request = WatchOrderRequest { id: id.to_owned(), after_version };
    Ok(user.orders.clone().watch_order(request).await?.into_inner())
}

/// The next state, or the end of the story.
async fn next(story: &mut Story) -> Result<Option<Order>> {
    let told = timeout(SOON, story.message()).await.context("nothing was told")??;
    told.map(|told| told.order.context("no order was told of")).transpose()
}

/// All that is told, to the end, in versions that only grow.
async fn rest(story: &mut Story, after: i64) -> Result<Vec<Order>> {
    let (mut states, mut version) = (Vec::new(), after);
    while let Some(order) = next(story).await? {
        ensure!(order.version > version, "after version {version} comes {order:?}");
        version = order.version;
        states.push(order);
    }
    Ok(states)
}

fn is_cancelled(states: &[Order]) -> bool {
    states.last().is_some_and(|last| last.status() == OrderStatus::Cancelled)
}

#[tokio::test]
async fn a_watch_tells_an_orders_story_and_ends_with_it() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob, olga) = (world.user("alice")?, world.user("bob")?, world.operator()?);
    let ticket = alice.lists("Concert", 29900, 5).await?;
    let order = bob.places(&ticket, 1).await?;

    let (mut own, mut operators) = (watch(&bob, &order.id, None).await?, watch(&olga, &order.id, None).await?);
    let first = next(&mut own).await?.context("a present state")?;
    assert!(first.version >= order.version);
    bob.awaits_order(&order.id, OrderStatus::AwaitingPayment).await?;
    let mut late = watch(&bob, &order.id, Some(1)).await?;
    assert_eq!(next(&mut late).await?.context("newer than 1")?.status(), OrderStatus::AwaitingPayment);

    let cancelled = bob.cancels(&order.id).await?;
    for story in [&mut own, &mut operators, &mut late] {
        let states = rest(story, 0).await?;
        assert_eq!(states.last(), Some(&cancelled), "the end is told, and nothing after it");
    }
    // It has ended: that is told to those who don't know.
    assert_eq!(rest(&mut watch(&bob, &order.id, Some(cancelled.version)).await?, 0).await?, []);
    assert_eq!(rest(&mut watch(&bob, &order.id, None).await?, 0).await?, [cancelled]);

    let nothing_there = || Refused::new(Code::NotFound, "NOT_FOUND");
    assert_eq!(Refused::of(watch(&alice, &order.id, None).await.map(drop))?, nothing_there(), "another's order");
    let faulty = Refused::of(watch(&bob, "no id", Some(-1)).await.map(drop))?;
    assert_eq!(faulty.fields, ["id", "after_version"], "all faults at once");
    world.end().await
}

#[tokio::test]
async fn a_watch_sees_what_another_replica_writes_and_is_resumed_elsewhere_when_its_own_is_killed() -> Result<()> {
    let world = World::twofold().await?;
    let (alice, bob) = (world.user("alice")?, world.user("bob")?);
    let elsewhere = world.user_at("bob", 1)?;
    let ticket = alice.lists("Concert", 29900, 5).await?;
    let order = bob.places(&ticket, 1).await?;

    let mut story = watch(&elsewhere, &order.id, None).await?;
    let mut seen = next(&mut story).await?.context("a present state")?;
    while seen.status() == OrderStatus::Created {
        seen = next(&mut story).await?.context("a newer state")?;
    }
    assert_eq!(seen.status(), OrderStatus::AwaitingPayment);

    world.replica("orders", 1)?.process().kill().await?;
    assert!(next(&mut story).await.is_err(), "whoever told the story is gone");
    let mut resumed = watch(&bob, &order.id, Some(seen.version)).await?;
    bob.cancels(&order.id).await?;
    assert!(is_cancelled(&rest(&mut resumed, seen.version).await?));
    world.end().await
}

#[tokio::test]
async fn a_watch_ends_with_unavailable_when_its_server_stops() -> Result<()> {
    let world = World::twofold().await?;
    let (alice, bob) = (world.user("alice")?, world.user_at("bob", 1)?);
    let ticket = alice.lists("Concert", 29900, 5).await?;
    let order = bob.places(&ticket, 1).await?;
    let mut story = watch(&bob, &order.id, None).await?;
    next(&mut story).await?.context("a present state")?;

    let stopping = world.replica("orders", 1)?.process().terminate();
    let told = async {
        loop {
            match timeout(SOON, story.message()).await? {
                Ok(Some(_)) => {}
                ended => break anyhow::Ok(ended.map(drop)),
            }
        }
    };
    let (stopped, ended) = tokio::join!(stopping, told);
    stopped?;
    let elsewhere = Refused { retry: true, ..Refused::new(Code::Unavailable, "SHUTTING_DOWN") };
    assert_eq!(Refused::of(ended?)?, elsewhere);
    world.end().await
}

#[tokio::test]
async fn one_watch_more_than_a_user_may_have_or_a_server_takes_on_is_refused_until_another_has_ended() -> Result<()> {
    let limits = [("WATCHES", "3"), ("WATCHES_PER_USER", "2")];
    let world =
        World::with(|stack| Ok(limits.into_iter().fold(stack, |stack, (name, most)| stack.env("orders", name, most))))
            .await?;
    let (alice, bob, olga) = (world.user("alice")?, world.user("bob")?, world.operator()?);
    let ticket = alice.lists("Concert", 29900, 5).await?;
    let order = bob.places(&ticket, 1).await?;
    let [kept, given_up] = [watch(&bob, &order.id, None).await?, watch(&bob, &order.id, None).await?];

    // As many as bob may have are not yet all that there may be.
    let refused = Refused::of(watch(&bob, &order.id, None).await.map(drop))?;
    assert_eq!(refused, Refused::new(Code::ResourceExhausted, "TOO_MANY_WATCHES"));
    let looked_on = watch(&olga, &order.id, None).await?;
    let refused = Refused::of(watch(&olga, &order.id, None).await.map(drop))?;
    assert_eq!(refused, Refused { retry: true, ..Refused::new(Code::ResourceExhausted, "OVERLOADED") });
    bob.order(&order.id).await?;

    drop(given_up);
    let instead =
        wait::until("room for another watch", SOON, || async { Ok(watch(&bob, &order.id, None).await?) }).await?;
    let cancelled = bob.cancels(&order.id).await?;
    for mut story in [kept, instead, looked_on] {
        assert_eq!(rest(&mut story, 0).await?.last(), Some(&cancelled));
    }
    world.end().await
}

/// Watches a connection may have: one stream is left for calls.
const STREAMS: usize = 250;

#[tokio::test]
async fn ten_thousand_watches_see_the_end_while_some_never_read_and_memory_stays_bounded() -> Result<()> {
    const WATCHES: usize = 10_000;
    const ORDERS: usize = 100;
    // None of them expires before all are watched.
    let world = World::with(|stack| Ok(stack.env("orders", "ORDER_TTL", "1h"))).await?;
    let (alice, bob) = (world.user("alice")?, world.user("bob")?);
    let ticket = alice.lists("Concert", 29900, i32::try_from(ORDERS)?).await?;
    let orders = try_join_all((0..ORDERS).map(|_| bob.places(&ticket, 1))).await?;
    for order in &orders {
        bob.awaits_order(&order.id, OrderStatus::AwaitingPayment).await?;
    }
    let before = resident(&world)?;

    let authorization: MetadataValue<_> = format!("Bearer {}", world.stack().signer().token("bob", &[])?).parse()?;
    let address = format!("http://{}", world.replica("orders", 0)?.grpc());
    let mut stories = Vec::with_capacity(WATCHES);
    for connection in 0..WATCHES / STREAMS {
        let line = Endpoint::from_shared(address.clone())?.connect().await?;
        let client = OrderServiceClient::new(line);
        let opened = (0..STREAMS).map(|nth| {
            let (mut client, authorization) = (client.clone(), authorization.clone());
            let id = orders[(connection * STREAMS + nth) % ORDERS].id.clone();
            async move {
                let mut request = Request::new(WatchOrderRequest { id, after_version: None });
                request.metadata_mut().insert("authorization", authorization);
                anyhow::Ok(client.watch_order(request).await?.into_inner())
            }
        });
        stories.extend(try_join_all(opened).await?);
    }
    assert_eq!(stories.len(), WATCHES);
    let grown = resident(&world)?.saturating_sub(before);
    ensure!(grown < 400_000_000, "10,000 watches take {grown} bytes");

    // Every tenth is never read.
    let (mut read, mut unread): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
    for (nth, story) in stories.into_iter().enumerate() {
        if nth % 10 == 0 { unread.push(story) } else { read.push(story) }
    }
    try_join_all(orders.iter().map(|order| bob.cancels(&order.id))).await?;
    for story in &mut read {
        let states = rest(story, 0).await?;
        ensure!(is_cancelled(&states), "the end is missing: {states:?}");
    }
    // Whoever looks late finds the end all the same.
    for story in &mut unread {
        ensure!(is_cancelled(&rest(story, 0).await?), "the end is missing");
    }
    drop((read, unread));
    let last = bob.awaits_cancellation(&orders[0].id, CancelReason::Buyer).await?;
    assert_eq!(last.status(), OrderStatus::Cancelled);
    wait::until("all watches to be forgotten", SOON, || async {
        let open = watches(&world).await?;
        ensure!(open == 0, "{open} are open");
        Ok(())
    })
    .await?;
    world.end().await
}

/// Memory that the first replica of orders has, in bytes.
fn resident(world: &World) -> Result<u64> {
    let pid = world.replica("orders", 0)?.process().pid().context("it runs")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// Watches that are open, by the service's own count.
async fn watches(world: &World) -> Result<u64> {
    let url = format!("http://{}/metrics", world.replica("orders", 0)?.ops());
    let page = reqwest::Client::new().get(url).timeout(Duration::from_secs(5)).send().await?.text().await?;
    let value = page.lines().find_map(|line| line.strip_prefix("feed_watches ")).context("no such metric")?;
    Ok(value.parse()?)
}
