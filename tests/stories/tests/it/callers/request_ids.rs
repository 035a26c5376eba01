//! What is asked once with a request id is done once, however often it arrives and wherever.

use anyhow::{Result, ensure};
use contracts::{
    orders::v1::{CreateOrderRequest, ListOrdersRequest, OrderStatus},
    tickets::v1::{CreateTicketRequest, ListTicketsRequest},
    r#type::v1::Money,
};
use futures_util::future::try_join_all;
use local::wait;
use stories::{Refused, SOON, User, World};
use tonic::Code;
use uuid::Uuid;

#[tokio::test]
async fn one_request_that_arrives_fifty_times_at_two_replicas_is_one_ticket_and_one_order() -> Result<()> {
    let world = World::twofold().await?;
    let at_both = |name: &str| anyhow::Ok([world.user_at(name, 0)?, world.user_at(name, 1)?]);
    let (alice, bob) = (at_both("alice")?, at_both("bob")?);

    let listing = CreateTicketRequest {
        title: "Once".to_owned(),
        price: Some(Money::of("USD", 100)),
        quantity: Some(50),
        request_id: some_id(),
    };
    let calls = (0..50).map(|number: usize| alice[number % 2].lists_as(listing.clone()));
    let tickets = try_join_all(calls).await?;
    let ticket = &tickets[0];
    assert!(tickets.iter().all(|other| other.id == ticket.id), "one ticket: {tickets:?}");
    let listed = alice[0].tickets.clone().list_tickets(ListTicketsRequest::default()).await?.into_inner();
    assert_eq!(listed.tickets.len(), 1);

    // A request is the same with its defaults filled in.
    let spelled_out =
        CreateOrderRequest { ticket_id: ticket.id.clone(), quantity: Some(1), unit_price: None, request_id: some_id() };
    let by_default = CreateOrderRequest { quantity: None, ..spelled_out.clone() };
    let calls = (0..50).map(|number: usize| {
        let request = if number.is_multiple_of(3) { &by_default } else { &spelled_out };
        bob[number % 2].places_as(request.clone())
    });
    let orders = try_join_all(calls).await?;
    assert!(orders.iter().all(|other| other.id == orders[0].id), "one order: {orders:?}");
    bob[1].awaits_order(&orders[0].id, OrderStatus::AwaitingPayment).await?;
    alice[1].awaits_stock(&ticket.id, 49, 1, 0).await?;
    assert_eq!(orders_of(&bob[0]).await?, 1);

    // The same id with another content is another request, which it can't stand for.
    let reused = Refused::new(Code::AlreadyExists, "REQUEST_ID_REUSED");
    let others = [
        CreateOrderRequest { quantity: Some(2), ..spelled_out.clone() },
        CreateOrderRequest { unit_price: ticket.price.clone(), ..spelled_out.clone() },
        CreateOrderRequest { ticket_id: Uuid::now_v7().to_string(), ..spelled_out.clone() },
    ];
    for (number, other) in others.into_iter().enumerate() {
        assert_eq!(Refused::of(bob[number % 2].places_as(other).await)?, reused);
    }
    let retitled = CreateTicketRequest { title: "Twice".to_owned(), ..listing.clone() };
    assert_eq!(Refused::of(alice[1].lists_as(retitled).await)?, reused);

    // Another user's ids are theirs, and another RPC's its own.
    let carol = at_both("carol")?;
    let hers = carol[0].places_as(spelled_out.clone()).await?;
    assert_ne!(hers.id, orders[0].id);
    let same_id = CreateOrderRequest { request_id: listing.request_id.clone(), ..spelled_out.clone() };
    assert_ne!(alice[0].places_as(same_id).await?.ticket_id, "");

    // Still the same answer when much has happened: the order as it is now.
    bob[0].cancels(&orders[0].id).await?;
    let again = bob[1].places_as(spelled_out).await?;
    assert_eq!((again.id.as_str(), again.status()), (orders[0].id.as_str(), OrderStatus::Cancelled));
    world.end().await
}

#[tokio::test]
async fn a_refusal_is_not_remembered() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob, carol) = (world.user("alice")?, world.user("bob")?, world.user("carol")?);
    let ticket = alice.lists("The last one", 100, 1).await?;
    let bobs = bob.places(&ticket, 1).await?;
    // By then orders knows that none is left.
    bob.awaits_order(&bobs.id, OrderStatus::AwaitingPayment).await?;

    let request =
        CreateOrderRequest { ticket_id: ticket.id.clone(), request_id: some_id(), ..CreateOrderRequest::default() };
    let sold_out = Refused { retry: true, ..Refused::new(Code::FailedPrecondition, "SOLD_OUT") };
    for _ in 0..2 {
        assert_eq!(Refused::of(carol.places_as(request.clone()).await)?, sold_out);
    }

    bob.cancels(&bobs.id).await?;
    let placed = wait::until("the last one to be on sale again", SOON, || async {
        let answer = carol.places_as(request.clone()).await;
        if let Err(refusal) = &answer {
            let refused = Refused::of::<()>(Err(refusal.clone()))?;
            ensure!(refused == sold_out, "refused otherwise: {refused:?}");
        }
        Ok(answer?)
    })
    .await?;
    assert_eq!(carol.places_as(request).await?.id, placed.id, "what was done is remembered");
    assert_eq!(orders_of(&carol).await?, 1);
    world.end().await
}

async fn orders_of(user: &User) -> Result<usize> {
    Ok(user.orders.clone().list_orders(ListOrdersRequest::default()).await?.into_inner().orders.len())
}

fn some_id() -> Option<String> {
    Some(Uuid::new_v4().to_string())
}
