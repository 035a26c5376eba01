//! One order's life, without a payment.

use anyhow::Result;
use contracts::orders::v1::{CancelReason, OrderStatus};
use stories::World;

#[tokio::test]
async fn an_order_holds_stock_until_its_buyer_cancels_it() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = (world.user("alice")?, world.user("bob")?);
    let ticket = alice.lists("Concert", 29900, 5).await?;

    let order = bob.places(&ticket, 2).await?;
    assert_eq!(order.status(), OrderStatus::Created);
    bob.awaits_order(&order.id, OrderStatus::AwaitingPayment).await?;
    alice.awaits_stock(&ticket.id, 3, 2, 0).await?;

    bob.cancels(&order.id).await?;
    bob.awaits_cancellation(&order.id, CancelReason::Buyer).await?;
    alice.awaits_stock(&ticket.id, 5, 0, 0).await?;
    world.end().await
}
