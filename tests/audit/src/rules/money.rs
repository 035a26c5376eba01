//! An order's money: where its end has it, where its payments have it, and where the provider's ledger has it.

use uuid::Uuid;

use crate::{
    About, Rule, Violation,
    case::{Kind, Movement, Order, OrderCase, OrderStatus, Payment, PaymentStatus},
};

/// All rules of an existing order's money; by the provider's ledger, too, if that was read.
pub(super) fn all(id: Uuid, order: &Order, case: &OrderCase, ledger: bool) -> impl Iterator<Item = Violation> {
    let found = [
        (Rule::Payment, payments(order, &case.payments)),
        (Rule::Money, ledger.then(|| sides(order, &case.movements)).flatten()),
        (Rule::Ledger, ledger.then(|| told(order, case)).flatten()),
    ];
    found.into_iter().filter_map(move |(rule, what)| Some(Violation::new(rule, About::Order(id), what?)))
}

/// Whether money and ticket are on the same side: one charge is kept for what was bought, nothing for what was not, and
/// what was charged in vain went back once. Of an order that is open a charge may be known to the provider alone.
pub fn on_one_side(status: OrderStatus, total: i64, charges: usize, refunds: usize) -> bool {
    match (status, total) {
        (OrderStatus::Completed, 0) => (charges, refunds) == (0, 0),
        (OrderStatus::Completed, _) => (charges, refunds) == (1, 0),
        (OrderStatus::Cancelled, _) => matches!((charges, refunds), (0, 0) | (1, 1)),
        (OrderStatus::Created, _) => (charges, refunds) == (0, 0),
        (OrderStatus::AwaitingPayment, _) => charges <= 1 && refunds == 0,
    }
}

fn sides(order: &Order, movements: &[Movement]) -> Option<String> {
    let shown = &order.shown;
    let count = |kind| movements.iter().filter(|movement| movement.kind == kind).count();
    let (charges, refunds) = (count(Kind::Charge), count(Kind::Refund));
    if !on_one_side(shown.status, shown.total, charges, refunds) {
        return Some(format!("{:?}, and the provider has {charges} charges and {refunds} refunds", shown.status));
    }
    let other = movements.iter().find(|moved| (moved.amount, moved.currency) != (shown.total, shown.currency))?;
    Some(format!("{} {} were moved, and its total is {} {}", other.amount, other.currency, shown.total, shown.currency))
}

fn payments(order: &Order, payments: &[Payment]) -> Option<String> {
    if let Some(payment) = payments.iter().find(|payment| payment.user != order.shown.user) {
        return Some(format!("payment {} is another's", payment.id));
    }
    let status = order.shown.status;
    let statuses: Vec<_> = payments.iter().map(|payment| payment.status).collect();
    let standing: Vec<_> = statuses.iter().filter(|status| **status != PaymentStatus::Failed).collect();
    let fits = match status {
        OrderStatus::Created => standing.is_empty(),
        OrderStatus::AwaitingPayment => matches!(standing[..], [] | [PaymentStatus::Pending]),
        OrderStatus::Completed => matches!(standing[..], [PaymentStatus::Succeeded]),
        OrderStatus::Cancelled => matches!(standing[..], [] | [PaymentStatus::Refunded]),
    };
    (!fits).then(|| format!("{status:?}, and its payments are {statuses:?}"))
}

/// What payments tells, payment by payment, if the ledger says otherwise. A charge or refund that payments waits to hear
/// of may be there or not.
fn told(order: &Order, case: &OrderCase) -> Option<String> {
    let movements = &case.movements;
    let of_none = |moved: &&Movement| {
        !case
            .payments
            .iter()
            .any(|payment| Some(payment.id) == moved.payment || payment.reference == Some(moved.charge))
    };
    if let Some(moved) = movements.iter().find(of_none) {
        return Some(format!("payments knows nothing of a {:?} of {} {}", moved.kind, moved.amount, moved.currency));
    }
    for payment in &case.payments {
        let its = |moved: &&Movement| Some(payment.id) == moved.payment || payment.reference == Some(moved.charge);
        let count = |kind| movements.iter().filter(its).filter(|moved| moved.kind == kind).count();
        let (charges, refunds) = (count(Kind::Charge), count(Kind::Refund));
        let free = order.shown.total == 0;
        let fits = match payment.status {
            PaymentStatus::Pending => charges <= 1 && refunds == 0,
            PaymentStatus::Failed => (charges, refunds) == (0, 0),
            _ if free => (charges, refunds) == (0, 0),
            PaymentStatus::Succeeded => (charges, refunds) == (1, 0),
            PaymentStatus::RefundPending => charges == 1 && refunds <= 1,
            PaymentStatus::Refunded => (charges, refunds) == (1, 1),
        };
        if !fits {
            return Some(format!(
                "payment {} is {:?}, and the provider has {charges} charges and {refunds} refunds of it",
                payment.id, payment.status
            ));
        }
        let foreign = |moved: &Movement| payment.reference.is_some_and(|reference| reference != moved.charge);
        if movements.iter().filter(its).any(foreign) {
            return Some(format!("payment {} names another charge than the provider does", payment.id));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::case::{Currency, Print, Shown};

    const ID: Uuid = Uuid::from_u128(1);

    fn payment(status: PaymentStatus) -> Payment {
        let taken = !matches!(status, PaymentStatus::Pending | PaymentStatus::Failed);
        let reference = taken.then(|| Print::of("pi_1"));
        Payment { id: ID, user: Print::of("bob"), status, reference, version: 2 }
    }

    fn moved(kind: Kind) -> Movement {
        let (charge, currency) = (Print::of("pi_1"), Currency::of("usd"));
        Movement { kind, charge, payment: Some(ID), amount: 200, currency }
    }

    fn order(status: OrderStatus, total: i64) -> Order {
        let (user, currency) = (Print::of("bob"), Currency::of("USD"));
        let shown = Shown { user, currency, total, status, version: 3 };
        let (expires_at, updated_at) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH);
        Order { ticket: ID, quantity: 1, shown, reason: None, expires_at, overdue: false, updated_at }
    }

    /// The rules that this order breaks with these payments and movements.
    fn broken(order: Order, payments: Vec<Payment>, movements: Vec<Movement>) -> Vec<Rule> {
        let case =
            OrderCase { order: Some(order), account: Some(order.shown), payments, movements, ..OrderCase::default() };
        all(ID, &order, &case, true).map(|violation| violation.rule).collect()
    }

    #[test]
    fn what_was_bought_is_paid_once_and_what_was_not_is_paid_back() {
        use Kind::{Charge, Refund};
        use OrderStatus::{AwaitingPayment, Cancelled, Completed, Created};
        use PaymentStatus::{Failed, Pending, RefundPending, Refunded, Succeeded};
        type Row<'a> = (OrderStatus, &'a [PaymentStatus], &'a [Kind], &'a [Rule]);
        let (payment_wrong, money, ledger) = (Rule::Payment, Rule::Money, Rule::Ledger);
        let table: &[Row<'_>] = &[
            (Created, &[], &[], &[]),
            (AwaitingPayment, &[], &[], &[]),
            (AwaitingPayment, &[Failed, Pending], &[], &[]),
            (AwaitingPayment, &[Pending], &[Charge], &[]),
            (Completed, &[Failed, Succeeded], &[Charge], &[]),
            (Cancelled, &[], &[], &[]),
            (Cancelled, &[Failed], &[], &[]),
            (Cancelled, &[Refunded], &[Charge, Refund], &[]),
            // Paid, and never completed.
            (AwaitingPayment, &[Succeeded], &[Charge], &[payment_wrong]),
            (Created, &[Pending], &[], &[payment_wrong]),
            (Created, &[Pending], &[Charge], &[payment_wrong, money]),
            // Completed, and never paid, or paid twice, or paid back.
            (Completed, &[], &[], &[payment_wrong, money]),
            (Completed, &[Succeeded], &[], &[money, ledger]),
            (Completed, &[Succeeded], &[Charge, Charge], &[money, ledger]),
            (Completed, &[Succeeded], &[Charge, Refund], &[money, ledger]),
            (Completed, &[Refunded], &[Charge, Refund], &[payment_wrong, money]),
            // Cancelled, and the money stays, or is still to be charged or to go back, or went back twice.
            (Cancelled, &[Succeeded], &[Charge], &[payment_wrong, money]),
            (Cancelled, &[Pending], &[], &[payment_wrong]),
            (Cancelled, &[RefundPending], &[Charge], &[payment_wrong, money]),
            (Cancelled, &[RefundPending], &[Charge, Refund], &[payment_wrong]),
            (Cancelled, &[Refunded], &[Charge, Refund, Refund], &[money, ledger]),
            (Cancelled, &[Refunded], &[Charge], &[money, ledger]),
            // Payments says that none was taken.
            (Cancelled, &[Failed], &[Charge, Refund], &[ledger]),
            (Cancelled, &[], &[Charge, Refund], &[ledger]),
        ];
        for (row, (status, payments, movements, rules)) in table.iter().enumerate() {
            // Only the last of them is that of the movements.
            let others = |place| if place + 1 == payments.len() { ID } else { Uuid::from_u128(100 + place as u128) };
            let payments = payments.iter().enumerate();
            let payments = payments.map(|(place, status)| Payment { id: others(place), ..payment(*status) }).collect();
            let movements = movements.iter().map(|kind| moved(*kind)).collect();
            assert_eq!(broken(order(*status, 200), payments, movements), *rules, "row {row}");
        }
    }

    #[test]
    fn what_is_free_moves_no_money() {
        let free = |status| Payment { reference: None, ..payment(status) };
        let completed = order(OrderStatus::Completed, 0);
        assert_eq!(broken(completed, vec![free(PaymentStatus::Succeeded)], vec![]), []);
        let cancelled = order(OrderStatus::Cancelled, 0);
        assert_eq!(broken(cancelled, vec![free(PaymentStatus::Refunded)], vec![]), []);
        let charged = vec![Movement { amount: 0, ..moved(Kind::Charge) }];
        let rules = broken(completed, vec![free(PaymentStatus::Succeeded)], charged);
        assert_eq!(rules, [Rule::Money, Rule::Ledger]);
    }

    #[test]
    fn another_sum_another_currency_and_another_charge_are_noticed() {
        let of = |movement| {
            broken(order(OrderStatus::Completed, 200), vec![payment(PaymentStatus::Succeeded)], vec![movement])
        };
        assert_eq!(of(Movement { amount: 199, ..moved(Kind::Charge) }), [Rule::Money]);
        assert_eq!(of(Movement { currency: Currency::of("eur"), ..moved(Kind::Charge) }), [Rule::Money]);
        assert_eq!(of(Movement { charge: Print::of("pi_2"), ..moved(Kind::Charge) }), [Rule::Ledger]);
    }

    #[test]
    fn whoever_pays_is_the_buyer_whatever_comes_of_it() {
        for status in [PaymentStatus::Succeeded, PaymentStatus::Failed] {
            let another = Payment { id: Uuid::from_u128(2), user: Print::of("eve"), ..payment(status) };
            let payments = vec![another, payment(PaymentStatus::Succeeded)];
            let case = OrderCase { payments, ..OrderCase::default() };
            let said: Vec<_> = all(ID, &order(OrderStatus::Completed, 200), &case, false).collect();
            assert_eq!(said.len(), 1, "{status:?}");
            assert!(said[0].what.contains("another's"), "{said:?}");
        }
    }

    #[test]
    fn where_there_is_no_ledger_payments_is_believed() {
        let order = order(OrderStatus::Completed, 200);
        let case = OrderCase { payments: vec![payment(PaymentStatus::Succeeded)], ..OrderCase::default() };
        assert_eq!(all(ID, &order, &case, false).count(), 0);
        assert_eq!(all(ID, &order, &case, true).count(), 2);
    }
}
