//! The rules of payments, a table a rule.
#![allow(clippy::unwrap_used, reason = "what a test builds is there")]

use std::time::Duration;

use payments::{
    domain::{
        Account, Answer, Command, Event, Inquiry, LEASE, Order, OrderId, OrderStatus, Payment, PaymentId, Payments,
        Refusal, Status,
    },
    provider::KEYS_KNOWN_FOR,
};
use shared::{
    clock::Timestamp,
    command::Domain,
    money::{Currency, Money},
    telemetry::TraceContext,
    user::UserId,
    version::Version,
};

fn now() -> Timestamp {
    Timestamp::from_timestamp(1_800_000_000, 0).unwrap()
}

fn bob() -> UserId {
    UserId::from_stored("bob")
}

/// An order of bob's over 299 dollars in this status.
fn order(status: OrderStatus) -> Order {
    Order {
        id: OrderId::new(),
        user: bob(),
        total: Money::new(Currency::USD, 29900),
        status,
        version: Version::from_i64(2),
        trace: TraceContext::root(),
    }
}

fn payment(status: Status) -> Payment {
    Payment {
        id: PaymentId::new(),
        method: "pm_card_visa".to_owned(),
        status,
        provider: "stripe".to_owned(),
        reference: Some("pi_1".to_owned()),
        inquiry: Inquiry { tries: 1, key_number: 1, keyed_at: now(), looking_since: None, next_try_at: now() + LEASE },
        version: Version::from_i64(1),
        created_at: now(),
        updated_at: now(),
    }
}

fn account(order_status: OrderStatus, payments: &[Status]) -> Account {
    let numbered = payments.iter().cloned().zip(1..);
    let payments =
        numbered.map(|(status, number)| Payment { version: Version::from_i64(number), ..payment(status) }).collect();
    Account { order: order(order_status), payments }
}

fn pay(account: &Account, user: &UserId) -> Command {
    Command::Pay {
        id: PaymentId::new(),
        order: account.order.id,
        user: user.clone(),
        method: "pm_card_visa".to_owned(),
        provider: "stripe".to_owned(),
    }
}

fn hear(account: &Account, answer: Answer) -> Command {
    let payment = account.payments.first().unwrap();
    Command::Heard { order: account.order.id, payment: payment.id, key: payment.inquiry.key_number, answer }
}

fn decide(state: &Option<Account>, command: &Command) -> Result<Vec<Event>, Refusal> {
    Payments::decide(state, command, now())
}

/// The state after a command that is accepted.
fn after(account: &Account, command: &Command) -> Account {
    let state = Some(account.clone());
    let events = decide(&state, command).unwrap();
    events.iter().fold(state, Payments::apply).unwrap()
}

fn failed() -> Status {
    Status::Failed("card_declined".to_owned())
}

#[test]
fn an_order_is_paid_by_its_buyer_while_it_holds_stock_and_only_once() {
    use OrderStatus::{AwaitingPayment, Cancelled, Completed, Created};
    for (status, payments, expected) in [
        (Created, vec![], Err(Refusal::NotPayableYet)),
        (AwaitingPayment, vec![], Ok(())),
        (AwaitingPayment, vec![failed()], Ok(())),
        (AwaitingPayment, vec![failed(), Status::Pending], Err(Refusal::PaymentInProgress)),
        (AwaitingPayment, vec![failed(), Status::Succeeded], Err(Refusal::AlreadyPaid)),
        (Completed, vec![Status::Succeeded], Err(Refusal::AlreadyPaid)),
        (Completed, vec![], Err(Refusal::AlreadyPaid)),
        (Cancelled, vec![], Err(Refusal::NotPayable)),
        (Cancelled, vec![Status::Refunded], Err(Refusal::NotPayable)),
    ] {
        let account = account(status, &payments);
        let decided = decide(&Some(account.clone()), &pay(&account, &bob()));
        assert_eq!(decided.map(drop), expected, "{status:?} with {payments:?}");
    }
    let account = account(AwaitingPayment, &[]);
    let stranger = pay(&account, &UserId::from_stored("mallory"));
    assert_eq!(decide(&Some(account), &stranger), Err(Refusal::NotFound), "another's");
    assert_eq!(decide(&None, &stranger), Err(Refusal::NotFound), "not heard of");
}

#[test]
fn a_payment_begins_pending_with_its_first_call_under_way() {
    let account = account(OrderStatus::AwaitingPayment, &[]);
    let paying = after(&account, &pay(&account, &bob()));
    let [payment] = paying.payments.as_slice() else { panic!("one payment: {paying:?}") };
    assert_eq!(payment.status, Status::Pending);
    assert_eq!((payment.inquiry.tries, payment.inquiry.key_number, payment.inquiry.next_try_at), (1, 1, now() + LEASE));
    assert_eq!((paying.version(), payment.version), (Version::FIRST, Version::FIRST));
}

#[test]
fn where_there_is_nothing_to_pay_no_provider_is_needed() {
    let mut account = account(OrderStatus::AwaitingPayment, &[]);
    account.order.total = Money::new(Currency::USD, 0);
    let paid = after(&account, &pay(&account, &bob()));
    let [payment] = paid.payments.as_slice() else { panic!("one payment: {paid:?}") };
    assert_eq!((&payment.status, payment.provider.as_str(), &payment.reference), (&Status::Succeeded, "", &None));
    assert_eq!(paid.version(), Version::from_i64(2), "begun, and done");
}

#[test]
fn an_answer_settles_a_payment_once_and_an_echo_changes_nothing() {
    let charged = || Answer::Charged { reference: "pi_1".to_owned() };
    let declined = || Answer::Declined { reason: "card_declined".to_owned() };
    for (status, answer, expected) in [
        (Status::Pending, charged(), Status::Succeeded),
        (Status::Pending, declined(), failed()),
        (Status::Pending, Answer::Refunded, Status::Pending),
        (Status::Pending, Answer::Unsettled { retry_after: None }, Status::Pending),
        (Status::Pending, Answer::Stuck, Status::Pending),
        (Status::Succeeded, charged(), Status::Succeeded),
        (Status::Succeeded, declined(), Status::Succeeded),
        (Status::Succeeded, Answer::Unsettled { retry_after: None }, Status::Succeeded),
        (failed(), declined(), failed()),
        // By whoever came with the charge after its key was voided.
        (failed(), Answer::Stuck, failed()),
        (Status::RefundPending, charged(), Status::RefundPending),
        (Status::RefundPending, Answer::Refunded, Status::Refunded),
        (Status::RefundPending, Answer::KeySpent, Status::RefundPending),
        (Status::Refunded, Answer::Refunded, Status::Refunded),
        (Status::Refunded, charged(), Status::Refunded),
    ] {
        let account = account(OrderStatus::AwaitingPayment, std::slice::from_ref(&status));
        let heard = after(&account, &hear(&account, answer.clone()));
        assert_eq!(heard.payments.first().unwrap().status, expected, "{status:?} hears {answer:?}");
        let counts = i64::from(expected != status);
        assert_eq!(heard.version().as_i64(), account.version().as_i64() + counts, "{status:?} hears {answer:?}");
    }
}

#[test]
fn money_that_was_said_never_to_be_taken_is_a_contradiction_and_not_passed_over() {
    let account = account(OrderStatus::AwaitingPayment, &[failed()]);
    let charged = hear(&account, Answer::Charged { reference: "pi_1".to_owned() });
    assert_eq!(decide(&Some(account), &charged), Err(Refusal::Contradiction));
}

#[test]
fn money_for_an_order_that_ended_goes_back_once_whichever_is_heard_first() {
    // The charge first.
    let paid = account(OrderStatus::AwaitingPayment, &[Status::Succeeded]);
    let ended = Order { status: OrderStatus::Cancelled, version: Version::from_i64(3), ..paid.order.clone() };
    let refunding = after(&paid, &Command::CopyOrder(ended.clone()));
    assert_eq!(refunding.payments.first().unwrap().status, Status::RefundPending);
    assert_eq!(refunding.payments.first().unwrap().inquiry.next_try_at, now(), "it is asked for at once");
    // The end first.
    let ending = account(OrderStatus::Cancelled, &[Status::Pending]);
    let charged = hear(&ending, Answer::Charged { reference: "pi_1".to_owned() });
    assert_eq!(after(&ending, &charged).payments.first().unwrap().status, Status::RefundPending);
    // Heard again, and again.
    assert_eq!(after(&refunding, &Command::CopyOrder(ended.clone())), refunding);
    let refunded = after(&refunding, &hear(&refunding, Answer::Refunded));
    assert_eq!(after(&refunded, &Command::CopyOrder(ended)), refunded);
}

#[test]
fn what_cost_nothing_goes_back_without_a_provider() {
    let mut free = account(OrderStatus::AwaitingPayment, &[]);
    free.order.total = Money::new(Currency::USD, 0);
    let paid = after(&free, &pay(&free, &bob()));
    let ended = Order { status: OrderStatus::Cancelled, version: Version::from_i64(3), ..paid.order.clone() };
    let returned = after(&paid, &Command::CopyOrder(ended.clone()));
    assert_eq!(returned.payments.first().unwrap().status, Status::Refunded);
    assert_eq!(after(&returned, &Command::CopyOrder(ended)), returned, "once");
}

#[test]
fn a_stale_copy_changes_nothing_and_hides_nothing() {
    let paid = account(OrderStatus::Cancelled, &[Status::Succeeded]);
    let stale = Order { status: OrderStatus::AwaitingPayment, version: Version::from_i64(1), ..paid.order.clone() };
    let seen = after(&paid, &Command::CopyOrder(stale));
    assert_eq!(seen.order, paid.order, "the copy is newer");
    assert_eq!(seen.payments.first().unwrap().status, Status::RefundPending, "and what it says is done");
}

#[test]
fn the_provider_is_asked_again_ever_more_seldom_and_no_sooner_than_it_said() {
    let unsettled = |seconds: Option<u64>| Answer::Unsettled { retry_after: seconds.map(Duration::from_secs) };
    for (tries, answer, seconds) in [
        (1, unsettled(None), 1),
        (2, unsettled(None), 2),
        (5, unsettled(None), 16),
        (50, unsettled(None), 300),
        (1, unsettled(Some(30)), 30),
        (50, unsettled(Some(30)), 300),
    ] {
        let mut account = account(OrderStatus::AwaitingPayment, &[Status::Pending]);
        account.payments.first_mut().unwrap().inquiry.tries = tries;
        let heard = after(&account, &hear(&account, answer));
        let next = heard.payments.first().unwrap().inquiry.next_try_at;
        assert_eq!(next, now() + Duration::from_secs(seconds), "after {tries} tries");
    }
}

#[test]
fn a_key_that_may_be_forgotten_or_can_tell_no_more_is_not_asked_with_again() {
    let ask =
        |account: &Account| Command::Ask { order: account.order.id, payment: account.payments.first().unwrap().id };
    let inquiry = |account: &Account| account.payments.first().unwrap().inquiry;

    for (order, status) in [
        (OrderStatus::AwaitingPayment, Status::Pending),
        (OrderStatus::Cancelled, Status::Pending),
        (OrderStatus::Cancelled, Status::RefundPending),
    ] {
        let young = account(order, std::slice::from_ref(&status));
        assert_eq!(inquiry(&after(&young, &ask(&young))).looking_since, None, "{order:?}, {status:?}");
        let mut old = young.clone();
        old.payments.first_mut().unwrap().inquiry.keyed_at = now() - KEYS_KNOWN_FOR;
        assert_eq!(inquiry(&after(&old, &ask(&old))).looking_since, Some(now()), "{order:?}, {status:?}");
    }

    let young = account(OrderStatus::Cancelled, &[Status::RefundPending]);
    let stuck = after(&young, &hear(&young, Answer::Stuck));
    assert_eq!(inquiry(&stuck).looking_since, Some(now()));
    let again = after(&stuck, &hear(&stuck, Answer::KeySpent));
    assert_eq!(
        (inquiry(&again).key_number, inquiry(&again).looking_since, inquiry(&again).next_try_at),
        (2, None, now()),
        "with another key"
    );

    // Somebody else was told the same of the key that was given up: the new one may be in use by now.
    let late = hear(&stuck, Answer::KeySpent);
    assert_eq!(after(&again, &late), again);
}
