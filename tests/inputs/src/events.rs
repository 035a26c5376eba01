//! Messages of topics: decoded, understood, decided on. A topic is written by our own services alone, and yet whatever lies
//! in it may stop a partition and nothing else.

use std::fmt::Debug;

use chrono::DateTime;
use contracts::{
    expiration::v1::ExpirationEvent, orders::v1::OrderEvent, payments::v1::PaymentEvent, tickets::v1::TicketEvent,
};
use prost::Message;
use shared::{
    clock::Timestamp,
    command::Publish,
    inbox::{Delivery, Undecodable},
    telemetry::TraceContext,
};

/// The first byte says which topic it is.
pub fn events(data: &[u8]) {
    let Some((topic, payload)) = data.split_first() else { return };
    let trace = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None).expect("a trace");
    let delivery = Delivery { key: b"key", payload, trace: &trace };
    match topic % 4 {
        0 => {
            again::<OrderEvent>(payload);
            decided::<tickets::domain::Tickets>(tickets::events::react_to_orders(&delivery));
            decided::<payments::domain::Payments>(payments::events::react_to_orders(&delivery));
            decided::<expiration::domain::Expirations>(expiration::events::react_to_orders(&delivery));
            let _ = orders::events::read_own(&delivery);
        }
        1 => {
            again::<TicketEvent>(payload);
            decided::<orders::domain::Orders>(orders::events::react_to_tickets(&delivery));
        }
        2 => {
            again::<PaymentEvent>(payload);
            decided::<orders::domain::Orders>(orders::events::react_to_payments(&delivery));
        }
        _ => {
            again::<ExpirationEvent>(payload);
            decided::<orders::domain::Orders>(orders::events::react_to_expiration(&delivery));
        }
    }
}

/// What can be decoded is the same once it was encoded and decoded again.
pub(crate) fn again<M: Message + Default + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        let decoded = M::decode(message.encode_to_vec().as_slice()).expect("what was encoded can be decoded");
        assert_eq!(decoded, message);
    }
}

/// Whatever follows from it can be decided, applied and told, twice over, by a service that knows nothing yet.
fn decided<S: Publish>(commands: Result<Vec<S::Command>, Undecodable>)
where
    S::State: Default,
{
    let mut state = S::State::default();
    let commands = commands.unwrap_or_default();
    for command in commands.iter().chain(&commands) {
        for event in S::decide(&state, command, midnight()).unwrap_or_default() {
            state = S::apply(state, &event);
            let told = S::publish(&state, &event);
            assert!(told.is_none_or(|message| !message.key.is_empty()));
        }
    }
}

/// No clock: the same bytes do the same.
fn midnight() -> Timestamp {
    DateTime::UNIX_EPOCH
}
