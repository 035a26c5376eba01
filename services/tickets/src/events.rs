//! Events in and out: what this service makes of others' messages, and how it tells others of its own. Knows protobuf,
//! and decides nothing.

use contracts::{
    orders::v1::{OrderEvent, order_event::Change as OrderChange},
    tickets::v1::{self as api, TicketEvent, ticket_event::Change, ticket_updated::Cause},
    r#type::v1::Money,
};
use prost::Message as _;
use shared::{
    command::{Message, Publish},
    inbox::{Delivery, Undecodable},
    version::Version,
    wire,
};

use crate::domain::{Command, Event, Rejection, Reservation, State, Status, Ticket, TicketId, Tickets};

/// What an order's event means for its ticket's stock.
pub fn react_to_orders(delivery: &Delivery<'_>) -> Result<Vec<Command>, Undecodable> {
    let event = OrderEvent::decode(delivery.payload)?;
    let order = wire::required("order", event.order)?;
    let (ticket_id, order_id) = (wire::id("ticket_id", &order.ticket_id)?, wire::id("id", &order.id)?);
    let quantity = order.quantity;
    Ok(match event.change {
        Some(OrderChange::Created(_)) => {
            let unit_price = wire::money("unit_price", order.unit_price.as_ref().map(Money::parts))?;
            vec![Command::Reserve { id: ticket_id, order: order_id, quantity, unit_price }]
        }
        Some(OrderChange::Completed(_)) => vec![Command::Sell { id: ticket_id, order: order_id }],
        Some(OrderChange::Cancelled(_)) => vec![Command::Release { id: ticket_id, order: order_id, quantity }],
        Some(OrderChange::AwaitingPayment(_)) | None => vec![],
    })
}

impl Publish for Tickets {
    fn publish(state: &State, event: &Event) -> Option<Message> {
        let (kind, change, ticket_id) = match event {
            Event::Created(ticket) => ("ticket.created", Change::Created(api::TicketCreated {}), ticket.id),
            Event::Edited { .. } => updated(state, Cause::Edited(api::Edited {}))?,
            Event::Withdrawn { .. } => updated(state, Cause::Withdrawn(api::Withdrawn {}))?,
            Event::Reserved { reservation, .. } => updated(
                state,
                Cause::Reserved(api::Reserved {
                    order_id: reservation.order.to_string(),
                    quantity: reservation.quantity,
                }),
            )?,
            Event::Released { .. } => {
                let Reservation { order, quantity, .. } = state.reservation.as_ref()?;
                updated(state, Cause::Released(api::Released { order_id: order.to_string(), quantity: *quantity }))?
            }
            Event::Sold { .. } => {
                let Reservation { order, quantity, .. } = state.reservation.as_ref()?;
                updated(state, Cause::Sold(api::Sold { order_id: order.to_string(), quantity: *quantity }))?
            }
            Event::Rejected { reservation, reason } => {
                let rejected = api::ReservationRejected {
                    order_id: reservation.order.to_string(),
                    reason: rejection(*reason).into(),
                };
                ("ticket.reservation_rejected", Change::ReservationRejected(rejected), reservation.ticket)
            }
            // Nobody asked, so nobody waits for an answer.
            Event::Ended(_) => return None,
        };
        let payload = TicketEvent {
            ticket_id: ticket_id.to_string(),
            version: state.ticket.as_ref().map_or(Version::NONE, |ticket| ticket.version).as_i64(),
            ticket: state.ticket.as_ref().map(ticket_message),
            change: Some(change),
        };
        Some(Message { key: ticket_id.to_string(), kind, payload: payload.encode_to_vec() })
    }
}

fn updated(state: &State, cause: Cause) -> Option<(&'static str, Change, TicketId)> {
    let change = Change::Updated(api::TicketUpdated { cause: Some(cause) });
    Some(("ticket.updated", change, state.ticket.as_ref()?.id))
}

fn rejection(reason: Rejection) -> api::RejectionReason {
    match reason {
        Rejection::SoldOut => api::RejectionReason::SoldOut,
        Rejection::PriceChanged => api::RejectionReason::PriceChanged,
        Rejection::Withdrawn => api::RejectionReason::Withdrawn,
        Rejection::UnknownTicket => api::RejectionReason::UnknownTicket,
    }
}

/// A ticket as everyone sees it.
pub fn ticket_message(ticket: &Ticket) -> api::Ticket {
    let status = match ticket.status {
        Status::Listed => api::TicketStatus::Listed,
        Status::Withdrawn => api::TicketStatus::Withdrawn,
    };
    api::Ticket {
        id: ticket.id.to_string(),
        title: ticket.title.clone(),
        price: Some(Money::of(ticket.price.currency_code(), ticket.price.minor_units())),
        quantity: ticket.quantity,
        available: ticket.available(),
        reserved: ticket.reserved,
        sold: ticket.sold,
        seller_id: ticket.seller.to_string(),
        status: status.into(),
        version: ticket.version.as_i64(),
        revision: ticket.revision,
        create_time: Some(wire::timestamp(ticket.created_at)),
        update_time: Some(wire::timestamp(ticket.updated_at)),
    }
}
