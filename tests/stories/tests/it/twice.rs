//! Every event may come more than once, and late. Nothing happens more than once.

use std::collections::BTreeMap;

use anyhow::Result;
use contracts::{
    expiration::v1::Expiration,
    orders::v1::{CancelReason, CreateOrderRequest, Order, OrderStatus},
    tickets::v1::Ticket,
};
use futures_util::future::try_join_all;
use stories::{
    User, World,
    duplicator::{Duplicator, awaits_caught_up, repeat_all},
    record,
};

#[tokio::test]
async fn every_event_delivered_twice_changes_nothing_that_once_would_not_have() -> Result<()> {
    let world = World::with(|stack| Ok(stack.env("orders", "ORDER_TTL", "4s"))).await?;
    let (alice, olga) = (world.user("alice")?, world.operator()?);
    let tickets = try_join_all([alice.lists("Scarce", 100, 5), alice.lists("Plenty", 100, 100)]).await?;

    // Given that everything is delivered twice while buyers order, cancel, come too late, and let orders expire.
    let duplicator = Duplicator::start(&world);
    let buyers: Vec<User> = (0..12).map(|number| world.user(&format!("buyer-{number}"))).collect::<Result<_>>()?;
    let mut placed = Vec::new();
    for (number, buyer) in buyers.iter().enumerate() {
        for ticket in &tickets {
            // As tickets decides: whoever is refused at once has no order.
            if let Ok(order) = buyer.places_as(order_of(ticket)).await {
                if number % 3 == 0 {
                    buyer.cancels(&order.id).await?;
                }
                placed.push((buyer, order.id));
            }
        }
    }
    for (buyer, order) in &placed {
        buyer.awaits_order(order, OrderStatus::Cancelled).await?;
    }
    for ticket in &tickets {
        alice.awaits_stock(&ticket.id, ticket.quantity, 0, 0).await?;
    }
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
    alice.awaits_stock(&tickets[1].id, tickets[1].quantity, 0, 0).await?;
    record::tickets(&world).await?;
    record::orders(&world).await?;
    world.end().await
}

fn order_of(ticket: &Ticket) -> CreateOrderRequest {
    CreateOrderRequest { ticket_id: ticket.id.clone(), unit_price: ticket.price.clone(), ..Default::default() }
}

/// All states that were reached by now, with their versions.
async fn everything(
    world: &World,
    olga: &User,
    tickets: &[Ticket],
    placed: &[(&User, String)],
) -> Result<(Vec<(Order, Expiration)>, BTreeMap<String, usize>)> {
    let orders =
        placed.iter().map(|(_, order)| async move { anyhow::Ok((olga.order(order).await?, olga.timer(order).await?)) });
    let orders = try_join_all(orders).await?;
    let told = record::tickets(world).await?;
    // The scarce one is at rest; of the other, one order is still held and may expire at any moment.
    let scarce = told.into_iter().filter(|(key, _)| *key == tickets[0].id);
    Ok((orders, scarce.map(|(key, events)| (key, events.len())).collect()))
}
