//! Paid while it expires: whoever comes first, money and ticket end on the same side.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use contracts::{
    orders::v1::{CancelReason, Order, OrderStatus},
    payments::v1::{Payment, PaymentStatus},
    tickets::v1::Ticket,
};
use futures_util::future::try_join_all;
use local::{progress::say, wait};
use stories::{Ledger, Refused, SETTLED, User, World, ledger, record};
use tonic::Code;

/// Orders that are paid around their expiry.
const ORDERS: usize = 200;
const TICKETS: usize = 4;
const TTL: Duration = Duration::from_secs(20);

#[tokio::test]
async fn two_hundred_orders_that_are_paid_while_they_expire_end_with_money_and_ticket_on_one_side() -> Result<()> {
    let world = World::with(|stack| Ok(stack.env("orders", "ORDER_TTL", "20s"))).await?;
    let (alice, olga, ledger) = (world.user("alice")?, world.operator()?, Ledger::of(&world)?);
    let tickets = try_join_all((0..TICKETS).map(|_| alice.lists("Concert", 29900, 200))).await?;
    let mut chance = fastrand::Rng::with_seed(3);

    // Most of them half a second before the expiry or after it; a quarter from 12 s before it on, which are won on the slowest machine.
    let buyers = (0..ORDERS).map(|number| {
        let offset = if number % 4 == 0 { chance.f64() * 12.0 - 12.0 } else { chance.f64() - 0.5 };
        let (ticket, buyer) = (&tickets[number % TICKETS], world.user(&format!("buyer-{number}")));
        async move { pays_around_the_expiry(&buyer?, ticket, offset).await }
    });
    let answers = try_join_all(buyers).await?;

    let mut ends = Vec::new();
    for (order, _) in &answers {
        let order = olga.awaits_end(order).await?;
        let payments = olga.awaits_rest(&order).await?;
        ends.push((order, payments));
    }
    let movements = ledger.by_order().await?;
    for (order, payments) in &ends {
        let moved = movements.get(&order.id).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(ledger::wrong(order, moved), None, "{payments:?}");
    }
    for ticket in &tickets {
        let sold = ends.iter().filter(|(order, _)| bought(order, ticket)).map(|(order, _)| order.quantity).sum();
        alice.awaits_stock(&ticket.id, 200 - sold, 0, sold).await?;
    }
    let completed = ends.iter().filter(|(order, _)| order.status() == OrderStatus::Completed).count();
    let refunded = movements.values().filter(|moved| ledger::count(moved, ledger::Kind::Refund) == 1).count();
    let refused = answers.iter().filter(|(_, payment)| payment.is_none()).count();
    say(format_args!("{ORDERS} orders: {completed} completed, {refunded} refunded, {refused} payments refused"));
    assert!(completed > 0 && completed < ORDERS, "it was a race: {completed} of {ORDERS} are completed");
    record::orders(&world).await?;
    record::tickets(&world).await?;
    record::payments(&world).await?;
    world.end().await
}

fn bought(order: &Order, ticket: &Ticket) -> bool {
    order.ticket_id == ticket.id && order.status() == OrderStatus::Completed
}

/// Orders, and pays so many seconds after the expiry; the payment, or nothing if it came too late.
async fn pays_around_the_expiry(buyer: &User, ticket: &Ticket, seconds: f64) -> Result<(String, Option<Payment>)> {
    let placed = buyer.places(ticket, 1).await?;
    let due = Instant::now() + TTL.mul_f64(1.0 + seconds / TTL.as_secs_f64());
    wait::until("the time to pay", SETTLED, || async {
        ensure!(Instant::now() >= due, "it is not yet");
        Ok(())
    })
    .await?;
    match buyer.pays(&placed.id, "pm_card_visa").await {
        Ok(payment) => Ok((placed.id, Some(payment))),
        Err(status) => {
            let refused = Refused::of::<()>(Err(status))?;
            let too_late = Refused::new(Code::FailedPrecondition, "ORDER_NOT_PAYABLE");
            ensure!(refused == too_late, "{refused:?}");
            Ok((placed.id, None))
        }
    }
}

#[tokio::test]
async fn a_charge_that_comes_when_its_order_has_expired_goes_back_once() -> Result<()> {
    // The slow card takes longer than a caller is kept waiting, and longer than the order lives and its end takes to be heard of.
    let world =
        World::with(|stack| Ok(stack.env("orders", "ORDER_TTL", "10s").env("sandbox", "SANDBOX_SLOW", "40s"))).await?;
    let (alice, bob, ledger) = (world.user("alice")?, world.user("bob")?, Ledger::of(&world)?);
    let ticket = alice.lists("Concert", 29900, 5).await?;
    let order = bob.places(&ticket, 2).await?;
    bob.awaits_order(&order.id, OrderStatus::AwaitingPayment).await?;

    let asked = Instant::now();
    let payment = bob.pays(&order.id, "pm_sandbox_slow").await?;
    let waited = asked.elapsed();

    assert_eq!((payment.status(), payment.version), (PaymentStatus::Pending, 1));
    assert!((4..30).contains(&waited.as_secs()), "about 5 s by the contract, and not until it is charged: {waited:?}");
    // While it is pending no other begins, before the order's end or after it.
    let refused = Refused::of(bob.pays(&order.id, "pm_card_visa").await)?;
    let in_progress = Refused { retry: true, ..Refused::new(Code::FailedPrecondition, "PAYMENT_IN_PROGRESS") };
    let ended = Refused::new(Code::FailedPrecondition, "ORDER_NOT_PAYABLE");
    assert!(refused == in_progress || refused == ended, "{refused:?}");
    let cancelled = bob.awaits_cancellation(&order.id, CancelReason::Expired).await?;
    alice.awaits_stock(&ticket.id, 5, 0, 0).await?;
    assert_eq!(bob.payment(&payment.id).await?.status(), PaymentStatus::Pending, "the order's end is no answer");
    let refused = Refused::of(bob.pays(&order.id, "pm_card_visa").await)?;
    assert!(refused == in_progress || refused == ended, "{refused:?}");

    let refunded = bob.awaits_payment(&order.id, PaymentStatus::Refunded).await?;
    assert_eq!(refunded.version, 4, "begun, succeeded, going back, gone back");
    assert_eq!(bob.awaits_rest(&cancelled).await?, [refunded]);
    let moved = ledger.movements_of(&order.id).await?;
    assert_eq!((ledger::wrong(&cancelled, &moved), moved.len()), (None, 2));
    record::payments(&world).await?;
    world.end().await
}
