//! Events in and out: what this service makes of orders' messages, and how it tells others of its own. Knows protobuf,
//! and decides nothing.

use contracts::{
    orders::v1::{OrderEvent, OrderStatus as WireStatus},
    payments::v1::{self as api, PaymentEvent, payment_event::Change},
    r#type::v1::Money,
};
use prost::Message as _;
use shared::{
    command::{Message, Milestone, Milestones, Publish},
    inbox::{Delivery, Undecodable},
    telemetry::TraceContext,
    user::UserId,
    version::Version,
    wire,
};

use crate::domain::{Account, Command, Event, Order, OrderStatus, Payment, Payments, Status};

/// What an order's event means for its account: a newer copy of the order, and perhaps that money goes back. Whatever
/// the change is called, the state that comes with it says all.
pub fn react_to_orders(delivery: &Delivery<'_>) -> Result<Vec<Command>, Undecodable> {
    let event = OrderEvent::decode(delivery.payload)?;
    let order = wire::required("order", event.order)?;
    let status = match order.status() {
        WireStatus::Created => OrderStatus::Created,
        WireStatus::AwaitingPayment => OrderStatus::AwaitingPayment,
        WireStatus::Completed => OrderStatus::Completed,
        WireStatus::Cancelled => OrderStatus::Cancelled,
        // A state of a later version, in which nothing is to be paid and nothing is known to go back.
        WireStatus::Unspecified => return Ok(vec![]),
    };
    Ok(vec![Command::CopyOrder(Order {
        id: wire::id("order_id", &event.order_id)?,
        user: UserId::from_stored(&order.user_id),
        total: wire::money("total_price", order.total_price.as_ref().map(Money::parts))?,
        status,
        version: Version::from_i64(event.version),
        trace: delivery.trace.clone(),
    })])
}

impl Publish for Payments {
    fn publish(state: &Option<Account>, event: &Event) -> Option<Message> {
        let (kind, change, id) = match event {
            Event::Created(payment) => ("payment.created", Change::Created(api::PaymentCreated {}), payment.id),
            Event::Succeeded { payment, .. } => {
                ("payment.succeeded", Change::Succeeded(api::PaymentSucceeded {}), *payment)
            }
            Event::Failed { payment, .. } => ("payment.failed", Change::Failed(api::PaymentFailed {}), *payment),
            Event::RefundStarted { payment, .. } => {
                ("payment.refund_started", Change::RefundStarted(api::RefundStarted {}), *payment)
            }
            Event::Refunded { payment, .. } => {
                ("payment.refunded", Change::Refunded(api::PaymentRefunded {}), *payment)
            }
            Event::OrderCopied(_) | Event::InquiryChanged { .. } => return None,
        };
        let account = state.as_ref()?;
        let key = account.order.id.to_string();
        let payload = PaymentEvent {
            order_id: key.clone(),
            version: account.version().as_i64(),
            payment: Some(payment_message(&account.order, account.payment(id)?)),
            change: Some(change),
        };
        Some(Message { key, kind, payload: payload.encode_to_vec() })
    }

    const MILESTONES: Option<Milestones> = Some(Milestones {
        metric: "payment_outcome_seconds",
        help: "From a payment's beginning to what became of it, by what that was",
        outcomes: &["succeeded", "failed", "refund_started", "refunded"],
    });

    fn milestone(state: &Option<Account>, event: &Event) -> Option<Milestone> {
        let (outcome, id, at) = match event {
            Event::Succeeded { payment, at, .. } => ("succeeded", payment, at),
            Event::Failed { payment, at, .. } => ("failed", payment, at),
            Event::RefundStarted { payment, at } => ("refund_started", payment, at),
            Event::Refunded { payment, at } => ("refunded", payment, at),
            Event::Created(_) | Event::OrderCopied(_) | Event::InquiryChanged { .. } => return None,
        };
        let payment = state.as_ref()?.payment(*id)?;
        Some(Milestone::new(outcome, payment.created_at, *at))
    }

    fn story(state: &Option<Account>) -> Option<&TraceContext> {
        state.as_ref().map(|account| &account.order.trace)
    }
}

/// A payment as its buyer sees it.
pub fn payment_message(order: &Order, payment: &Payment) -> api::Payment {
    let (status, reason) = match &payment.status {
        Status::Pending => (api::PaymentStatus::Pending, ""),
        Status::Succeeded => (api::PaymentStatus::Succeeded, ""),
        Status::Failed(reason) => (api::PaymentStatus::Failed, reason.as_str()),
        Status::RefundPending => (api::PaymentStatus::RefundPending, ""),
        Status::Refunded => (api::PaymentStatus::Refunded, ""),
    };
    api::Payment {
        id: payment.id.to_string(),
        order_id: order.id.to_string(),
        user_id: order.user.to_string(),
        amount: Some(Money::of(order.total.currency_code(), order.total.minor_units())),
        status: status.into(),
        failure_reason: reason.to_owned(),
        provider: payment.provider.clone(),
        provider_reference: payment.reference.clone().unwrap_or_default(),
        version: payment.version.as_i64(),
        create_time: Some(wire::timestamp(payment.created_at)),
        update_time: Some(wire::timestamp(payment.updated_at)),
    }
}
