//! The whole record, held to what the contract says of every event. In: a world. Out: the events by key, each where it
//! first appears; or what is wrong with them.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, ensure};
use contracts::{
    orders::v1::{OrderEvent, order_event::Change as OrderChange},
    payments::v1::{PaymentEvent, PaymentStatus, payment_event::Change as PaymentChange},
    tickets::v1::{TicketEvent, ticket_event::Change as TicketChange},
};

use crate::{
    World,
    history::{self, Event},
};

/// Every ticket's events: versions from 1 on without a gap, a rejection at the version that it leaves as it is, and
/// stock that is never negative and never lost.
///
/// # Errors
///
/// Any of that isn't so.
pub async fn tickets(world: &World) -> Result<BTreeMap<String, Vec<TicketEvent>>> {
    let mut tales: BTreeMap<String, Vec<TicketEvent>> = BTreeMap::new();
    for (key, events) in by_key(history::first_appearances(world, "tickets").await?)? {
        let mut version = 0;
        for event in events {
            let told: TicketEvent = event.message()?;
            let rejection = matches!(told.change, Some(TicketChange::ReservationRejected(_)));
            version += i64::from(!rejection);
            ensure!(told.ticket_id == key, "the key is {key}, but it is about {told:?}");
            ensure!(told.version == version, "after version {version} (or at it) comes {told:?}");
            let ticket = told.ticket.as_ref().context("an event without its ticket")?;
            ensure!(ticket.version == version, "not its state at that version: {told:?}");
            ensure!(
                ticket.available >= 0
                    && ticket.reserved >= 0
                    && ticket.sold >= 0
                    && ticket.quantity == ticket.available + ticket.reserved + ticket.sold,
                "stock is lost or oversold: {told:?}"
            );
            tales.entry(key.clone()).or_default().push(told);
        }
    }
    Ok(tales)
}

/// Every order's events: versions from 1 on without a gap, beginning with its creation, nothing after its end.
///
/// # Errors
///
/// Any of that isn't so.
pub async fn orders(world: &World) -> Result<BTreeMap<String, Vec<OrderEvent>>> {
    let mut tales: BTreeMap<String, Vec<OrderEvent>> = BTreeMap::new();
    for (key, events) in by_key(history::first_appearances(world, "orders").await?)? {
        let mut ended = false;
        for (version, event) in (1..).zip(events) {
            let told: OrderEvent = event.message()?;
            ensure!(told.order_id == key, "the key is {key}, but it is about {told:?}");
            ensure!(told.version == version, "before version {version} comes {told:?}");
            ensure!(told.order.as_ref().is_some_and(|order| order.version == version), "not that state: {told:?}");
            let change = told.change.as_ref().context("nothing changed")?;
            ensure!((version == 1) == matches!(change, OrderChange::Created(_)), "created, and once: {told:?}");
            ensure!(!ended, "it had ended: {told:?}");
            ended = matches!(change, OrderChange::Cancelled(_) | OrderChange::Completed(_));
            tales.entry(key.clone()).or_default().push(told);
        }
    }
    Ok(tales)
}

/// Every order's payments' events: the account's versions from 1 on without a gap, each payment from its beginning
/// through legal states, and no payment beside one that has not failed.
///
/// # Errors
///
/// Any of that isn't so.
pub async fn payments(world: &World) -> Result<BTreeMap<String, Vec<PaymentEvent>>> {
    let mut tales: BTreeMap<String, Vec<PaymentEvent>> = BTreeMap::new();
    for (key, events) in by_key(history::first_appearances(world, "payments").await?)? {
        let mut statuses: BTreeMap<String, PaymentStatus> = BTreeMap::new();
        for (version, event) in (1..).zip(events) {
            let told: PaymentEvent = event.message()?;
            ensure!(told.order_id == key, "the key is {key}, but it is about {told:?}");
            ensure!(told.version == version, "before version {version} comes {told:?}");
            let payment = told.payment.as_ref().context("an event without its payment")?;
            ensure!(payment.version == version && payment.order_id == key, "not that state: {told:?}");
            let change = told.change.as_ref().context("nothing changed")?;
            let alone = statuses.values().all(|status| *status == PaymentStatus::Failed);
            let before = statuses.insert(payment.id.clone(), payment.status());
            let legal = match (before, change, payment.status()) {
                (None, PaymentChange::Created(_), PaymentStatus::Pending) => alone,
                (Some(PaymentStatus::Pending), PaymentChange::Succeeded(_), PaymentStatus::Succeeded)
                | (Some(PaymentStatus::Pending), PaymentChange::Failed(_), PaymentStatus::Failed)
                | (Some(PaymentStatus::Succeeded), PaymentChange::RefundStarted(_), PaymentStatus::RefundPending)
                | (Some(PaymentStatus::RefundPending), PaymentChange::Refunded(_), PaymentStatus::Refunded) => true,
                _ => false,
            };
            ensure!(legal, "after {before:?} comes {told:?}");
            tales.entry(key.clone()).or_default().push(told);
        }
    }
    Ok(tales)
}

/// Events by their key, in the order in which they lie in its partition.
fn by_key(events: Vec<Event>) -> Result<HashMap<String, Vec<Event>>> {
    let mut keys: HashMap<String, Vec<Event>> = HashMap::new();
    for event in events {
        let others = keys.entry(event.key.clone()).or_default();
        let moved = others.first().is_some_and(|first| first.partition != event.partition);
        ensure!(!moved, "{} has events on two partitions", event.key);
        others.push(event);
    }
    Ok(keys)
}
