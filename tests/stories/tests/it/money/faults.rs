//! A provider that misbehaves: it may take the money and say nothing, or say it twice, or say the wrong thing. Whatever
//! it does, an order is charged once and given back once.

use std::time::Duration;

use anyhow::Result;
use contracts::{orders::v1::OrderStatus, payments::v1::PaymentStatus, tickets::v1::Ticket};
use futures_util::future::try_join_all;
use stories::{
    Ledger, User, World,
    ledger::{self, Kind, Often},
    record,
};

/// What can go wrong with charges and refunds alike. More often than a call is repeated, too: then it is asked again
/// by the clock.
const FAULTS: [(&str, Often); 8] = [
    ("charge_then_hang", Often::Times(1)),
    ("answer_twice", Often::Times(1)),
    ("error_500", Often::Times(1)),
    ("error_500", Often::Times(6)),
    ("execute_then_500", Often::Times(1)),
    ("rate_limited", Often::Times(2)),
    ("rate_limited", Often::For(Duration::from_secs(3))),
    ("drop_mid_answer", Often::Times(1)),
];

/// An order for each of the faults, paid while the provider has it: which order, and the fault's name.
async fn pays_while_charges_break(
    buyer: &User,
    ledger: &Ledger,
    ticket: &Ticket,
    card: &str,
) -> Result<Vec<(String, &'static str)>> {
    let paid = FAULTS.map(|(fault, often)| async move {
        let order = buyer.places(ticket, 1).await?;
        ledger.breaks(&order.id, Kind::Charge, fault, often).await?;
        buyer.pays(&order.id, card).await?;
        anyhow::Ok((order.id, fault))
    });
    try_join_all(paid).await
}

#[tokio::test]
async fn whatever_goes_wrong_with_a_charge_it_is_made_once() -> Result<()> {
    let world = World::with(|stack| Ok(stack.env("payments", "PROVIDER_TIMEOUT", "2s"))).await?;
    let (alice, bob, ledger) = (world.user("alice")?, world.user("bob")?, Ledger::of(&world)?);
    let ticket = alice.lists("Concert", 29900, 50).await?;

    let paid = pays_while_charges_break(&bob, &ledger, &ticket, "pm_card_visa").await?;

    for (order, fault) in &paid {
        bob.awaits_payment(order, PaymentStatus::Succeeded).await?;
        let completed = bob.awaits_order(order, OrderStatus::Completed).await?;
        assert_eq!(ledger::wrong(&completed, &ledger.movements_of(order).await?), None, "{fault}");
        assert_eq!(bob.awaits_rest(&completed).await?.len(), 1, "{fault}");
    }
    let sold = i32::try_from(FAULTS.len())?;
    alice.awaits_stock(&ticket.id, 50 - sold, 0, sold).await?;
    record::payments(&world).await?;
    world.end().await
}

#[tokio::test]
async fn a_card_that_is_declined_while_the_provider_misbehaves_is_declined_all_the_same() -> Result<()> {
    let world = World::with(|stack| Ok(stack.env("payments", "PROVIDER_TIMEOUT", "2s"))).await?;
    let (alice, bob, ledger) = (world.user("alice")?, world.user("bob")?, Ledger::of(&world)?);
    let ticket = alice.lists("Concert", 29900, 50).await?;

    for (order, fault) in pays_while_charges_break(&bob, &ledger, &ticket, "pm_card_chargeDeclined").await? {
        let failed = bob.awaits_payment(&order, PaymentStatus::Failed).await?;
        assert_eq!(failed.failure_reason, "generic_decline", "{fault}");
        assert_eq!(ledger.movements_of(&order).await?, [], "{fault}");
        // And it can be paid now.
        bob.pays(&order, "pm_card_visa").await?;
        let completed = bob.awaits_order(&order, OrderStatus::Completed).await?;
        assert_eq!(ledger::wrong(&completed, &ledger.movements_of(&order).await?), None, "{fault}");
    }
    world.end().await
}

#[tokio::test]
async fn whatever_goes_wrong_with_a_refund_it_is_made_once() -> Result<()> {
    let world =
        World::with(|stack| Ok(stack.env("orders", "ORDER_TTL", "8s").env("payments", "PROVIDER_TIMEOUT", "2s")))
            .await?;
    let (alice, bob, ledger) = (world.user("alice")?, world.user("bob")?, Ledger::of(&world)?);
    let ticket = alice.lists("Concert", 29900, 50).await?;

    // Besides: refused for want of balance, for a while.
    let refused = ("refuse_refund", Often::For(Duration::from_secs(10)));
    let faults = FAULTS.into_iter().chain([refused, ("refuse_refund", Often::Times(2))]);
    let paid = faults.map(|(fault, often)| {
        let often = match often {
            // Not before there is anything to give back, which is 10 s from now.
            Often::For(time) => Often::For(time + Duration::from_secs(10)),
            times @ Often::Times(_) => times,
        };
        charged_in_vain(&bob, &ledger, &ticket, fault, often)
    });
    let paid = try_join_all(paid).await?;

    for (order, fault) in &paid {
        bob.awaits_payment(order, PaymentStatus::Refunded).await?;
        let cancelled = bob.awaits_order(order, OrderStatus::Cancelled).await?;
        let moved = ledger.movements_of(order).await?;
        assert_eq!((ledger::wrong(&cancelled, &moved), moved.len()), (None, 2), "{fault}");
    }
    alice.awaits_stock(&ticket.id, 50, 0, 0).await?;
    record::payments(&world).await?;
    world.end().await
}

/// An order that expires while its slow card is charged, and whose refund goes wrong.
async fn charged_in_vain<'a>(
    bob: &User,
    ledger: &Ledger,
    ticket: &Ticket,
    fault: &'a str,
    often: Often,
) -> Result<(String, &'a str)> {
    let order = bob.places(ticket, 1).await?;
    ledger.breaks(&order.id, Kind::Refund, fault, often).await?;
    bob.pays(&order.id, "pm_sandbox_slow").await?;
    Ok((order.id, fault))
}
