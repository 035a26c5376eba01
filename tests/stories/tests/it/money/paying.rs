//! How orders are paid, one by one.

use std::time::{Duration, Instant};

use anyhow::Result;
use contracts::{
    expiration::v1::ExpirationStatus,
    orders::v1::{CancelReason, OrderStatus},
    payments::v1::{CreatePaymentRequest, PaymentStatus, payment_event::Change},
    r#type::v1::Money,
};
use local::wait;
use stories::{
    Ledger, Refused, SOON, World,
    delay::Delay,
    ledger::{self, Totals},
    record,
};
use tonic::Code;
use uuid::Uuid;

#[tokio::test]
async fn an_order_that_is_paid_is_completed_its_ticket_sold_and_its_card_charged_once() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob, olga, ledger) = (world.user("alice")?, world.user("bob")?, world.operator()?, Ledger::of(&world)?);
    let ticket = alice.lists("Concert", 29900, 5).await?;
    let order = bob.places(&ticket, 2).await?;

    let payment = bob.pays(&order.id, "pm_card_visa").await?;

    assert_eq!((payment.status(), payment.version), (PaymentStatus::Succeeded, 2), "begun, and succeeded");
    assert_eq!((payment.order_id.as_str(), payment.user_id.as_str()), (order.id.as_str(), "bob"));
    assert_eq!(payment.amount, Some(Money::of("USD", 59800)));
    assert_eq!((payment.provider.as_str(), payment.failure_reason.as_str()), ("stripe", ""));
    let completed = bob.awaits_order(&order.id, OrderStatus::Completed).await?;
    assert_eq!(completed.version, 3);
    alice.awaits_stock(&ticket.id, 3, 0, 2).await?;
    olga.awaits_timer(&order.id, ExpirationStatus::Dropped).await?;

    let movements = ledger.movements_of(&order.id).await?;
    assert_eq!(ledger::wrong(&completed, &movements), None);
    assert_eq!((&movements[0].payment_intent, movements[0].currency.as_str()), (&payment.provider_reference, "usd"));
    let sum = Totals { charges: 1, charged: 59800, ..Totals::default() };
    assert_eq!(ledger.totals().await?, [("usd".to_owned(), sum)].into());

    // It is told to its buyer and to operators, and to nobody else.
    for user in [&bob, &olga] {
        assert_eq!(user.payment(&payment.id).await?, payment);
        assert_eq!(user.payments(&order.id).await?, std::slice::from_ref(&payment));
    }
    assert_eq!(Refused::of(alice.payment(&payment.id).await)?, Refused::new(Code::NotFound, "NOT_FOUND"));
    assert_eq!(alice.payments(&order.id).await?, []);
    // Nobody pays what is paid, or takes back what is sold.
    let paid = Refused::new(Code::FailedPrecondition, "ALREADY_PAID");
    assert_eq!(Refused::of(bob.pays(&order.id, "pm_card_visa").await)?, paid);
    let sold = Refused::new(Code::FailedPrecondition, "ORDER_COMPLETED");
    assert_eq!(Refused::of(bob.cancels(&order.id).await)?, sold);
    record::orders(&world).await?;
    record::tickets(&world).await?;
    world.end().await
}

#[tokio::test]
async fn what_costs_nothing_is_paid_without_a_provider() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob, ledger) = (world.user("alice")?, world.user("bob")?, Ledger::of(&world)?);
    let ticket = alice.lists("Open day", 0, 5).await?;
    let order = bob.places(&ticket, 1).await?;
    bob.awaits_order(&order.id, OrderStatus::AwaitingPayment).await?;
    // Nobody is there to be asked.
    world.provider()?.kill().await?;

    let payment = bob.pays(&order.id, "pm_card_visa").await?;

    assert_eq!((payment.status(), payment.version), (PaymentStatus::Succeeded, 2));
    assert_eq!((payment.provider.as_str(), payment.provider_reference.as_str()), ("", ""));
    let completed = bob.awaits_order(&order.id, OrderStatus::Completed).await?;
    alice.awaits_stock(&ticket.id, 4, 0, 1).await?;
    world.provider()?.start().await?;
    assert_eq!(ledger::wrong(&completed, &ledger.movements().await?), None);
    world.end().await
}

#[tokio::test]
async fn a_declined_card_is_an_answer_and_another_card_may_pay() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob, ledger) = (world.user("alice")?, world.user("bob")?, Ledger::of(&world)?);
    let ticket = alice.lists("Concert", 29900, 5).await?;
    let order = bob.places(&ticket, 1).await?;

    let declined = bob.pays(&order.id, "pm_card_chargeDeclined").await?;
    assert_eq!((declined.status(), declined.failure_reason.as_str()), (PaymentStatus::Failed, "generic_decline"));
    let unknown = bob.pays(&order.id, "pm_of_another_bank").await?;
    assert_eq!((unknown.status(), unknown.failure_reason.as_str()), (PaymentStatus::Failed, "unknown_payment_method"));
    assert_eq!(bob.order(&order.id).await?.status(), OrderStatus::AwaitingPayment);
    assert_eq!(ledger.movements().await?, []);

    let paid = bob.pays(&order.id, "pm_card_visa").await?;
    assert_eq!((paid.status(), paid.version), (PaymentStatus::Succeeded, 6));
    let completed = bob.awaits_order(&order.id, OrderStatus::Completed).await?;
    alice.awaits_stock(&ticket.id, 4, 0, 1).await?;
    assert_eq!(ledger::wrong(&completed, &ledger.movements_of(&order.id).await?), None);
    assert_eq!(bob.payments(&order.id).await?, [paid, unknown, declined]);
    wait::until("all of it to be told", SOON, || async {
        let told = record::payments(&world).await?;
        let changes: Vec<_> = told.get(&order.id).into_iter().flatten().map(|event| name(event.change)).collect();
        let expected = ["created", "failed", "created", "failed", "created", "succeeded"];
        anyhow::ensure!(changes == expected, "{changes:?}");
        Ok(())
    })
    .await?;
    world.end().await
}

fn name(change: Option<Change>) -> &'static str {
    match change {
        Some(Change::Created(_)) => "created",
        Some(Change::Succeeded(_)) => "succeeded",
        Some(Change::Failed(_)) => "failed",
        Some(Change::RefundStarted(_)) => "refund_started",
        Some(Change::Refunded(_)) => "refunded",
        None => "nothing",
    }
}

#[tokio::test]
async fn only_its_buyer_pays_an_order_and_only_while_it_holds_stock() -> Result<()> {
    let world = World::with(|stack| Ok(stack.env("payments", "HEARING_TIMEOUT", "2s"))).await?;
    let (alice, bob, carol, olga) = (world.user("alice")?, world.user("bob")?, world.user("carol")?, world.operator()?);
    let ledger = Ledger::of(&world)?;
    let ticket = alice.lists("Concert", 100, 5).await?;
    let order = bob.places(&ticket, 1).await?;
    bob.awaits_order(&order.id, OrderStatus::AwaitingPayment).await?;

    // Another's order isn't there, nor is one that nobody placed: both are waited for, for they may not be known yet.
    let nothing_there = Refused { retry: true, ..Refused::new(Code::NotFound, "NOT_FOUND") };
    let asked = Instant::now();
    for stranger in [&carol, &olga] {
        assert_eq!(Refused::of(stranger.pays(&order.id, "pm_card_visa").await)?, nothing_there);
    }
    assert_eq!(Refused::of(bob.pays(&Uuid::now_v7().to_string(), "pm_card_visa").await)?, nothing_there);
    // 2 s each, and not the 30 s that their callers wait; what lies between is for a machine that does much else.
    assert!(asked.elapsed() < Duration::from_secs(60), "{:?}", asked.elapsed());

    // One that holds no stock, as far as anybody knows, is waited for, and may be tried again.
    let delay = Delay::of_ticket(&world, &ticket.id).await?;
    let early = bob.places(&ticket, 1).await?;
    let not_yet = Refused { retry: true, ..Refused::new(Code::FailedPrecondition, "ORDER_NOT_PAYABLE") };
    let refused = Refused::of(bob.pays(&early.id, "pm_card_visa").await)?;
    assert!(refused == not_yet || refused == nothing_there, "{refused:?}");
    delay.ends().await?;
    assert_eq!(bob.pays(&early.id, "pm_card_visa").await?.status(), PaymentStatus::Succeeded);

    // One that was cancelled is paid no more.
    bob.cancels(&order.id).await?;
    let ended = Refused::new(Code::FailedPrecondition, "ORDER_NOT_PAYABLE");
    let refusal = wait::until("payments to hear of the end", SOON, || async {
        let outcome = bob.pays(&order.id, "pm_card_chargeDeclined").await;
        anyhow::ensure!(outcome.is_err(), "it can still be paid");
        Ok(outcome)
    })
    .await?;
    assert_eq!(Refused::of(refusal)?, ended);
    bob.awaits_cancellation(&order.id, CancelReason::Buyer).await?;
    assert_eq!(ledger.movements_of(&order.id).await?, []);
    world.end().await
}

#[tokio::test]
async fn every_fault_of_a_payment_is_told_in_one_answer() -> Result<()> {
    let world = World::start().await?;
    let bob = world.user("bob")?;
    let request = CreatePaymentRequest {
        order_id: "none".to_owned(),
        payment_method: String::new(),
        request_id: Some("once".to_owned()),
    };

    let mut refused = Refused::of(bob.pays_as(request).await)?;

    refused.fields.sort();
    let fields = ["order_id", "payment_method", "request_id"].map(str::to_owned).to_vec();
    assert_eq!(refused, Refused { fields, ..Refused::new(Code::InvalidArgument, "INVALID_ARGUMENT") });
    let endless = bob.pays(&Uuid::now_v7().to_string(), &"x".repeat(101)).await;
    assert_eq!(Refused::of(endless)?.fields, ["payment_method"]);
    world.end().await
}
