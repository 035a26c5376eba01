//! What is listed is sold once, however many want it.

use anyhow::{Result, ensure};
use contracts::{
    orders::v1::{CancelReason, OrderStatus},
    tickets::v1::Ticket,
};
use futures_util::future::{join_all, try_join_all};
use stories::{Refused, User, World, record};
use tonic::Code;

#[tokio::test]
async fn an_order_takes_its_quantity_out_of_the_stock_and_each_change_is_one_version() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = (world.user("alice")?, world.user("bob")?);

    let listed = alice.lists("Concert", 29900, 5).await?;
    let placed = bob.places(&listed, 2).await?;

    assert_eq!((placed.status(), placed.version), (OrderStatus::Created, 1));
    assert_eq!((placed.user_id.as_str(), placed.ticket_title.as_str()), ("bob", "Concert"));
    assert_eq!(placed.total_price.clone().map(|price| price.minor_units), Some(59800));
    let held = bob.awaits_order(&placed.id, OrderStatus::AwaitingPayment).await?;
    assert_eq!((held.version, held.expire_time), (2, placed.expire_time));
    let ticket = alice.awaits_stock(&listed.id, 3, 2, 0).await?;
    assert_eq!((listed.version, ticket.version, ticket.revision), (1, 2, 1), "a reservation is no edit");

    assert_eq!(record::tickets(&world).await?[&listed.id].len(), 2);
    assert_eq!(record::orders(&world).await?[&placed.id].len(), 2);
    world.end().await
}

#[tokio::test]
async fn of_a_hundred_buyers_at_once_exactly_as_many_get_a_ticket_as_there_are() -> Result<()> {
    let world = World::start().await?;
    a_hundred_buyers_want(&world, 1).await?;
    a_hundred_buyers_want(&world, 30).await?;
    world.end().await
}

#[tokio::test]
async fn two_replicas_of_each_service_oversell_no_more_than_one_does() -> Result<()> {
    let world = World::twofold().await?;
    a_hundred_buyers_want(&world, 1).await?;
    a_hundred_buyers_want(&world, 30).await?;
    world.end().await
}

async fn a_hundred_buyers_want(world: &World, quantity: i32) -> Result<()> {
    let alice = world.user("alice")?;
    let ticket = alice.lists("Hot", 100, quantity).await?;
    let buyers: Vec<User> =
        (0..100).map(|number| world.user_at(&format!("buyer-{number}"), number)).collect::<Result<_>>()?;

    let ends = join_all(buyers.iter().map(|buyer| is_served(buyer, &ticket))).await;

    let ends: Vec<Option<String>> = ends.into_iter().collect::<Result<_>>()?;
    let served: Vec<&String> = ends.iter().flatten().collect();
    assert_eq!(served.len(), usize::try_from(quantity)?, "so many were listed, and so many get one");
    alice.awaits_stock(&ticket.id, 0, quantity, 0).await?;
    record::orders(world).await?;
    let tale = record::tickets(world).await?;
    assert_eq!(tale[&ticket.id].iter().map(|event| event.version).max(), Some(i64::from(quantity) + 1));

    // What comes back can be had again.
    let winners = buyers.iter().zip(&ends).filter_map(|(buyer, end)| Some((buyer, end.as_ref()?)));
    try_join_all(winners.map(|(buyer, order)| buyer.cancels(order))).await?;
    alice.awaits_stock(&ticket.id, quantity, 0, 0).await?;
    Ok(())
}

/// How it ends for a buyer: with an order that awaits its payment, or with the news that all is sold, early or late.
async fn is_served(buyer: &User, ticket: &Ticket) -> Result<Option<String>> {
    let placed = match buyer.places(ticket, 1).await {
        Ok(placed) => placed,
        Err(refusal) => {
            let sold_out = Refused { retry: true, ..Refused::new(Code::FailedPrecondition, "SOLD_OUT") };
            let refused = Refused::of::<()>(Err(refusal))?;
            ensure!(refused == sold_out, "{refused:?}");
            return Ok(None);
        }
    };
    let decided = buyer.awaits_decision(&placed.id).await?;
    match (decided.status(), decided.cancel_reason()) {
        (OrderStatus::AwaitingPayment, _) => Ok(Some(decided.id)),
        (OrderStatus::Cancelled, CancelReason::SoldOut) => Ok(None),
        _ => anyhow::bail!("neither served nor told that all is sold: {decided:?}"),
    }
}
