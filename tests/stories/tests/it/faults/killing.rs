//! Kill and audit, a short run of it. `make kill-and-audit` is the long one.

use anyhow::Result;
use contracts::orders::v1::OrderStatus;
use stories::{
    Ledger, World,
    audit::audit,
    killing::{self, Plan},
};

#[tokio::test]
async fn whatever_is_killed_stock_and_money_are_conserved_and_every_acknowledged_order_is_decided() -> Result<()> {
    let report = killing::run(Plan { orders: 64, kills: 8, seed: 3 }).await?;
    assert_eq!(report.violations, Vec::<String>::new());
    assert!(report.acknowledged > 0 && report.payments > 0, "{report:?}");
    Ok(())
}

#[tokio::test]
async fn the_audit_notices_lost_orders_and_money_on_the_wrong_side() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = (world.user("alice")?, world.user("bob")?);
    let ticket = alice.lists("Concert", 29900, 5).await?;
    let order = bob.places(&ticket, 1).await?;
    bob.pays(&order.id, "pm_card_visa").await?;
    bob.awaits_order(&order.id, OrderStatus::Completed).await?;
    alice.awaits_stock(&ticket.id, 4, 0, 1).await?;
    let acknowledged = [order.id.clone()].into();
    assert_eq!(audit(&world, &acknowledged).await?, Vec::<String>::new());

    let lost = uuid::Uuid::now_v7().to_string();
    let violations = audit(&world, &[order.id.clone(), lost.clone()].into()).await?;
    assert_eq!(violations, [format!("order {lost} was acknowledged, and is lost")]);

    Ledger::of(&world)?.gives_back(&order.id).await?;
    let violations = audit(&world, &acknowledged).await?;
    assert!(!violations.is_empty() && violations.iter().all(|line| line.contains(&order.id)), "{violations:?}");
    world.end().await
}
