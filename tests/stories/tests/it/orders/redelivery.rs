//! Every event may come more than once, and late. Nothing happens more than once.

use std::collections::BTreeMap;

use anyhow::Result;
use contracts::{
    expiration::v1::Expiration,
    orders::v1::{CancelReason, CreateOrderRequest, Order, OrderStatus},
    payments::v1::Payment,
    tickets::v1::Ticket,
};
use futures_util::future::try_join_all;
use stories::{
    Ledger, User, World,
    duplicator::{Duplicator, repeat_all},
    groups::awaits_caught_up,
    ledger::{self, Movement},
    record,
};
use tokio::task::JoinSet;

#[tokio::test]
async fn every_event_delivered_twice_changes_nothing_that_once_would_not_have() -> Result<()> {
    let world = World::with(|stack| Ok(stack.env("orders", "ORDER_TTL", "8s"))).await?;
    let (alice, olga) = (world.user("alice")?, world.operator()?);
    let tickets = try_join_all([alice.lists("Scarce", 100, 5), alice.lists("Plenty", 100, 100)]).await?;

    // Given that everything is delivered twice while buyers order, cancel, pay, are declined, pay too late, come too
    // late, and let orders expire.
    let duplicator = Duplicator::start(&world);
    let buyers: Vec<User> = (0..12).map(|number| world.user(&format!("buyer-{number}"))).collect::<Result<_>>()?;
    let (mut placed, mut slow) = (Vec::new(), JoinSet::new());
    for (number, buyer) in buyers.iter().enumerate() {
        for ticket in &tickets {
            // As tickets decides: whoever is refused at once has no order.
            if let Ok(order) = buyer.places_as(order_of(ticket)).await {
                placed.push((buyer, order.id.clone()));
                if number % 4 == 0 {
                    buyer.cancels(&order.id).await?;
                    continue;
                }
                // Whether it gets through or not: tickets may have refused the order, or time have run out.
                let card = ["", "pm_card_visa", "pm_card_chargeDeclined", "pm_sandbox_slow"][number % 4];
                slow.spawn(pays(buyer.clone(), order.id, card));
            }
        }
    }
    slow.join_all().await;
    let mut ends = Vec::new();
    for (buyer, order) in &placed {
        let order = buyer.awaits_end(order).await?;
        buyer.awaits_rest(&order).await?;
        ends.push(order);
    }
    let sold = |ticket: &Ticket| -> i32 {
        let bought = |order: &&Order| order.ticket_id == ticket.id && order.status() == OrderStatus::Completed;
        ends.iter().filter(bought).map(|order| order.quantity).sum()
    };
    for ticket in &tickets {
        alice.awaits_stock(&ticket.id, ticket.quantity - sold(ticket), 0, sold(ticket)).await?;
    }
    let movements = Ledger::of(&world)?.by_order().await?;
    for order in &ends {
        let moved = movements.get(&order.id).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(ledger::wrong(order, moved), None);
    }
    assert!(movements.values().any(|moved| moved.len() == 1), "somebody paid");
    assert!(movements.values().any(|moved| moved.len() == 2), "somebody paid too late");
    awaits_caught_up(&world).await?;
    assert!(duplicator.stop().await? >= 3 * placed.len(), "they were copied indeed");
    // … and one order that is still open.
    let held = buyers[0].places_as(order_of(&tickets[1])).await?;
    let held = buyers[0].awaits_order(&held.id, OrderStatus::AwaitingPayment).await?;
    let before = everything(&world, &olga, &tickets, &placed).await?;

    // When all of history comes again.
    let repeated = repeat_all(&world).await?;
    awaits_caught_up(&world).await?;

    // Then all is as it was.
    assert!(repeated > 4 * placed.len());
    assert_eq!(everything(&world, &olga, &tickets, &placed).await?, before);
    let end = buyers[0].awaits_cancellation(&held.id, CancelReason::Expired).await?;
    assert_eq!(end.version, 3, "held, and then expired, once each");
    alice.awaits_stock(&tickets[1].id, tickets[1].quantity - sold(&tickets[1]), 0, sold(&tickets[1])).await?;
    record::tickets(&world).await?;
    record::orders(&world).await?;
    record::payments(&world).await?;
    world.end().await
}

fn order_of(ticket: &Ticket) -> CreateOrderRequest {
    CreateOrderRequest { ticket_id: ticket.id.clone(), unit_price: ticket.price.clone(), ..Default::default() }
}

async fn pays(buyer: User, order: String, card: &str) {
    drop(buyer.pays(&order, card).await);
}

/// What has become of an order, its timer and its payments.
type End = (Order, Expiration, Vec<Payment>);

/// All states that were reached by now, with their versions, and all money that ever moved.
async fn everything(
    world: &World,
    olga: &User,
    tickets: &[Ticket],
    placed: &[(&User, String)],
) -> Result<(Vec<End>, Vec<Movement>, BTreeMap<String, usize>)> {
    let orders = placed.iter().map(|(_, order)| async move {
        anyhow::Ok((olga.order(order).await?, olga.timer(order).await?, olga.payments(order).await?))
    });
    let orders = try_join_all(orders).await?;
    let told = record::tickets(world).await?;
    // The scarce one is at rest; of the other, one order is still held and may expire at any moment.
    let scarce = told.into_iter().filter(|(key, _)| *key == tickets[0].id);
    let moved = Ledger::of(world)?.movements().await?;
    Ok((orders, moved, scarce.map(|(key, events)| (key, events.len())).collect()))
}
