//! Events in and out: what this service makes of orders' messages, and how it tells others of its own. Knows protobuf,
//! and decides nothing.

use contracts::{
    expiration::v1::{self as api, ExpirationEvent, expiration_event::Change},
    orders::v1::{OrderEvent, order_event::Change as OrderChange},
};
use prost::Message as _;
use shared::{
    command::{Message, Publish},
    inbox::{Delivery, Undecodable},
    wire,
};

use crate::domain::{Command, Event, Expiration, Expirations, Status};

/// What an order's event means for its timer.
pub fn react_to_orders(delivery: &Delivery<'_>) -> Result<Vec<Command>, Undecodable> {
    let event = OrderEvent::decode(delivery.payload)?;
    let placed = wire::required("order", event.order)?;
    let order = wire::id("id", &placed.id)?;
    let expires_at = wire::time("expire_time", placed.expire_time)?;
    let trace = delivery.trace.clone();
    Ok(match event.change {
        Some(OrderChange::Created(_)) => vec![Command::Schedule { order, expires_at, trace }],
        Some(OrderChange::Completed(_) | OrderChange::Cancelled(_)) => vec![Command::Drop { order, expires_at, trace }],
        Some(OrderChange::AwaitingPayment(_)) | None => vec![],
    })
}

impl Publish for Expirations {
    fn publish(state: &Option<Expiration>, event: &Event) -> Option<Message> {
        match event {
            Event::Expired => {}
            Event::Scheduled(_) | Event::Dropped | Event::NeverNeeded(_) => return None,
        }
        let timer = state.as_ref()?;
        let payload = ExpirationEvent {
            order_id: timer.order.to_string(),
            expiration: Some(expiration_message(timer)),
            change: Some(Change::Expired(api::Expired {})),
        };
        Some(Message { key: timer.order.to_string(), kind: "expiration.expired", payload: payload.encode_to_vec() })
    }
}

/// A timer as operators see it.
pub fn expiration_message(timer: &Expiration) -> api::Expiration {
    let status = match timer.status {
        Status::Scheduled => api::ExpirationStatus::Scheduled,
        Status::Expired => api::ExpirationStatus::Expired,
        Status::Dropped => api::ExpirationStatus::Dropped,
    };
    api::Expiration {
        order_id: timer.order.to_string(),
        expire_time: Some(wire::timestamp(timer.expires_at)),
        status: status.into(),
    }
}
