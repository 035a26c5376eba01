//! Servers that aren't there yet, go away, and come back; and services that are told to stop in the midst of it all.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use contracts::{
    expiration::v1::ExpirationStatus,
    orders::v1::{CreateOrderRequest, OrderStatus},
    tickets::v1::Ticket,
};
use futures_util::future::{join_all, try_join_all};
use local::{postgres, wait};
use stories::{Refused, SERVICES, SOON, User, World, groups, record};
use tokio::{sync::watch, time::timeout};
use tonic::Code;

#[tokio::test]
async fn services_wait_for_their_servers_and_outlive_them() -> Result<()> {
    // A world with servers of its own, that nobody else misses.
    let world = World::unborn(Ok).await?;
    started_before_their_servers(&world).await?;
    groups::awaits_all(&world).await?;
    let (alice, bob) = (world.user("alice")?, world.user("bob")?);
    let ticket = alice.lists("Concert", 100, 1_000_000).await?;
    let first = bob.places(&ticket, 1).await?;
    bob.awaits_order(&first.id, OrderStatus::AwaitingPayment).await?;

    without_kafka(&world, &ticket).await?;
    without_postgres(&world, &ticket).await?;

    record::tickets(&world).await?;
    record::orders(&world).await?;
    world.end().await
}

/// In whatever order things start, all are ready in the end.
async fn started_before_their_servers(world: &World) -> Result<()> {
    let servers =
        (world.stack().kafka().context("its own Kafka")?, world.stack().postgres().context("its own Postgres")?);
    for service in world.stack().services() {
        service.process().spawn()?;
    }
    for service in SERVICES {
        awaits_excuse(world, service, "database").await?;
        ensure!(!world.serves(service).await?, "{service} serves without a database");
    }
    // Somebody who calls all the same is told, in the contract's words.
    let refused = Refused::of(world.user("alice")?.lists("Too early", 100, 1).await)?;
    assert_eq!(refused.code, Code::Unavailable, "{refused:?}");

    servers.0.process().start().await?;
    servers.1.process().start().await?;
    for service in world.stack().services() {
        postgres::create_database(&world.stack().shared_servers().postgres_url, service.name()).await?;
    }
    for service in SERVICES {
        world.awaits_serving(service, true).await?;
        ensure!(world.is_ready(service).await?);
    }
    Ok(())
}

/// Kafka away: orders are taken, the outbox waits, and all goes on when it is back.
async fn without_kafka(world: &World, ticket: &Ticket) -> Result<()> {
    let kafka = world.stack().kafka().context("its own Kafka")?.process();
    let (bob, olga) = (world.user("bob")?, world.operator()?);
    kafka.terminate().await?;

    let placed = try_join_all((0..10).map(|_| bob.places(ticket, 1))).await?;
    for service in SERVICES {
        ensure!(world.serves(service).await?, "{service}: a broker out of reach is no outage");
    }
    // A service can be stopped and started meanwhile: it waits for the broker then.
    let expiration = world.replica("expiration", 0)?.process();
    let status = expiration.terminate().await?;
    ensure!(status.is_some_and(|status| status.success()), "expiration ended with {status:?}");
    expiration.spawn()?;
    awaits_excuse(world, "expiration", "Kafka").await?;
    for order in &placed {
        assert_eq!(bob.order(&order.id).await?.status(), OrderStatus::Created);
    }

    kafka.start().await?;
    for order in &placed {
        bob.awaits_order(&order.id, OrderStatus::AwaitingPayment).await?;
        olga.awaits_timer(&order.id, ExpirationStatus::Scheduled).await?;
    }
    world.awaits_serving("expiration", true).await
}

/// Postgres away: calls are refused, and after 5 s the services say that they don't serve; nothing acknowledged is lost.
async fn without_postgres(world: &World, ticket: &Ticket) -> Result<()> {
    let postgres = world.stack().postgres().context("its own Postgres")?.process();
    let bob = world.user("bob")?;
    let placed = watch::Sender::new(0);
    let (mut stopped_at, away) = (None, AtomicBool::new(false));
    let stop = async {
        let mut placed = placed.subscribe();
        timeout(SOON, placed.wait_for(|placed| *placed >= 40)).await.context("40 orders to be acknowledged")??;
        stopped_at = Some(Instant::now());
        away.store(true, Ordering::Relaxed);
        postgres.terminate().await
    };
    let (acknowledged, _) = tokio::try_join!(orders_until_refused(&bob, ticket, &placed, &away), stop)?;

    let refused = Refused::of(bob.order(&acknowledged[0]).await)?;
    let unavailable = Refused { retry: true, ..Refused::new(Code::Unavailable, "DATABASE_UNAVAILABLE") };
    assert_eq!(refused, unavailable);
    assert_eq!(Refused::of(bob.places(ticket, 1).await)?, unavailable);
    for service in SERVICES {
        world.awaits_serving(service, false).await?;
        // 5 s since it was last seen, which was within the second or so before it went.
        let hiccup = stopped_at.context("it was stopped")?.elapsed();
        ensure!(hiccup > Duration::from_secs(3), "{service} gave up after {hiccup:?}");
    }

    postgres.start().await?;
    for service in SERVICES {
        world.awaits_serving(service, true).await?;
    }
    for order in &acknowledged {
        bob.awaits_order(order, OrderStatus::AwaitingPayment).await?;
    }
    Ok(())
}

/// Eight at a time, until calls fail as they should; gives the orders that were acknowledged. Of an order whose commit
/// was under way nobody can tell what became of it: its caller's deadline runs out.
async fn orders_until_refused(
    bob: &User,
    ticket: &Ticket,
    placed: &watch::Sender<usize>,
    away: &AtomicBool,
) -> Result<Vec<String>> {
    let clients = (0..8).map(|_| async {
        let mut acknowledged = Vec::new();
        loop {
            let mut request = tonic::Request::new(order_of(ticket));
            request.set_timeout(Duration::from_secs(3));
            match bob.orders.clone().create_order(request).await {
                Ok(answer) => acknowledged.push(answer.into_inner().order.context("an order")?.id),
                Err(status) => {
                    // The last is what tonic's own clients call their deadline when they notice it first.
                    let fair = [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled];
                    ensure!(fair.contains(&status.code()), "{status:?}");
                    // Before that it is the machine, which does much else.
                    if away.load(Ordering::Relaxed) {
                        return Ok(acknowledged);
                    }
                    continue;
                }
            }
            placed.send_modify(|placed| *placed += 1);
        }
    });
    Ok(try_join_all(clients).await?.concat())
}

fn order_of(ticket: &Ticket) -> CreateOrderRequest {
    CreateOrderRequest { ticket_id: ticket.id.clone(), unit_price: ticket.price.clone(), ..Default::default() }
}

/// Waits until a service that isn't ready says that it waits for this.
async fn awaits_excuse(world: &World, service: &str, what: &str) -> Result<()> {
    wait::until(&format!("{service} to say that it waits for: {what}"), SOON, || async {
        let said = world.readiness(service).await?;
        ensure!(said.starts_with("HTTP/1.1 503") && said.contains(&format!("\n{what}: ")), "{said}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn told_to_stop_a_service_ends_well_and_every_acknowledged_order_survives() -> Result<()> {
    let world = World::with(|stack| Ok(stack.env_for_all("SHUTDOWN_GRACE", "200ms"))).await?;
    let ticket = world.user("alice")?.lists("Concert", 100, 1_000_000).await?;
    let placed = watch::Sender::new(0);

    let stop = async {
        let mut placed = placed.subscribe();
        timeout(SOON, placed.wait_for(|placed| *placed >= 40)).await.context("40 orders to be acknowledged")??;
        let began = Instant::now();
        for ended in join_all(world.stack().services().iter().map(|service| service.process().terminate())).await {
            let status = ended?;
            ensure!(status.is_some_and(|status| status.success()), "it ended with {status:?}");
        }
        // The grace, 10 s at most for calls, 5 s at most for the relay, 2 s for the last spans.
        ensure!(began.elapsed() < Duration::from_secs(60), "it took {:?}", began.elapsed());
        Ok(())
    };
    let buyers = (0..16).map(|number| {
        let (world, ticket, placed) = (&world, &ticket, &placed);
        async move {
            let buyer = world.user(&format!("buyer-{number}"))?;
            let mut acknowledged = Vec::new();
            // Until nobody answers any more.
            while let Ok(order) = buyer.places_as(order_of(ticket)).await {
                acknowledged.push(order.id);
                placed.send_modify(|placed| *placed += 1);
            }
            anyhow::Ok((buyer, acknowledged))
        }
    });
    let (acknowledged, stopped) = tokio::join!(try_join_all(buyers), stop);
    stopped?;

    try_join_all(world.stack().services().iter().map(|service| service.process().start())).await?;
    for (buyer, orders) in acknowledged? {
        for order in orders {
            let decided = buyer.awaits_decision(&order).await?;
            ensure!(decided.status() == OrderStatus::AwaitingPayment, "{decided:?}");
        }
    }
    record::tickets(&world).await?;
    record::orders(&world).await?;
    world.end().await
}
