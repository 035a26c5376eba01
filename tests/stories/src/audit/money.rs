//! The money: as the provider's ledger has it, as payments tells it, and as orders would have it.

use std::collections::BTreeMap;

use anyhow::Result;
use contracts::{
    orders::v1::{Order, OrderStatus},
    payments::v1::{ListPaymentsRequest, Payment, PaymentStatus},
};

use crate::{
    Ledger, World, delay,
    ledger::{self, Kind, Movement},
    record,
};

/// Every violation.
pub(super) async fn audit(world: &World, orders: &BTreeMap<String, Order>) -> Result<Vec<String>> {
    let movements = Ledger::of(world)?.by_order().await?;
    let payments = all_payments(world).await?;
    let copies = copies(world).await?;
    let mut violations = Vec::new();
    for id in movements.keys().chain(payments.keys()).chain(copies.keys()).filter(|id| !orders.contains_key(*id)) {
        violations.push(format!("money or an account of order {id}, which doesn't exist"));
    }
    for (id, order) in orders {
        let moved = movements.get(id).map(Vec::as_slice).unwrap_or_default();
        let payments = payments.get(id).map(Vec::as_slice).unwrap_or_default();
        violations.extend(ledger::wrong(order, moved));
        violations.extend(told_otherwise(payments, moved));
        if copies.get(id) != Some(&Copy::of(order)) {
            violations.push(format!("payments' copy of {order:?} is {:?}", copies.get(id)));
        }
    }
    match record::payments(world).await {
        Ok(told) => {
            for (id, payments) in &payments {
                let last = told.get(id).and_then(|events| events.last()).map(|event| event.version);
                let version = payments.iter().map(|payment| payment.version).max();
                if last != version {
                    violations.push(format!("account {id} is at version {version:?}, and its topic at {last:?}"));
                }
            }
        }
        Err(violation) => violations.push(format!("topic payments: {violation:#}")),
    }
    Ok(violations)
}

/// What payments tells of an order's money, if the ledger says otherwise.
fn told_otherwise(payments: &[Payment], moved: &[Movement]) -> Option<String> {
    let is = |payment: &&Payment, status| payment.status() == status;
    let charged: Vec<_> = payments
        .iter()
        .filter(|payment| is(payment, PaymentStatus::Succeeded) || is(payment, PaymentStatus::Refunded))
        .map(|payment| payment.provider_reference.as_str())
        .collect();
    let refunded = payments.iter().filter(|payment| is(payment, PaymentStatus::Refunded)).count();
    let charges = moved.iter().filter(|movement| movement.kind == Kind::Charge);
    let charges: Vec<_> = charges.map(|movement| movement.payment_intent.as_str()).collect();
    let rest = payments
        .iter()
        .all(|payment| !is(&payment, PaymentStatus::Pending) && !is(&payment, PaymentStatus::RefundPending));
    let true_to_it = rest && charged == charges && refunded == ledger::count(moved, Kind::Refund);
    (!true_to_it).then(|| format!("payments tells {payments:?}, and the ledger {moved:?}"))
}

/// An order, as far as payments keeps it.
#[derive(Debug, PartialEq, Eq)]
struct Copy {
    user: String,
    currency: String,
    total: i64,
    status: i16,
    version: i64,
}

impl Copy {
    fn of(order: &Order) -> Self {
        let total = order.total_price.clone().unwrap_or_default();
        Self {
            user: order.user_id.clone(),
            currency: total.currency_code,
            total: total.minor_units,
            // As its column has it.
            status: match order.status() {
                OrderStatus::Unspecified => 0,
                OrderStatus::Created => 1,
                OrderStatus::AwaitingPayment => 2,
                OrderStatus::Completed => 3,
                OrderStatus::Cancelled => 4,
            },
            version: order.version,
        }
    }
}

async fn copies(world: &World) -> Result<BTreeMap<String, Copy>> {
    const ALL: &str = "SELECT order_id::text, user_id, currency, total, order_status, order_version FROM accounts";
    let (client, _connection) = delay::connect(world, "payments").await?;
    let rows = client.query(ALL, &[]).await?;
    let copies = rows.iter().map(|row| {
        let [user, currency] = [1, 2].map(|column| row.get(column));
        let copy = Copy { user, currency, total: row.get(3), status: row.get(4), version: row.get(5) };
        (row.get(0), copy)
    });
    Ok(copies.collect())
}

async fn all_payments(world: &World) -> Result<BTreeMap<String, Vec<Payment>>> {
    let mut client = world.operator()?.payments;
    let mut payments: BTreeMap<String, Vec<Payment>> = BTreeMap::new();
    let mut request = ListPaymentsRequest { page_size: Some(200), ..ListPaymentsRequest::default() };
    loop {
        let page = client.list_payments(request.clone()).await?.into_inner();
        for payment in page.payments {
            payments.entry(payment.order_id.clone()).or_default().push(payment);
        }
        if page.next_page_token.is_empty() {
            return Ok(payments);
        }
        request.page_token = page.next_page_token;
    }
}
