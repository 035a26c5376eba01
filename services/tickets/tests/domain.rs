//! The rules of tickets, a table a rule.
#![allow(clippy::unwrap_used, reason = "what a test builds is there")]

use shared::{
    clock::Timestamp,
    command::Domain,
    money::{Currency, Money},
    user::UserId,
    version::Version,
};
use tickets::domain::{
    Command, Edit, Event, Hold, OrderId, Refusal, Rejection, Reservation, State, Status, Ticket, TicketId, Tickets,
};

fn now() -> Timestamp {
    Timestamp::from_timestamp(1_800_000_000, 0).unwrap()
}

fn usd(cents: i64) -> Money {
    Money::new(Currency::USD, cents)
}

fn alice() -> UserId {
    UserId::from_stored("alice")
}

/// A ticket of alice's at 100, with so many in all, reserved and sold.
fn ticket(quantity: i32, reserved: i32, sold: i32) -> Ticket {
    Ticket {
        id: TicketId::new(),
        seller: alice(),
        title: "Concert".to_owned(),
        price: usd(100),
        quantity,
        reserved,
        sold,
        status: Status::Listed,
        version: Version::from_i64(7),
        revision: 3,
        created_at: now(),
        updated_at: now(),
    }
}

fn withdrawn(ticket: Ticket) -> Ticket {
    Ticket { status: Status::Withdrawn, ..ticket }
}

fn state(ticket: Ticket) -> State {
    State { ticket: Some(ticket), reservation: None }
}

/// A ticket of ten, and an order of two whose stock has this status.
fn with_hold(hold: Hold) -> (State, OrderId) {
    let (reserved, sold) = match hold {
        Hold::Held => (2, 0),
        Hold::Sold => (0, 2),
        Hold::Released | Hold::Refused | Hold::Ended => (0, 0),
    };
    let ticket = ticket(10, reserved, sold);
    let order = OrderId::new();
    let reservation = Reservation { order, ticket: ticket.id, quantity: 2, status: hold };
    (State { ticket: Some(ticket), reservation: Some(reservation) }, order)
}

fn decide(state: &State, command: &Command) -> Result<Vec<Event>, Refusal> {
    Tickets::decide(state, command, now())
}

/// The state that a command leads to.
fn after(state: &State, command: &Command) -> State {
    decide(state, command).unwrap().iter().fold(state.clone(), Tickets::apply)
}

#[test]
fn an_order_gets_stock_only_at_the_price_seen_and_while_there_is_enough_on_sale() {
    let reject = |reason| Some(Some(reason));
    let table = [
        ("one of one", Some(ticket(1, 0, 0)), 1, 100, Some(None)),
        ("all that is left", Some(ticket(10, 3, 4)), 3, 100, Some(None)),
        ("one more than is left", Some(ticket(10, 3, 4)), 4, 100, reject(Rejection::SoldOut)),
        ("all is held", Some(ticket(1, 1, 0)), 1, 100, reject(Rejection::SoldOut)),
        ("all is sold", Some(ticket(1, 0, 1)), 1, 100, reject(Rejection::SoldOut)),
        ("the price rose", Some(ticket(1, 0, 0)), 1, 99, reject(Rejection::PriceChanged)),
        ("the price fell", Some(ticket(1, 0, 0)), 1, 101, reject(Rejection::PriceChanged)),
        ("the price changed, and all is sold", Some(ticket(1, 0, 1)), 1, 99, reject(Rejection::PriceChanged)),
        ("the sale ended", Some(withdrawn(ticket(1, 0, 0))), 1, 100, reject(Rejection::Withdrawn)),
        ("nobody listed it", None, 1, 100, reject(Rejection::UnknownTicket)),
    ];
    for (case, ticket, quantity, price, expected) in table {
        let state = State { ticket, reservation: None };
        let id = state.ticket.as_ref().map_or_else(TicketId::new, |ticket| ticket.id);
        let order = OrderId::new();
        let events = decide(&state, &Command::Reserve { id, order, quantity, unit_price: usd(price) }).unwrap();
        let rejection = match &events[..] {
            [Event::Reserved { reservation, .. }] if reservation.status == Hold::Held => Some(None),
            [Event::Rejected { reason, reservation }] if reservation.status == Hold::Refused => Some(Some(*reason)),
            _ => None,
        };
        assert_eq!(rejection, expected, "{case}");
    }
}

#[test]
fn a_price_of_another_currency_is_another_price() {
    let ticket = ticket(1, 0, 0);
    let euros = Money::new(Currency::EUR, 100);
    let command = Command::Reserve { id: ticket.id, order: OrderId::new(), quantity: 1, unit_price: euros };
    let events = decide(&state(ticket), &command).unwrap();
    assert!(matches!(events[..], [Event::Rejected { reason: Rejection::PriceChanged, .. }]));
}

#[test]
fn stock_moves_from_available_to_reserved_to_sold_or_back() {
    let listed = state(ticket(10, 0, 0));
    let id = listed.ticket.as_ref().unwrap().id;
    let order = OrderId::new();
    let stock = |state: &State| {
        let ticket = state.ticket.as_ref().unwrap();
        (ticket.available(), ticket.reserved, ticket.sold, ticket.version.as_i64(), ticket.revision)
    };

    let held = after(&listed, &Command::Reserve { id, order, quantity: 2, unit_price: usd(100) });
    assert_eq!(stock(&held), (8, 2, 0, 8, 3));
    assert_eq!(stock(&after(&held, &Command::Sell { id, order })), (8, 0, 2, 9, 3));
    assert_eq!(stock(&after(&held, &Command::Release { id, order, quantity: 2 })), (10, 0, 0, 9, 3));
}

#[test]
fn an_order_is_reacted_to_once_however_often_it_is_heard_of() {
    // What each kind of news leads to, by what became of the order's stock before.
    let table = [
        (Hold::Held, Ok(0), Ok(1), Ok(1)),
        (Hold::Sold, Ok(0), Ok(0), Err(Refusal::NotHeld)),
        (Hold::Released, Ok(0), Err(Refusal::NotHeld), Ok(0)),
        (Hold::Refused, Ok(0), Err(Refusal::NotHeld), Ok(0)),
        (Hold::Ended, Ok(0), Err(Refusal::NotHeld), Ok(0)),
    ];
    for (hold, created, completed, cancelled) in table {
        let (state, order) = with_hold(hold);
        let id = state.ticket.as_ref().unwrap().id;
        let events = |command| decide(&state, &command).map(|events| events.len());
        assert_eq!(
            events(Command::Reserve { id, order, quantity: 2, unit_price: usd(100) }),
            created,
            "created, {hold:?}"
        );
        assert_eq!(events(Command::Sell { id, order }), completed, "completed, {hold:?}");
        assert_eq!(events(Command::Release { id, order, quantity: 2 }), cancelled, "cancelled, {hold:?}");
    }
}

#[test]
fn an_order_that_ended_before_it_asked_gets_no_stock() {
    let listed = state(ticket(1, 0, 0));
    let id = listed.ticket.as_ref().unwrap().id;
    let order = OrderId::new();
    let ended = after(&listed, &Command::Release { id, order, quantity: 1 });
    assert_eq!(ended.reservation.as_ref().map(|reservation| reservation.status), Some(Hold::Ended));
    assert_eq!(ended.ticket, listed.ticket, "the ticket is as it was");
    assert_eq!(decide(&ended, &Command::Reserve { id, order, quantity: 1, unit_price: usd(100) }), Ok(vec![]));
}

#[test]
fn a_rejection_changes_nothing_of_the_ticket() {
    let before = state(ticket(1, 1, 0));
    let id = before.ticket.as_ref().unwrap().id;
    let command = Command::Reserve { id, order: OrderId::new(), quantity: 1, unit_price: usd(100) };
    assert_eq!(after(&before, &command).ticket, before.ticket);
}

#[test]
fn only_its_seller_edits_a_ticket_and_never_below_what_is_taken() {
    let edit = |quantity| Edit { quantity: Some(quantity), ..Edit::default() };
    let table = [
        ("more", "alice", edit(11), None, Ok(1)),
        ("as many as are taken", "alice", edit(5), None, Ok(1)),
        ("fewer than are taken", "alice", edit(4), None, Err(Refusal::QuantityTooLow { taken: 5 })),
        ("on the right revision", "alice", edit(11), Some(3), Ok(1)),
        ("on another revision", "alice", edit(11), Some(2), Err(Refusal::RevisionMismatch { revision: 3 })),
        ("by somebody else", "mallory", edit(11), None, Err(Refusal::NotTheSeller)),
        ("somebody else learns no revision", "mallory", edit(11), Some(2), Err(Refusal::NotTheSeller)),
    ];
    for (case, seller, edit, expected_revision, expected) in table {
        let state = state(ticket(10, 2, 3));
        let id = state.ticket.as_ref().unwrap().id;
        let command = Command::Edit { id, seller: UserId::from_stored(seller), edit, expected_revision };
        assert_eq!(decide(&state, &command).map(|events| events.len()), expected, "{case}");
    }
    let command = Command::Edit { id: TicketId::new(), seller: alice(), edit: edit(1), expected_revision: None };
    assert_eq!(decide(&State::default(), &command), Err(Refusal::NotFound));
}

#[test]
fn an_edit_changes_what_is_given_and_counts_as_a_revision() {
    let before = state(ticket(10, 2, 3));
    let id = before.ticket.as_ref().unwrap().id;
    let edit = Edit { price: Some(usd(250)), ..Edit::default() };
    let edited = after(&before, &Command::Edit { id, seller: alice(), edit, expected_revision: Some(3) });
    let (old, new) = (before.ticket.unwrap(), edited.ticket.unwrap());
    assert_eq!(new, Ticket { price: usd(250), version: Version::from_i64(8), revision: 4, ..old });
}

#[test]
fn a_sale_ends_once_and_keeps_what_is_held_and_sold() {
    let before = state(ticket(10, 2, 3));
    let id = before.ticket.as_ref().unwrap().id;
    let command = Command::Withdraw { id, seller: alice() };
    let ended = after(&before, &command);
    let (old, new) = (before.ticket.unwrap(), ended.ticket.clone().unwrap());
    assert_eq!(new, Ticket { status: Status::Withdrawn, version: Version::from_i64(8), ..old });
    assert_eq!(decide(&ended, &command), Ok(vec![]), "again: nothing more happens");
    let stranger = Command::Withdraw { id, seller: UserId::from_stored("mallory") };
    assert_eq!(decide(&ended, &stranger), Err(Refusal::NotTheSeller));
}

#[test]
fn a_ticket_begins_with_all_of_it_available() {
    let create = Command::Create {
        id: TicketId::new(),
        seller: alice(),
        title: "Concert".to_owned(),
        price: usd(29900),
        quantity: 5,
    };
    let ticket = after(&State::default(), &create).ticket.unwrap();
    assert_eq!((ticket.available(), ticket.reserved, ticket.sold), (5, 0, 0));
    assert_eq!((ticket.version, ticket.revision, ticket.status), (Version::FIRST, 1, Status::Listed));
}
