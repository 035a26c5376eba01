//! The rules of orders, a table a rule.
#![allow(clippy::unwrap_used, reason = "what a test builds is there")]

use std::time::Duration;

use orders::domain::{
    Command, Create, Event, Order, OrderId, Orders, Reason, Refusal, State, Status, Ticket, TicketId,
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

fn usd(cents: i64) -> Money {
    Money::new(Currency::USD, cents)
}

fn bob() -> UserId {
    UserId::from_stored("bob")
}

/// A copy of a ticket at 100 of which five are available.
fn ticket() -> Ticket {
    Ticket {
        id: TicketId::new(),
        title: "Concert".to_owned(),
        price: usd(100),
        available: 5,
        withdrawn: false,
        version: Version::from_i64(4),
    }
}

fn create(ticket: &Ticket) -> Create {
    Create {
        id: OrderId::new(),
        user: bob(),
        ticket: ticket.id,
        quantity: 2,
        unit_price: Some(usd(100)),
        ttl: Duration::from_secs(120),
        trace: TraceContext::root(),
    }
}

/// An order of bob's in this status.
fn order(status: Status) -> Order {
    let ticket = ticket();
    let state = State { order: None, ticket: Some(ticket.clone()) };
    let placed = after(&state, &Command::Create(create(&ticket))).order.unwrap();
    Order { status, ..placed }
}

fn state(status: Status) -> (State, OrderId) {
    let order = order(status);
    let id = order.id;
    (State { order: Some(order), ticket: None }, id)
}

fn decide(state: &State, command: &Command) -> Result<Vec<Event>, Refusal> {
    Orders::decide(state, command, now())
}

fn after(state: &State, command: &Command) -> State {
    decide(state, command).unwrap().iter().fold(state.clone(), Orders::apply)
}

#[test]
fn an_order_is_refused_early_only_for_what_cannot_turn_back_is_cheap_to_try_again_or_cannot_be_counted() {
    type Case = (&'static str, Option<Ticket>, fn(&mut Create), Result<usize, Refusal>);
    let table: [Case; 8] = [
        ("as seen", Some(ticket()), |_| {}, Ok(1)),
        ("all there is", Some(ticket()), |create| create.quantity = 5, Ok(1)),
        ("more than there is", Some(ticket()), |create| create.quantity = 6, Err(Refusal::SoldOut { available: 5 })),
        ("at another price: tickets will judge", Some(ticket()), |create| create.unit_price = Some(usd(1)), Ok(1)),
        ("at no price: the copy's", Some(ticket()), |create| create.unit_price = None, Ok(1)),
        ("not heard of", None, |_| {}, Err(Refusal::TicketUnknown)),
        ("withdrawn", Some(Ticket { withdrawn: true, ..ticket() }), |_| {}, Err(Refusal::TicketWithdrawn)),
        (
            "more money than can be counted",
            Some(ticket()),
            |create| create.unit_price = Some(usd(i64::MAX)),
            Err(Refusal::TotalTooLarge),
        ),
    ];
    for (case, ticket, change, expected) in table {
        let mut create = create(&ticket.clone().unwrap_or_else(self::ticket));
        change(&mut create);
        let state = State { order: None, ticket };
        assert_eq!(decide(&state, &Command::Create(create)).map(|events| events.len()), expected, "{case}");
    }
}

#[test]
fn an_order_that_is_placed_is_not_placed_again() {
    let (state, id) = state(Status::AwaitingPayment);
    let again = Create { id, ..create(&ticket()) };
    assert_eq!(decide(&state, &Command::Create(again)), Ok(vec![]));
}

#[test]
fn an_order_states_what_was_agreed() {
    let ticket = ticket();
    let create = Create { unit_price: None, quantity: 3, ..create(&ticket) };
    let state = State { order: None, ticket: Some(ticket) };
    let order = after(&state, &Command::Create(create.clone())).order.unwrap();
    assert_eq!((order.unit_price, order.total_price), (usd(100), usd(300)));
    assert_eq!((order.status, order.version), (Status::Created, Version::FIRST));
    assert_eq!(order.expires_at, now() + Duration::from_secs(120));
    assert_eq!(order.trace, create.trace);
}

#[test]
fn each_status_hears_each_news_in_its_own_way() {
    use Status::{AwaitingPayment, Cancelled, Completed, Created};
    let ended = Cancelled(Reason::Buyer);
    // By status before: after `reserved`, `rejected (sold out)`, `paid`, `expired`. The same status: nothing happens.
    let table = [
        (Created, AwaitingPayment, Cancelled(Reason::SoldOut), Created, Cancelled(Reason::Expired)),
        (AwaitingPayment, AwaitingPayment, AwaitingPayment, Completed, Cancelled(Reason::Expired)),
        (Completed, Completed, Completed, Completed, Completed),
        (ended, ended, ended, ended, ended),
    ];
    for (before, reserved, rejected, paid, expired) in table {
        let (state, id) = state(before);
        let version = state.order.as_ref().unwrap().version;
        for (news, expected) in [
            (Command::Reserved(id), reserved),
            (Command::Rejected(id, Reason::SoldOut), rejected),
            (Command::Paid(id), paid),
            (Command::Expire(id), expired),
        ] {
            let order = after(&state, &news).order.unwrap();
            assert_eq!(order.status, expected, "{before:?} hears {news:?}");
            let changes = i64::from(expected != before);
            assert_eq!(order.version.as_i64() - version.as_i64(), changes, "{before:?} hears {news:?}: versions");
        }
    }
}

#[test]
fn a_buyer_cancels_what_is_not_paid_and_learns_what_is() {
    use Status::{AwaitingPayment, Cancelled, Completed, Created};
    for (status, expected) in [
        (Created, Ok(Cancelled(Reason::Buyer))),
        (AwaitingPayment, Ok(Cancelled(Reason::Buyer))),
        (Cancelled(Reason::Expired), Ok(Cancelled(Reason::Expired))),
        (Completed, Err(Refusal::Completed)),
    ] {
        let (state, id) = state(status);
        let cancel = Command::Cancel { id, user: bob() };
        let outcome = decide(&state, &cancel).map(|_| after(&state, &cancel).order.unwrap().status);
        assert_eq!(outcome, expected, "{status:?}");
        let stranger = Command::Cancel { id, user: UserId::from_stored("mallory") };
        assert_eq!(decide(&state, &stranger), Err(Refusal::NotFound), "{status:?}, another's");
    }
}

#[test]
fn a_copy_of_a_ticket_only_gets_newer() {
    let copy = ticket();
    let state = State { order: None, ticket: Some(copy.clone()) };
    for (version, newer) in [(3, false), (4, false), (5, true)] {
        let seen = Ticket { version: Version::from_i64(version), available: 1, ..copy.clone() };
        let held = after(&state, &Command::CopyTicket(seen.clone())).ticket.unwrap();
        assert_eq!(held == seen, newer, "version {version}");
    }
    let seen = ticket();
    assert_eq!(after(&State::default(), &Command::CopyTicket(seen.clone())).ticket, Some(seen));
}

#[test]
fn news_of_an_order_that_nobody_placed_is_impossible() {
    let id = OrderId::new();
    for news in [Command::Reserved(id), Command::Rejected(id, Reason::SoldOut), Command::Paid(id), Command::Expire(id)]
    {
        assert_eq!(decide(&State::default(), &news), Err(Refusal::NoSuchOrder), "{news:?}");
    }
}
