//! The rules of tickets, pure: what sellers may do to them, and which order gets stock.
//!
//! This service alone decides on stock and price. A command is about one ticket and at most one reservation of it.

use shared::{
    clock::Timestamp,
    command::{self, Domain},
    id::Id,
    money::Money,
    user::UserId,
    version::Version,
};

/// Marks ids of tickets.
pub enum TicketKind {}
/// A ticket's id.
pub type TicketId = Id<TicketKind>;
/// Marks ids of orders.
pub enum OrderKind {}
/// An order's id.
pub type OrderId = Id<OrderKind>;

/// How many of a ticket there may be.
pub const QUANTITIES: std::ops::RangeInclusive<i32> = 1..=1_000_000;

/// A ticket.
#[derive(Clone, Debug, PartialEq)]
pub struct Ticket {
    /// Its id.
    pub id: TicketId,
    /// Who lists it.
    pub seller: UserId,
    /// What it is for.
    pub title: String,
    /// What one costs, at least 0.
    pub price: Money,
    /// How many there are in all: at least `reserved + sold`.
    pub quantity: i32,
    /// How many open orders hold.
    pub reserved: i32,
    /// How many have been paid for.
    pub sold: i32,
    /// Whether it is on sale.
    pub status: Status,
    /// Counts the changes of its state.
    pub version: Version,
    /// Counts the seller's edits.
    pub revision: i64,
    /// When it was listed.
    pub created_at: Timestamp,
    /// When its state changed last.
    pub updated_at: Timestamp,
}

impl Ticket {
    /// How many can be reserved now.
    pub fn available(&self) -> i32 {
        self.quantity - self.reserved - self.sold
    }
}

/// Whether a ticket is on sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is.
    Listed,
    /// No longer. What is held or sold stays so.
    Withdrawn,
}

/// What this service knows of an order: one for every order that it has ever heard of.
#[derive(Clone, Debug, PartialEq)]
pub struct Reservation {
    /// The order.
    pub order: OrderId,
    /// What it is for.
    pub ticket: TicketId,
    /// How many, at least 1.
    pub quantity: i32,
    /// What became of it.
    pub status: Hold,
}

/// What became of an order's stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It is held for the order.
    Held,
    /// It was paid for.
    Sold,
    /// It was held, and can be had again.
    Released,
    /// There was none for the order.
    Refused,
    /// The order ended before it asked: should it ask after all, it gets none.
    Ended,
}

/// What a command is decided on: a ticket, and the one reservation that the command is about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The ticket, if anybody listed it.
    pub ticket: Option<Ticket>,
    /// The reservation, if the order was heard of.
    pub reservation: Option<Reservation>,
}

/// What is asked of this service.
#[derive(Clone, Debug)]
pub enum Command {
    /// A seller lists a ticket.
    Create {
        /// Its id to be.
        id: TicketId,
        /// Who lists it.
        seller: UserId,
        /// What it is for.
        title: String,
        /// What one costs.
        price: Money,
        /// How many there are.
        quantity: i32,
    },
    /// A seller changes what is given.
    Edit {
        /// Which ticket.
        id: TicketId,
        /// Who asks.
        seller: UserId,
        /// What to change.
        edit: Edit,
        /// What the edit is based on.
        expected_revision: Option<i64>,
    },
    /// A seller ends the sale.
    Withdraw {
        /// Which ticket.
        id: TicketId,
        /// Who asks.
        seller: UserId,
    },
    /// An order was placed: it asks for stock.
    Reserve {
        /// Which ticket.
        id: TicketId,
        /// For which order.
        order: OrderId,
        /// How many.
        quantity: i32,
        /// What the buyer agreed to pay for one.
        unit_price: Money,
    },
    /// An order was paid.
    Sell {
        /// Which ticket.
        id: TicketId,
        /// Which order.
        order: OrderId,
    },
    /// An order ended unpaid.
    Release {
        /// Which ticket.
        id: TicketId,
        /// Which order.
        order: OrderId,
        /// How many it was for.
        quantity: i32,
    },
}

impl Command {
    /// The ticket that it is about.
    pub fn ticket(&self) -> TicketId {
        match self {
            Self::Create { id, .. }
            | Self::Edit { id, .. }
            | Self::Withdraw { id, .. }
            | Self::Reserve { id, .. }
            | Self::Sell { id, .. }
            | Self::Release { id, .. } => *id,
        }
    }

    /// The order whose reservation it is about, if it is about one.
    pub fn order(&self) -> Option<OrderId> {
        match self {
            Self::Create { .. } | Self::Edit { .. } | Self::Withdraw { .. } => None,
            Self::Reserve { order, .. } | Self::Sell { order, .. } | Self::Release { order, .. } => Some(*order),
        }
    }
}

/// A seller's change: only what is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edit {
    /// What it is for.
    pub title: Option<String>,
    /// What one costs.
    pub price: Option<Money>,
    /// How many there are in all.
    pub quantity: Option<i32>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A ticket was listed.
    Created(Ticket),
    /// Its seller changed it.
    Edited {
        /// What was changed.
        edit: Edit,
        /// When.
        at: Timestamp,
    },
    /// Its seller ended the sale.
    Withdrawn {
        /// When.
        at: Timestamp,
    },
    /// Stock is held for an order.
    Reserved {
        /// For whom and how much.
        reservation: Reservation,
        /// When.
        at: Timestamp,
    },
    /// An order's stock can be had again.
    Released {
        /// When.
        at: Timestamp,
    },
    /// An order's stock is sold.
    Sold {
        /// When.
        at: Timestamp,
    },
    /// An order gets no stock.
    Rejected {
        /// Who asked for how much.
        reservation: Reservation,
        /// Why.
        reason: Rejection,
    },
    /// An order ended before it asked for stock.
    Ended(Reservation),
}

/// Why an order gets no stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Less is available than was ordered.
    SoldOut,
    /// The price is no longer the one that the buyer saw.
    PriceChanged,
    /// The seller has ended the sale.
    Withdrawn,
    /// Nobody listed such a ticket.
    UnknownTicket,
}

/// Why a command is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such ticket.
    NotFound,
    /// It is another's.
    NotTheSeller,
    /// It was edited since.
    RevisionMismatch {
        /// The ticket's revision.
        revision: i64,
    },
    /// Less would be left than is held and sold.
    QuantityTooLow {
        /// Held and sold.
        taken: i32,
    },
    /// An order was paid whose stock is not held, or cancelled whose stock is sold. Never happens unless something is very
    /// wrong.
    NotHeld,
}

impl command::Refusal for Refusal {
    const REASONS: &'static [&'static str] =
        &["NOT_FOUND", "PERMISSION_DENIED", "REVISION_MISMATCH", "QUANTITY_TOO_LOW", "NOT_HELD"];

    fn reason(&self) -> &'static str {
        match self {
            Self::NotFound => "NOT_FOUND",
            Self::NotTheSeller => "PERMISSION_DENIED",
            Self::RevisionMismatch { .. } => "REVISION_MISMATCH",
            Self::QuantityTooLow { .. } => "QUANTITY_TOO_LOW",
            Self::NotHeld => "NOT_HELD",
        }
    }
}

/// The service, as the engine knows it.
pub struct Tickets;

impl Domain for Tickets {
    type State = State;
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(state: &State, command: &Command, now: Timestamp) -> Result<Vec<Event>, Refusal> {
        match command {
            Command::Create { id, seller, title, price, quantity } => Ok(match state.ticket {
                Some(_) => vec![],
                None => vec![Event::Created(Ticket {
                    id: *id,
                    seller: seller.clone(),
                    title: title.clone(),
                    price: *price,
                    quantity: *quantity,
                    reserved: 0,
                    sold: 0,
                    status: Status::Listed,
                    version: Version::FIRST,
                    revision: 1,
                    created_at: now,
                    updated_at: now,
                })],
            }),
            Command::Edit { seller, edit, expected_revision, .. } => {
                let ticket = own(state, seller)?;
                if expected_revision.is_some_and(|expected| expected != ticket.revision) {
                    return Err(Refusal::RevisionMismatch { revision: ticket.revision });
                }
                let taken = ticket.reserved + ticket.sold;
                if edit.quantity.is_some_and(|quantity| quantity < taken) {
                    return Err(Refusal::QuantityTooLow { taken });
                }
                Ok(vec![Event::Edited { edit: edit.clone(), at: now }])
            }
            Command::Withdraw { seller, .. } => Ok(match own(state, seller)?.status {
                Status::Listed => vec![Event::Withdrawn { at: now }],
                Status::Withdrawn => vec![],
            }),
            Command::Reserve { id, order, quantity, unit_price } => {
                if state.reservation.is_some() {
                    return Ok(vec![]);
                }
                let reservation = |status| Reservation { order: *order, ticket: *id, quantity: *quantity, status };
                Ok(vec![match rejection(state.ticket.as_ref(), *quantity, *unit_price) {
                    None => Event::Reserved { reservation: reservation(Hold::Held), at: now },
                    Some(reason) => Event::Rejected { reservation: reservation(Hold::Refused), reason },
                }])
            }
            Command::Sell { .. } => match state.reservation.as_ref().map(|reservation| reservation.status) {
                Some(Hold::Held) => Ok(vec![Event::Sold { at: now }]),
                Some(Hold::Sold) => Ok(vec![]),
                // Orders complete only while their stock is held.
                None | Some(Hold::Released | Hold::Refused | Hold::Ended) => Err(Refusal::NotHeld),
            },
            Command::Release { id, order, quantity } => {
                Ok(match state.reservation.as_ref().map(|reservation| reservation.status) {
                    Some(Hold::Held) => vec![Event::Released { at: now }],
                    Some(Hold::Released | Hold::Refused | Hold::Ended) => vec![],
                    // An order ends once, and this one was paid.
                    Some(Hold::Sold) => return Err(Refusal::NotHeld),
                    None => vec![Event::Ended(Reservation {
                        order: *order,
                        ticket: *id,
                        quantity: *quantity,
                        status: Hold::Ended,
                    })],
                })
            }
        }
    }

    fn apply(mut state: State, event: &Event) -> State {
        match event {
            Event::Created(ticket) => state.ticket = Some(ticket.clone()),
            Event::Edited { edit, at } => change(&mut state, *at, |ticket| {
                ticket.revision += 1;
                if let Some(title) = &edit.title {
                    ticket.title.clone_from(title);
                }
                ticket.price = edit.price.unwrap_or(ticket.price);
                ticket.quantity = edit.quantity.unwrap_or(ticket.quantity);
            }),
            Event::Withdrawn { at } => change(&mut state, *at, |ticket| ticket.status = Status::Withdrawn),
            Event::Reserved { reservation, at } => {
                change(&mut state, *at, |ticket| ticket.reserved += reservation.quantity);
                state.reservation = Some(reservation.clone());
            }
            Event::Released { at } => {
                let freed = settle(&mut state, Hold::Released);
                change(&mut state, *at, |ticket| ticket.reserved -= freed);
            }
            Event::Sold { at } => {
                let sold = settle(&mut state, Hold::Sold);
                change(&mut state, *at, |ticket| {
                    ticket.reserved -= sold;
                    ticket.sold += sold;
                });
            }
            Event::Rejected { reservation, .. } | Event::Ended(reservation) => {
                state.reservation = Some(reservation.clone());
            }
        }
        state
    }
}

/// The ticket, if it is this seller's.
fn own<'a>(state: &'a State, seller: &UserId) -> Result<&'a Ticket, Refusal> {
    let ticket = state.ticket.as_ref().ok_or(Refusal::NotFound)?;
    if ticket.seller == *seller { Ok(ticket) } else { Err(Refusal::NotTheSeller) }
}

/// Why an order gets no stock, if it doesn't. Nothing is sold at a price that nobody agreed to, so the price is judged
/// before the stock: whoever is told that it changed can decide anew.
fn rejection(ticket: Option<&Ticket>, quantity: i32, unit_price: Money) -> Option<Rejection> {
    let Some(ticket) = ticket else { return Some(Rejection::UnknownTicket) };
    if ticket.status == Status::Withdrawn {
        Some(Rejection::Withdrawn)
    } else if ticket.price != unit_price {
        Some(Rejection::PriceChanged)
    } else if ticket.available() < quantity {
        Some(Rejection::SoldOut)
    } else {
        None
    }
}

fn change(state: &mut State, at: Timestamp, change: impl FnOnce(&mut Ticket)) {
    if let Some(ticket) = &mut state.ticket {
        change(ticket);
        ticket.version = ticket.version.next();
        ticket.updated_at = at;
    }
}

/// Ends a reservation; how much it was of.
fn settle(state: &mut State, status: Hold) -> i32 {
    state.reservation.as_mut().map_or(0, |reservation| {
        reservation.status = status;
        reservation.quantity
    })
}
