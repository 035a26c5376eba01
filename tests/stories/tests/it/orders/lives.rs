//! How orders live and end, one by one.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use contracts::{
    expiration::v1::{ExpirationEvent, ExpirationStatus},
    orders::v1::{CancelReason, CreateOrderRequest, OrderStatus},
};
use futures_util::future::try_join_all;
use stories::{Refused, World, delay::Delay, history, record};
use tonic::Code;
use uuid::Uuid;

#[tokio::test]
async fn an_order_holds_stock_until_its_buyer_cancels_it() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob, olga) = (world.user("alice")?, world.user("bob")?, world.operator()?);
    let ticket = alice.lists("Concert", 29900, 5).await?;

    let order = bob.places(&ticket, 2).await?;
    assert_eq!(order.status(), OrderStatus::Created);
    bob.awaits_order(&order.id, OrderStatus::AwaitingPayment).await?;
    alice.awaits_stock(&ticket.id, 3, 2, 0).await?;
    olga.awaits_timer(&order.id, ExpirationStatus::Scheduled).await?;

    // Nobody else does it: for them there is no such order.
    let nothing_there = || Refused::new(Code::NotFound, "NOT_FOUND");
    assert_eq!(Refused::of(alice.cancels(&order.id).await)?, nothing_there());
    assert_eq!(Refused::of(alice.order(&order.id).await)?, nothing_there());
    assert_eq!(Refused::of(olga.cancels(&order.id).await)?, nothing_there(), "operators see all and change nothing");
    assert_eq!(olga.order(&order.id).await?.status(), OrderStatus::AwaitingPayment);

    let cancelled = bob.cancels(&order.id).await?;
    assert_eq!((cancelled.status(), cancelled.cancel_reason()), (OrderStatus::Cancelled, CancelReason::Buyer));
    alice.awaits_stock(&ticket.id, 5, 0, 0).await?;
    olga.awaits_timer(&order.id, ExpirationStatus::Dropped).await?;
    assert_eq!(bob.cancels(&order.id).await?, cancelled, "again: the order as it is");
    world.end().await
}

#[tokio::test]
async fn an_order_that_nobody_pays_expires_in_time_and_gives_its_stock_back() -> Result<()> {
    let world = World::with(|stack| Ok(stack.env("orders", "ORDER_TTL", "2s"))).await?;
    let (alice, bob, olga) = (world.user("alice")?, world.user("bob")?, world.operator()?);
    let ticket = alice.lists("Concert", 29900, 10).await?;

    let placed = try_join_all((0..5).map(|_| bob.places(&ticket, 1))).await?;

    for order in &placed {
        let ended = bob.awaits_cancellation(&order.id, CancelReason::Expired).await?;
        assert_eq!(bob.cancels(&order.id).await?, ended, "cancelled already: the order as it is");
        olga.awaits_timer(&order.id, ExpirationStatus::Expired).await?;
    }
    alice.awaits_stock(&ticket.id, 10, 0, 0).await?;
    record::orders(&world).await?;

    let expired = history::first_appearances(&world, "expiration").await?;
    assert_eq!(expired.len(), placed.len(), "each expires once");
    for event in expired {
        let told: ExpirationEvent = event.message()?;
        let due = told.expiration.and_then(|timer| timer.expire_time).context("a timer has its time")?;
        let late = event.appended_at - (due.seconds * 1000 + i64::from(due.nanos / 1_000_000));
        // Milliseconds in fact; the bound is for a machine that does much else.
        assert!((0..60_000).contains(&late), "{late} ms after it was due");
    }
    world.end().await
}

#[tokio::test]
async fn what_a_seller_changes_decides_about_orders_whether_orders_has_heard_of_it_or_not() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = (world.user("alice")?, world.user("bob")?);

    // A new ticket can be ordered in the same breath: clients needn't know that copies lag.
    let tickets = try_join_all((0..3).map(|_| alice.lists("Concert", 100, 5))).await?;
    let [repriced, heard, unheard] = &tickets[..] else { anyhow::bail!("three tickets") };
    for ticket in [repriced, heard, unheard] {
        let order = bob.places_as(CreateOrderRequest { ticket_id: ticket.id.clone(), ..Default::default() }).await?;
        assert_eq!(order.unit_price, ticket.price, "the price that was left out is the ticket's");
        bob.awaits_order(&order.id, OrderStatus::AwaitingPayment).await?;
    }

    // Nothing is sold at a price that the buyer didn't see.
    alice.reprices(&repriced.id, 200).await?;
    let at_the_old_price = bob.places(repriced, 1).await?;
    bob.awaits_cancellation(&at_the_old_price.id, CancelReason::PriceChanged).await?;
    let seen_anew = alice.ticket(&repriced.id).await?;
    let at_the_new_price = bob.places(&seen_anew, 1).await?;
    bob.awaits_order(&at_the_new_price.id, OrderStatus::AwaitingPayment).await?;

    // Withdrawn, and orders has heard of it: refused at once. What is held stays held.
    let withdrawn = alice.withdraws(&heard.id).await?;
    assert_eq!(alice.withdraws(&heard.id).await?, withdrawn, "again: the same answer");
    let refusal = local::wait::until("orders to know that the sale has ended", stories::SOON, || async {
        match bob.places(heard, 1).await {
            Ok(_) => anyhow::bail!("it sells on"),
            refusal => Ok(refusal),
        }
    })
    .await?;
    assert_eq!(Refused::of(refusal)?, Refused::new(Code::FailedPrecondition, "TICKET_WITHDRAWN"));
    assert!(alice.ticket(&heard.id).await?.reserved >= 1);

    // Withdrawn, and orders hasn't heard of it: tickets decides.
    let delay = Delay::of_ticket(&world, &unheard.id).await?;
    alice.withdraws(&unheard.id).await?;
    let unaware = bob.places(unheard, 1).await?;
    assert_eq!(unaware.status(), OrderStatus::Created);
    local::wait::until("tickets to refuse the stock", stories::SOON, || async {
        let told = record::tickets(&world).await?;
        let rejected = told[&unheard.id].last().is_some_and(|event| {
            matches!(event.change, Some(contracts::tickets::v1::ticket_event::Change::ReservationRejected(_)))
        });
        anyhow::ensure!(rejected, "the last of its events is another");
        Ok(())
    })
    .await?;
    assert_eq!(bob.order(&unaware.id).await?.status(), OrderStatus::Created, "orders hasn't heard of it");
    delay.ends().await?;
    bob.awaits_cancellation(&unaware.id, CancelReason::Withdrawn).await?;
    alice.awaits_stock(&unheard.id, 4, 1, 0).await?;
    world.end().await
}

#[tokio::test]
async fn a_ticket_that_nobody_listed_is_waited_for_and_then_not_found() -> Result<()> {
    let world = World::with(|stack| Ok(stack.env("orders", "HEARING_TIMEOUT", "6s"))).await?;
    let bob = world.user("bob")?;
    let request =
        || CreateOrderRequest { ticket_id: Uuid::now_v7().to_string(), quantity: Some(1), ..Default::default() };
    let not_found = Refused { retry: true, ..Refused::new(Code::NotFound, "NOT_FOUND") };

    let asked = Instant::now();
    assert_eq!(Refused::of(bob.places_as(request()).await)?, not_found);
    // As long as that, and not the 30 s that its caller waits; what lies between is for a machine that does much else.
    assert!((5..25).contains(&asked.elapsed().as_secs()), "{:?}", asked.elapsed());

    // Who has less time is answered within it.
    let mut hasty = tonic::Request::new(request());
    hasty.set_timeout(Duration::from_secs(1));
    let refused = bob.orders.clone().create_order(hasty).await.err().context("there is no such ticket")?;
    // The deadline strikes on both sides, and the client's own says CANCELLED: whichever is heard first.
    assert!(matches!(refused.code(), Code::NotFound | Code::DeadlineExceeded | Code::Cancelled), "{refused:?}");
    world.end().await
}
