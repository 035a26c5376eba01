//! An order, and what tickets, payments and expiration keep of it.

use humantime::format_rfc3339_micros;
use uuid::Uuid;

use crate::{
    About, CLOCKS_APART, Rule, Violation,
    case::{Hold, Order, OrderCase, OrderStatus, Reason, TimerStatus},
};

/// All rules of an order that exists, but for its money.
pub(super) fn all(id: Uuid, order: &Order, case: &OrderCase) -> impl Iterator<Item = Violation> {
    let found = [
        (Rule::Undecided, undecided(order)),
        (Rule::Overdue, overdue(order)),
        (Rule::Reservation, reservation(order, case)),
        (Rule::Account, account(order, case)),
        (Rule::Timer, timer(order, case)),
        (Rule::Reason, order.reason.and_then(|reason| cancelled(reason, order, case))),
    ];
    found.into_iter().filter_map(move |(rule, what)| Some(Violation::new(rule, About::Order(id), what?)))
}

/// Something is about an order that doesn't exist.
pub(super) fn no_such(id: Uuid, case: &OrderCase) -> Option<Violation> {
    let found = [
        (case.reservation.is_some(), "a reservation"),
        (case.account.is_some(), "an account"),
        (!case.payments.is_empty(), "payments"),
        (case.timer.is_some(), "a timer"),
        (!case.movements.is_empty(), "money"),
    ];
    let found: Vec<_> = found.into_iter().filter_map(|(there, what)| there.then_some(what)).collect();
    let what = format!("there is no such order, but there is {}", found.join(", "));
    (!found.is_empty()).then(|| Violation::new(Rule::NoSuchOrder, About::Order(id), what))
}

fn undecided(order: &Order) -> Option<String> {
    (order.shown.status == OrderStatus::Created).then(|| "never decided".to_owned())
}

fn overdue(order: &Order) -> Option<String> {
    let late = order.overdue && order.shown.status.is_open();
    late.then(|| format!("still open, though its time was up at {}", format_rfc3339_micros(order.expires_at)))
}

fn reservation(order: &Order, case: &OrderCase) -> Option<String> {
    let status = order.shown.status;
    let Some(reservation) = &case.reservation else {
        // Tickets may not have heard of it.
        return (status != OrderStatus::Created).then(|| format!("{status:?}, and tickets has no reservation of it"));
    };
    if (reservation.ticket, reservation.quantity) != (order.ticket, order.quantity) {
        return Some(format!(
            "{} of ticket {}, and its reservation is {} of ticket {}",
            order.quantity, order.ticket, reservation.quantity, reservation.ticket
        ));
    }
    let fits = match status {
        OrderStatus::Created => true,
        OrderStatus::AwaitingPayment => reservation.status == Hold::Held,
        OrderStatus::Completed => reservation.status == Hold::Sold,
        OrderStatus::Cancelled => matches!(reservation.status, Hold::Released | Hold::Refused | Hold::Ended),
    };
    (!fits).then(|| format!("{status:?}, and its reservation is {:?}", reservation.status))
}

fn account(order: &Order, case: &OrderCase) -> Option<String> {
    let Some(copy) = &case.account else { return Some("payments has no account of it".to_owned()) };
    let shown = &order.shown;
    if copy.version != shown.version || copy.status != shown.status {
        let (theirs, ours) = ((copy.status, copy.version), (shown.status, shown.version));
        return Some(format!("{:?} at version {}, and {:?} at {} by payments", ours.0, ours.1, theirs.0, theirs.1));
    }
    if (copy.total, copy.currency) != (shown.total, shown.currency) {
        return Some(format!(
            "{} {} are to be paid, and {} {} by payments",
            shown.total, shown.currency, copy.total, copy.currency
        ));
    }
    (copy.user != shown.user).then(|| "another's by payments".to_owned())
}

fn timer(order: &Order, case: &OrderCase) -> Option<String> {
    let status = order.shown.status;
    let Some(timer) = &case.timer else { return Some(format!("{status:?}, and expiration has no timer of it")) };
    if status.is_open() != (timer.status == TimerStatus::Scheduled) {
        return Some(format!("{status:?}, and its timer is {:?}", timer.status));
    }
    let [ours, theirs] = [order.expires_at, timer.expires_at].map(format_rfc3339_micros);
    (order.expires_at != timer.expires_at).then(|| format!("its time is up at {ours}, and its timer due at {theirs}"))
}

/// The timer and the reservation of an order that has ended since are final, so that they are still what ended it. Where there is
/// none, that is said already.
fn cancelled(reason: Reason, order: &Order, case: &OrderCase) -> Option<String> {
    match reason {
        // At any time, whatever the others were at.
        Reason::Buyer => None,
        Reason::Expired => {
            if let Some(timer) = case.timer.filter(|timer| timer.status != TimerStatus::Expired) {
                return Some(format!("{reason:?}, and its timer is {:?}", timer.status));
            }
            // A timer is due by one clock, and orders told the time by another.
            let early = order.updated_at + CLOCKS_APART < order.expires_at;
            let [at, due] = [order.updated_at, order.expires_at].map(format_rfc3339_micros);
            early.then(|| format!("{reason:?} at {at}, and its time was up at {due}"))
        }
        Reason::SoldOut | Reason::PriceChanged | Reason::Withdrawn | Reason::UnknownTicket => {
            let other = case.reservation.filter(|reservation| reservation.status != Hold::Refused)?;
            Some(format!("{reason:?}, and its reservation is {:?}", other.status))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::case::{Currency, Payment, PaymentStatus, Print, Reservation, Shown, Timer};

    const ID: Uuid = Uuid::from_u128(1);

    /// An order of this status, as all have it when everything is at rest.
    fn at_rest(status: OrderStatus) -> OrderCase {
        let ticket = Uuid::from_u128(2);
        let expires_at = SystemTime::UNIX_EPOCH + Duration::from_secs(120);
        let (user, currency) = (Print::of("bob"), Currency::of("USD"));
        let shown = Shown { user, currency, total: 200, status, version: 3 };
        let (hold, timer) = match status {
            OrderStatus::Created | OrderStatus::AwaitingPayment => (Hold::Held, TimerStatus::Scheduled),
            OrderStatus::Completed => (Hold::Sold, TimerStatus::Dropped),
            OrderStatus::Cancelled => (Hold::Released, TimerStatus::Expired),
        };
        let reason = (status == OrderStatus::Cancelled).then_some(Reason::Expired);
        let order = Order { ticket, quantity: 2, shown, reason, expires_at, overdue: false, updated_at: expires_at };
        OrderCase {
            order: Some(order),
            reservation: Some(Reservation { ticket, quantity: 2, status: hold }),
            account: Some(shown),
            timer: Some(Timer { expires_at, status: timer }),
            ..OrderCase::default()
        }
    }

    fn its_order(case: &mut OrderCase) -> &mut Order {
        case.order.as_mut().unwrap()
    }

    fn its_reservation(case: &mut OrderCase) -> &mut Reservation {
        case.reservation.as_mut().unwrap()
    }

    fn its_account(case: &mut OrderCase) -> &mut Shown {
        case.account.as_mut().unwrap()
    }

    fn its_timer(case: &mut OrderCase) -> &mut Timer {
        case.timer.as_mut().unwrap()
    }

    fn broken(case: &OrderCase) -> Vec<Rule> {
        all(ID, case.order.as_ref().unwrap(), case).map(|violation| violation.rule).collect()
    }

    #[test]
    fn an_order_that_all_have_alike_breaks_no_rule() {
        for status in [OrderStatus::AwaitingPayment, OrderStatus::Completed, OrderStatus::Cancelled] {
            assert_eq!(broken(&at_rest(status)), [], "{status:?}");
        }
        assert_eq!(broken(&at_rest(OrderStatus::Created)), [Rule::Undecided]);
    }

    #[test]
    fn whoever_has_it_otherwise_breaks_one_rule() {
        use OrderStatus::{AwaitingPayment, Cancelled, Completed};
        type Break = fn(&mut OrderCase);
        let table: &[(OrderStatus, Break, Rule)] = &[
            (AwaitingPayment, |case| its_order(case).overdue = true, Rule::Overdue),
            (Completed, |case| case.reservation = None, Rule::Reservation),
            (Completed, |case| its_reservation(case).quantity = 1, Rule::Reservation),
            (Completed, |case| its_reservation(case).ticket = ID, Rule::Reservation),
            (Completed, |case| its_reservation(case).status = Hold::Held, Rule::Reservation),
            (AwaitingPayment, |case| its_reservation(case).status = Hold::Sold, Rule::Reservation),
            (Cancelled, |case| its_reservation(case).status = Hold::Held, Rule::Reservation),
            (Completed, |case| case.account = None, Rule::Account),
            (Completed, |case| its_account(case).version = 2, Rule::Account),
            (Completed, |case| its_account(case).status = Cancelled, Rule::Account),
            (Completed, |case| its_account(case).total = 100, Rule::Account),
            (Completed, |case| its_account(case).currency = Currency::of("EUR"), Rule::Account),
            (Completed, |case| its_account(case).user = Print::of("eve"), Rule::Account),
            (Completed, |case| case.timer = None, Rule::Timer),
            (Completed, |case| its_timer(case).status = TimerStatus::Scheduled, Rule::Timer),
            (AwaitingPayment, |case| its_timer(case).status = TimerStatus::Dropped, Rule::Timer),
            (Cancelled, |case| its_timer(case).expires_at = SystemTime::UNIX_EPOCH, Rule::Timer),
        ];
        for (row, (status, broke, rule)) in table.iter().enumerate() {
            let mut case = at_rest(*status);
            broke(&mut case);
            assert_eq!(broken(&case), [*rule], "row {row}");
        }
    }

    #[test]
    fn an_order_that_ended_before_it_asked_for_stock_has_none() {
        for status in [Hold::Released, Hold::Refused, Hold::Ended] {
            let mut case = at_rest(OrderStatus::Cancelled);
            case.reservation.as_mut().unwrap().status = status;
            assert_eq!(broken(&case), [], "{status:?}");
        }
    }

    #[test]
    fn an_order_is_cancelled_for_the_reason_that_it_tells() {
        use Hold::{Ended, Held, Refused, Released, Sold};
        use Reason::{Buyer, Expired, PriceChanged, SoldOut, UnknownTicket, Withdrawn};
        use TimerStatus::{Dropped, Scheduled};
        const NOTHING: &[Rule] = &[];
        let fired = TimerStatus::Expired;
        type Row<'a> = (Reason, TimerStatus, Hold, &'a [Rule]);
        let (reason, timer, stock) = (Rule::Reason, Rule::Timer, Rule::Reservation);
        let table: &[Row<'_>] = &[
            // Its buyer may be the first at any time, and the others hear of it late.
            (Buyer, Dropped, Released, NOTHING),
            (Buyer, fired, Refused, NOTHING),
            (Buyer, Dropped, Ended, NOTHING),
            // Its time may be up before it is heard whether there is stock.
            (Expired, fired, Released, NOTHING),
            (Expired, fired, Refused, NOTHING),
            (Expired, fired, Ended, NOTHING),
            (Expired, Dropped, Released, &[reason]),
            (Expired, Scheduled, Released, &[timer, reason]),
            // A timer may fire for what has ended meanwhile.
            (SoldOut, Dropped, Refused, NOTHING),
            (SoldOut, fired, Refused, NOTHING),
            (PriceChanged, Dropped, Refused, NOTHING),
            (Withdrawn, Dropped, Refused, NOTHING),
            (UnknownTicket, Dropped, Refused, NOTHING),
            (SoldOut, Dropped, Released, &[reason]),
            (PriceChanged, Dropped, Ended, &[reason]),
            (Withdrawn, Dropped, Held, &[stock, reason]),
            (UnknownTicket, Dropped, Sold, &[stock, reason]),
        ];
        for (row, (reason, timer, hold, rules)) in table.iter().enumerate() {
            let mut case = at_rest(OrderStatus::Cancelled);
            its_order(&mut case).reason = Some(*reason);
            its_timer(&mut case).status = *timer;
            its_reservation(&mut case).status = *hold;
            assert_eq!(broken(&case), *rules, "row {row}");
        }
    }

    #[test]
    fn an_order_expires_when_its_time_is_up_by_clocks_that_differ_a_little() {
        let mut case = at_rest(OrderStatus::Cancelled);
        let due = its_order(&mut case).expires_at;
        its_order(&mut case).updated_at = due - CLOCKS_APART;
        assert_eq!(broken(&case), []);
        its_order(&mut case).updated_at = due - CLOCKS_APART - Duration::from_millis(1);
        assert_eq!(broken(&case), [Rule::Reason]);
        its_order(&mut case).reason = Some(Reason::Buyer);
        assert_eq!(broken(&case), []);
    }

    #[test]
    fn whatever_is_about_an_order_that_does_not_exist_is_named() {
        assert_eq!(no_such(ID, &OrderCase::default()), None);
        let payment =
            Payment { id: ID, user: Print::of("bob"), status: PaymentStatus::Failed, reference: None, version: 1 };
        let case = OrderCase { order: None, payments: vec![payment], ..at_rest(OrderStatus::Completed) };
        let said = no_such(ID, &case).unwrap().what;
        assert_eq!(said, "there is no such order, but there is a reservation, an account, payments, a timer");
    }
}
