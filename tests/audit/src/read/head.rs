//! What of an event says where it belongs: its key, its version, and whom it rejects. In: a payload. Out: that; the rest isn't
//! looked at, for there are millions. The numbers of fields are the contract's, which only grows.

use prost::Message;

/// Where an event belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// What it is about: the topic's key.
    pub(super) id: String,
    /// The version that it tells.
    pub(super) version: i64,
    /// The order that gets no stock, which leaves the version as it is.
    pub(super) rejects: Option<String>,
}

/// `TicketEvent`.
#[derive(Clone, PartialEq, Message)]
struct TicketHead {
    #[prost(string, tag = "1")]
    ticket_id: String,
    #[prost(int64, tag = "2")]
    version: i64,
    #[prost(message, optional, tag = "12")]
    reservation_rejected: Option<Rejected>,
}

/// `ReservationRejected`.
#[derive(Clone, PartialEq, Message)]
struct Rejected {
    #[prost(string, tag = "1")]
    order_id: String,
}

/// `OrderEvent` and `PaymentEvent`, and `ExpirationEvent` but for the version.
#[derive(Clone, PartialEq, Message)]
struct OrderHead {
    #[prost(string, tag = "1")]
    order_id: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

/// How a topic's events are read.
pub(super) type Read = fn(&[u8]) -> Result<Head, prost::DecodeError>;

/// A ticket's: a rejection repeats the version.
pub(super) fn of_ticket(payload: &[u8]) -> Result<Head, prost::DecodeError> {
    let TicketHead { ticket_id: id, version, reservation_rejected } = TicketHead::decode(payload)?;
    Ok(Head { id, version, rejects: reservation_rejected.map(|rejected| rejected.order_id) })
}

/// An order's or an account's.
pub(super) fn of_order(payload: &[u8]) -> Result<Head, prost::DecodeError> {
    let OrderHead { order_id: id, version } = OrderHead::decode(payload)?;
    Ok(Head { id, version, rejects: None })
}

/// A timer's, which fires once.
pub(super) fn of_timer(payload: &[u8]) -> Result<Head, prost::DecodeError> {
    Ok(Head { version: 1, ..of_order(payload)? })
}

#[cfg(test)]
mod tests {
    use contracts::{
        expiration::v1::ExpirationEvent,
        orders::v1::{Order, OrderCreated, OrderEvent, order_event},
        payments::v1::{Payment, PaymentEvent},
        tickets::v1::{ReservationRejected, Ticket, TicketCreated, TicketEvent, ticket_event},
    };

    use super::*;

    fn head(id: &str, version: i64, rejects: Option<&str>) -> Head {
        Head { id: id.to_owned(), version, rejects: rejects.map(str::to_owned) }
    }

    #[test]
    fn heads_are_those_of_the_contracts_own_messages() {
        let ticket = |change| TicketEvent {
            ticket_id: "t".into(),
            version: 7,
            ticket: Some(Ticket { id: "t".into(), title: "Concert".into(), ..Ticket::default() }),
            change: Some(change),
        };
        let created = ticket(ticket_event::Change::Created(TicketCreated {})).encode_to_vec();
        assert_eq!(of_ticket(&created).unwrap(), head("t", 7, None));
        let rejected = ReservationRejected { order_id: "o".into(), reason: 1 };
        let rejected = ticket(ticket_event::Change::ReservationRejected(rejected)).encode_to_vec();
        assert_eq!(of_ticket(&rejected).unwrap(), head("t", 7, Some("o")));

        let change = Some(order_event::Change::Created(OrderCreated {}));
        let order = Some(Order { id: "o".into(), ..Order::default() });
        let order = OrderEvent { order_id: "o".into(), version: 2, order, change }.encode_to_vec();
        assert_eq!(of_order(&order).unwrap(), head("o", 2, None));
        let payment = Some(Payment { id: "p".into(), ..Payment::default() });
        let payment = PaymentEvent { order_id: "o".into(), version: 3, payment, change: None }.encode_to_vec();
        assert_eq!(of_order(&payment).unwrap(), head("o", 3, None));
        let timer = ExpirationEvent { order_id: "o".into(), ..ExpirationEvent::default() }.encode_to_vec();
        assert_eq!(of_timer(&timer).unwrap(), head("o", 1, None));
        assert!(of_order(b"\xff").is_err());
    }
}
