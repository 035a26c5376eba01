//! Two replicas of each service share the work; one of them dies, or sleeps and comes back.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use contracts::orders::v1::{CancelReason, ListOrdersRequest, Order, OrderStatus};
use futures_util::future::{join_all, try_join_all};
use local::wait;
use stories::{SERVICES, SOON, User, World, groups, record};
use tokio::sync::watch;

const BUYERS: usize = 24;
const ORDERS_EACH: usize = 6;
/// Fewer than are ordered even if all calls to one replica fail from the first quarter on.
const STOCK: i32 = 60;

#[tokio::test]
async fn when_a_replica_is_killed_every_acknowledged_order_is_decided_and_nothing_is_oversold() -> Result<()> {
    let world = World::twofold().await?;
    let ticket = world.user_at("alice", 1)?.lists("Hot", 100, STOCK).await?;
    let placed = watch::Sender::new(0);

    let kill = async {
        placed.subscribe().wait_for(|placed| *placed >= BUYERS * ORDERS_EACH / 4).await?;
        for service in SERVICES {
            world.replica(service, 0)?.process().kill().await?;
        }
        anyhow::Ok(())
    };
    let (acknowledged, killed) = tokio::join!(rush(&world, &ticket, &placed), kill);
    killed?;

    settled(&world, &ticket.id, &acknowledged?).await?;
    world.end().await
}

#[tokio::test]
async fn a_replica_that_was_paused_does_no_harm_when_it_wakes() -> Result<()> {
    let world = World::twofold().await?;
    let ticket = world.user_at("alice", 1)?.lists("Hot", 100, STOCK).await?;
    let placed = watch::Sender::new(0);

    let pause = async {
        placed.subscribe().wait_for(|placed| *placed >= BUYERS * ORDERS_EACH / 4).await?;
        for service in SERVICES {
            world.replica(service, 0)?.process().pause()?;
        }
        anyhow::Ok(())
    };
    let (acknowledged, paused) = tokio::join!(rush(&world, &ticket, &placed), pause);
    paused?;
    // The others have taken all over by the time that everything is decided.
    let acknowledged = acknowledged?;
    settled(&world, &ticket.id, &acknowledged).await?;

    for service in SERVICES {
        world.replica(service, 0)?.process().resume()?;
    }
    for service in SERVICES {
        world.awaits_serving(service, true).await?;
    }
    // While a group shares its partitions out anew, what is said is heard later than a caller waits for it.
    groups::awaits_all(&world).await?;
    // What it still had in hand changes nothing, and it takes part again.
    settled(&world, &ticket.id, &acknowledged).await?;
    let alice = world.user("alice")?;
    let next = alice.lists("The next", 100, BUYERS as i32).await?;
    let late = try_join_all((0..BUYERS).map(|number| {
        let next = &next;
        let world = &world;
        async move {
            let buyer = world.user_at(&buyer(number), number)?;
            let order = buyer.places(next, 1).await?;
            buyer.awaits_order(&order.id, OrderStatus::AwaitingPayment).await
        }
    }));
    late.await?;
    alice.awaits_stock(&next.id, 0, BUYERS as i32, 0).await?;
    record::tickets(&world).await?;
    record::orders(&world).await?;
    world.end().await
}

fn buyer(number: usize) -> String {
    format!("buyer-{number}")
}

/// Everybody orders again and again, at both replicas; gives the orders that were acknowledged, by who placed them. A
/// call that fails because its replica has gone is nobody's order, as far as its buyer knows.
async fn rush(
    world: &World,
    ticket: &contracts::tickets::v1::Ticket,
    placed: &watch::Sender<usize>,
) -> Result<HashMap<String, String>> {
    let buyers = (0..BUYERS).map(|number| async move {
        let both: [User; 2] = [world.user_at(&buyer(number), 0)?, world.user_at(&buyer(number), 1)?];
        let mut acknowledged = Vec::new();
        for round in 0..ORDERS_EACH {
            let mut request = tonic::Request::new(contracts::orders::v1::CreateOrderRequest {
                ticket_id: ticket.id.clone(),
                unit_price: ticket.price.clone(),
                ..Default::default()
            });
            // Shorter than a pause may last: a replica that doesn't answer is given up.
            request.set_timeout(std::time::Duration::from_secs(2));
            let answer = both[(number + round) % 2].orders.clone().create_order(request).await;
            placed.send_modify(|placed| *placed += 1);
            if let Ok(Some(order)) = answer.map(|answer| answer.into_inner().order) {
                acknowledged.push((order.id, buyer(number)));
            }
        }
        anyhow::Ok(acknowledged)
    });
    let all: Vec<_> = join_all(buyers).await.into_iter().collect::<Result<_>>()?;
    Ok(all.into_iter().flatten().collect())
}

/// Waits until everything is decided, and then looks whether it was decided well.
async fn settled(world: &World, ticket: &str, acknowledged: &HashMap<String, String>) -> Result<()> {
    let (alice, olga) = (world.user_at("alice", 1)?, world.operator_at(1)?);
    let orders = wait::until("every order to be decided, and the stock to match", SOON, || async {
        let orders = all_orders(&olga).await?;
        let open = orders.iter().filter(|order| order.status() == OrderStatus::Created).count();
        ensure!(open == 0, "{open} of {} orders are not decided", orders.len());
        let held: i32 = awaiting(&orders).map(|order| order.quantity).sum();
        let stock = alice.ticket(ticket).await?;
        ensure!(stock.reserved == held, "{held} are ordered, {} reserved", stock.reserved);
        Ok(orders)
    })
    .await?;
    for (id, buyer) in acknowledged {
        let order = orders.iter().find(|order| order.id == *id);
        ensure!(order.is_some_and(|order| order.user_id == *buyer), "an acknowledged order is lost: {id} of {buyer}");
    }
    let otherwise = orders
        .iter()
        .find(|order| order.status() == OrderStatus::Cancelled && order.cancel_reason() != CancelReason::SoldOut);
    ensure!(otherwise.is_none(), "cancelled for another reason: {otherwise:?}");
    ensure!(awaiting(&orders).count() == usize::try_from(STOCK)?, "there were more who wanted it than there is");
    record::tickets(world).await?;
    record::orders(world).await?;
    Ok(())
}

fn awaiting(orders: &[Order]) -> impl Iterator<Item = &Order> {
    orders.iter().filter(|order| order.status() == OrderStatus::AwaitingPayment)
}

async fn all_orders(olga: &User) -> Result<Vec<Order>> {
    let mut orders = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListOrdersRequest { page_size: Some(200), page_token, ..Default::default() };
        let page = olga.orders.clone().list_orders(request).await?.into_inner();
        orders.extend(page.orders);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(orders);
        }
    }
}
