//! Events in and out: what this service makes of others' messages, and how it tells others of its own. Knows protobuf,
//! and decides nothing.

use contracts::{
    expiration::v1::{ExpirationEvent, expiration_event::Change as ExpirationChange},
    orders::v1::{self as api, OrderEvent, order_event::Change},
    payments::v1::{PaymentEvent, payment_event::Change as PaymentChange},
    tickets::v1::{
        RejectionReason, TicketEvent, TicketStatus, ticket_event::Change as TicketChange,
        ticket_updated::Cause as TicketCause,
    },
    r#type::v1::Money,
};
use prost::Message as _;
use shared::{
    command::{Message, Milestone, Milestones, Publish},
    inbox::{Delivery, Undecodable},
    telemetry::TraceContext,
    version::Version,
    wire,
};

use crate::domain::{Command, Event, Order, Orders, Reason, State, Status, Ticket};

/// What a ticket's event means: a newer copy of it, and perhaps that an order moves on.
pub fn react_to_tickets(delivery: &Delivery<'_>) -> Result<Vec<Command>, Undecodable> {
    let event = TicketEvent::decode(delivery.payload)?;
    let mut commands = Vec::with_capacity(2);
    if let Some(ticket) = &event.ticket {
        commands.push(Command::CopyTicket(Ticket {
            id: wire::id("ticket_id", &event.ticket_id)?,
            title: ticket.title.clone(),
            price: wire::money("price", ticket.price.as_ref().map(Money::parts))?,
            available: ticket.available,
            withdrawn: ticket.status() == TicketStatus::Withdrawn,
            version: Version::from_i64(event.version),
        }));
    }
    match event.change {
        Some(TicketChange::Updated(updated)) => {
            if let Some(TicketCause::Reserved(reserved)) = updated.cause {
                commands.push(Command::Reserved(wire::id("order_id", &reserved.order_id)?));
            }
        }
        Some(TicketChange::ReservationRejected(rejected)) => {
            let reason = match rejected.reason() {
                RejectionReason::SoldOut => Reason::SoldOut,
                RejectionReason::PriceChanged => Reason::PriceChanged,
                RejectionReason::Withdrawn => Reason::Withdrawn,
                RejectionReason::UnknownTicket => Reason::UnknownTicket,
                // A reason of a later version: no stock either way, and an order must end.
                RejectionReason::Unspecified => Reason::SoldOut,
            };
            commands.push(Command::Rejected(wire::id("order_id", &rejected.order_id)?, reason));
        }
        Some(TicketChange::Created(_)) | None => {}
    }
    Ok(commands)
}

/// What a payment's event means: the order is paid, or nothing.
pub fn react_to_payments(delivery: &Delivery<'_>) -> Result<Vec<Command>, Undecodable> {
    let event = PaymentEvent::decode(delivery.payload)?;
    Ok(match event.change {
        Some(PaymentChange::Succeeded(_)) => vec![Command::Paid(wire::id("order_id", &event.order_id)?)],
        Some(
            PaymentChange::Created(_)
            | PaymentChange::Failed(_)
            | PaymentChange::RefundStarted(_)
            | PaymentChange::Refunded(_),
        )
        | None => vec![],
    })
}

/// What a timer's event means: the order's time is up.
pub fn react_to_expiration(delivery: &Delivery<'_>) -> Result<Vec<Command>, Undecodable> {
    let event = ExpirationEvent::decode(delivery.payload)?;
    Ok(match event.change {
        Some(ExpirationChange::Expired(_)) => vec![Command::Expire(wire::id("order_id", &event.order_id)?)],
        None => vec![],
    })
}

/// What a message of this service's own tells of an order, for those who watch it.
pub fn read_own(delivery: &Delivery<'_>) -> Result<Option<(Version, api::Order)>, Undecodable> {
    let event = OrderEvent::decode(delivery.payload)?;
    Ok(event.order.map(|order| (Version::from_i64(event.version), order)))
}

impl Publish for Orders {
    fn publish(state: &State, event: &Event) -> Option<Message> {
        let (kind, change) = match event {
            Event::Created(_) => ("order.created", Change::Created(api::OrderCreated {})),
            Event::AwaitingPayment { .. } => {
                ("order.awaiting_payment", Change::AwaitingPayment(api::OrderAwaitingPayment {}))
            }
            Event::Completed { .. } => ("order.completed", Change::Completed(api::OrderCompleted {})),
            Event::Cancelled { .. } => ("order.cancelled", Change::Cancelled(api::OrderCancelled {})),
            Event::TicketCopied(_) => return None,
        };
        let order = state.order.as_ref()?;
        let payload = OrderEvent {
            order_id: order.id.to_string(),
            version: order.version.as_i64(),
            order: Some(order_message(order)),
            change: Some(change),
        };
        Some(Message { key: order.id.to_string(), kind, payload: payload.encode_to_vec() })
    }

    const MILESTONES: Option<Milestones> = Some(Milestones {
        metric: "order_saga_seconds",
        help: "From an order's creation to its end, by how it ended",
        outcomes: &OUTCOMES,
    });

    fn milestone(state: &State, event: &Event) -> Option<Milestone> {
        let order = state.order.as_ref()?;
        let (outcome, at) = match event {
            Event::Completed { at } => ("completed", at),
            Event::Cancelled { reason, at } => (outcome(*reason), at),
            Event::Created(_) | Event::AwaitingPayment { .. } | Event::TicketCopied(_) => return None,
        };
        Some(Milestone::new(outcome, order.created_at, *at))
    }

    fn story(state: &State) -> Option<&TraceContext> {
        state.order.as_ref().map(|order| &order.trace)
    }
}

/// How an order may end, as metrics name it.
const OUTCOMES: [&str; 7] = [
    "completed",
    outcome(Reason::Buyer),
    outcome(Reason::Expired),
    outcome(Reason::SoldOut),
    outcome(Reason::PriceChanged),
    outcome(Reason::Withdrawn),
    outcome(Reason::UnknownTicket),
];

const fn outcome(reason: Reason) -> &'static str {
    match reason {
        Reason::Buyer => "cancelled_buyer",
        Reason::Expired => "cancelled_expired",
        Reason::SoldOut => "cancelled_sold_out",
        Reason::PriceChanged => "cancelled_price_changed",
        Reason::Withdrawn => "cancelled_withdrawn",
        Reason::UnknownTicket => "cancelled_unknown_ticket",
    }
}

/// An order as its buyer sees it.
pub fn order_message(order: &Order) -> api::Order {
    let (status, reason) = match order.status {
        Status::Created => (api::OrderStatus::Created, api::CancelReason::Unspecified),
        Status::AwaitingPayment => (api::OrderStatus::AwaitingPayment, api::CancelReason::Unspecified),
        Status::Completed => (api::OrderStatus::Completed, api::CancelReason::Unspecified),
        Status::Cancelled(reason) => (api::OrderStatus::Cancelled, reason_message(reason)),
    };
    api::Order {
        id: order.id.to_string(),
        user_id: order.user.to_string(),
        ticket_id: order.ticket.to_string(),
        ticket_title: order.ticket_title.clone(),
        quantity: order.quantity,
        unit_price: Some(Money::of(order.unit_price.currency_code(), order.unit_price.minor_units())),
        total_price: Some(Money::of(order.total_price.currency_code(), order.total_price.minor_units())),
        status: status.into(),
        cancel_reason: reason.into(),
        expire_time: Some(wire::timestamp(order.expires_at)),
        version: order.version.as_i64(),
        create_time: Some(wire::timestamp(order.created_at)),
        update_time: Some(wire::timestamp(order.updated_at)),
    }
}

fn reason_message(reason: Reason) -> api::CancelReason {
    match reason {
        Reason::Buyer => api::CancelReason::Buyer,
        Reason::Expired => api::CancelReason::Expired,
        Reason::SoldOut => api::CancelReason::SoldOut,
        Reason::PriceChanged => api::CancelReason::PriceChanged,
        Reason::Withdrawn => api::CancelReason::Withdrawn,
        Reason::UnknownTicket => api::CancelReason::UnknownTicket,
    }
}
