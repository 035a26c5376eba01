//! What must hold of a whole system once it has come to rest, seen from outside: through the API, on the topics, in the
//! payment provider's ledger, and in what payments keeps of orders, which no client is ever shown. In: a world, and what
//! its buyers were told. Out: every violation, in a line of its own.

mod money;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use contracts::{
    orders::v1::{ListOrdersRequest, Order, OrderStatus},
    tickets::v1::{ListTicketsRequest, Ticket, TicketStatus},
};

use crate::{World, record};

/// Everything that is not as it must be; nothing, if all is well.
///
/// # Errors
///
/// The system can't be asked.
pub async fn audit(world: &World, acknowledged: &BTreeSet<String>) -> Result<Vec<String>> {
    let (tickets, orders) = (all_tickets(world).await?, all_orders(world).await?);
    let mut violations = Vec::new();
    for id in acknowledged.iter().filter(|id| !orders.contains_key(*id)) {
        violations.push(format!("order {id} was acknowledged, and is lost"));
    }
    for id in orders.keys().filter(|id| !acknowledged.contains(*id)) {
        violations.push(format!("order {id} exists, and nobody was told of it: a request was done twice"));
    }
    for order in orders.values().filter(|order| order.status() == OrderStatus::Created) {
        violations.push(format!("order {} was never decided", order.id));
    }
    for ticket in tickets.values() {
        violations.extend(stock(ticket, &orders));
    }
    match record::orders(world).await {
        Ok(told) => {
            for (id, order) in &orders {
                let last = told.get(id).and_then(|events| events.last()).map(|event| event.version);
                if last != Some(order.version) {
                    violations.push(format!("order {id} is at version {}, and its topic at {last:?}", order.version));
                }
            }
        }
        Err(violation) => violations.push(format!("topic orders: {violation:#}")),
    }
    match record::tickets(world).await {
        Ok(told) => {
            for (id, ticket) in &tickets {
                let last = told.get(id).and_then(|events| events.last()).map(|event| event.version);
                if last != Some(ticket.version) {
                    violations.push(format!("ticket {id} is at version {}, and its topic at {last:?}", ticket.version));
                }
            }
        }
        Err(violation) => violations.push(format!("topic tickets: {violation:#}")),
    }
    violations.extend(money::audit(world, &orders).await?);
    Ok(violations)
}

/// Stock is neither lost nor sold twice, and is where the orders say that it is.
fn stock(ticket: &Ticket, orders: &BTreeMap<String, Order>) -> Option<String> {
    let of = |status: OrderStatus| -> i32 {
        let these = orders.values().filter(|order| order.ticket_id == ticket.id && order.status() == status);
        these.map(|order| order.quantity).sum()
    };
    let (held, sold) = (of(OrderStatus::AwaitingPayment), of(OrderStatus::Completed));
    let sum = ticket.available + ticket.reserved + ticket.sold;
    let sound = sum == ticket.quantity && ticket.available >= 0 && (ticket.reserved, ticket.sold) == (held, sold);
    (!sound)
        .then(|| format!("ticket {} has lost its stock: orders hold {held} and bought {sold}, {ticket:?}", ticket.id))
}

async fn all_orders(world: &World) -> Result<BTreeMap<String, Order>> {
    let mut client = world.operator()?.orders;
    let mut orders = BTreeMap::new();
    let mut request = ListOrdersRequest { page_size: Some(200), ..ListOrdersRequest::default() };
    loop {
        let page = client.list_orders(request.clone()).await?.into_inner();
        orders.extend(page.orders.into_iter().map(|order| (order.id.clone(), order)));
        if page.next_page_token.is_empty() {
            return Ok(orders);
        }
        request.page_token = page.next_page_token;
    }
}

async fn all_tickets(world: &World) -> Result<BTreeMap<String, Ticket>> {
    let mut client = world.operator()?.tickets;
    let mut tickets = BTreeMap::new();
    for status in [TicketStatus::Listed, TicketStatus::Withdrawn] {
        let mut request =
            ListTicketsRequest { status: Some(status.into()), page_size: Some(200), ..ListTicketsRequest::default() };
        loop {
            let page = client.list_tickets(request.clone()).await?.into_inner();
            tickets.extend(page.tickets.into_iter().map(|ticket| (ticket.id.clone(), ticket)));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
    }
    Ok(tickets)
}
