//! The rules of orders, pure: how an order comes to be, moves on, and ends.
//!
//! What this service holds of tickets is a copy that lags. It refuses early what can't turn back (withdrawn), what is cheap to
//! try again (sold out, or not heard of yet) and what can't be counted (a total that overflows); it never grants, for tickets
//! alone decides on stock and price.

use std::time::Duration;

use shared::{
    clock::Timestamp,
    command::{self, Domain},
    id::Id,
    money::Money,
    telemetry::TraceContext,
    user::UserId,
    version::Version,
};

/// Marks ids of orders.
pub enum OrderKind {}
/// An order's id.
pub type OrderId = Id<OrderKind>;
/// Marks ids of tickets.
pub enum TicketKind {}
/// A ticket's id.
pub type TicketId = Id<TicketKind>;

/// How many of a ticket an order may be for: no more than any ticket has.
pub const QUANTITIES: std::ops::RangeInclusive<i32> = 1..=1_000_000;

/// An order.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Its id.
    pub id: OrderId,
    /// The buyer.
    pub user: UserId,
    /// What is ordered.
    pub ticket: TicketId,
    /// What that was called when it was ordered.
    pub ticket_title: String,
    /// How many, at least 1.
    pub quantity: i32,
    /// What the buyer agreed to pay for one, at least 0.
    pub unit_price: Money,
    /// That times the quantity.
    pub total_price: Money,
    /// Where it is in its life.
    pub status: Status,
    /// When it ends unless it is paid.
    pub expires_at: Timestamp,
    /// The trace in which its story is told.
    pub trace: TraceContext,
    /// Counts the changes of its state.
    pub version: Version,
    /// When it was placed.
    pub created_at: Timestamp,
    /// When its state changed last.
    pub updated_at: Timestamp,
}

/// Where an order is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Placed; whether there is stock is not known yet.
    Created,
    /// Stock is held.
    AwaitingPayment,
    /// Paid. Final.
    Completed,
    /// Ended without a sale. Final.
    Cancelled(Reason),
}

/// Why an order was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its buyer did.
    Buyer,
    /// It was not paid in time.
    Expired,
    /// Less was available than was ordered.
    SoldOut,
    /// The price is no longer the one that the buyer saw.
    PriceChanged,
    /// The seller has ended the sale.
    Withdrawn,
    /// Nobody listed such a ticket.
    UnknownTicket,
}

/// A ticket, as it was last heard of.
#[derive(Clone, Debug, PartialEq)]
pub struct Ticket {
    /// Its id.
    pub id: TicketId,
    /// What it is for.
    pub title: String,
    /// What one costs.
    pub price: Money,
    /// How many could be reserved.
    pub available: i32,
    /// Whether the sale has ended.
    pub withdrawn: bool,
    /// Which of its states this is.
    pub version: Version,
}

/// What a command is decided on: an order, and the copy of a ticket.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The order, if there is one.
    pub order: Option<Order>,
    /// The ticket, if it was heard of.
    pub ticket: Option<Ticket>,
}

/// What is asked of this service.
#[derive(Clone, Debug)]
pub enum Command {
    /// A buyer orders.
    Create(Create),
    /// A buyer no longer wants it.
    Cancel {
        /// Which order.
        id: OrderId,
        /// Who asks.
        user: UserId,
    },
    /// Stock is held for it.
    Reserved(OrderId),
    /// It gets no stock.
    Rejected(OrderId, Reason),
    /// It was paid.
    Paid(OrderId),
    /// It was not paid in time.
    Expire(OrderId),
    /// A ticket was heard of, and perhaps is newer than the copy of it.
    CopyTicket(Ticket),
}

/// A buyer's order.
#[derive(Clone, Debug)]
pub struct Create {
    /// Its id to be.
    pub id: OrderId,
    /// The buyer.
    pub user: UserId,
    /// What is ordered.
    pub ticket: TicketId,
    /// How many.
    pub quantity: i32,
    /// What the buyer saw one to cost; the copy's price if left out.
    pub unit_price: Option<Money>,
    /// How long it waits to be paid.
    pub ttl: Duration,
    /// The trace that its story begins in.
    pub trace: TraceContext,
}

impl Command {
    /// The order that it is about, if it is about one.
    pub fn order(&self) -> Option<OrderId> {
        match self {
            Self::Create(Create { id, .. })
            | Self::Cancel { id, .. }
            | Self::Reserved(id)
            | Self::Rejected(id, _)
            | Self::Paid(id)
            | Self::Expire(id) => Some(*id),
            Self::CopyTicket(_) => None,
        }
    }

    /// The ticket whose copy it needs, if it needs one.
    pub fn ticket(&self) -> Option<TicketId> {
        match self {
            Self::Create(Create { ticket, .. }) => Some(*ticket),
            Self::CopyTicket(ticket) => Some(ticket.id),
            _ => None,
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An order was placed.
    Created(Order),
    /// Stock is held for it.
    AwaitingPayment {
        /// Since when.
        at: Timestamp,
    },
    /// It was paid.
    Completed {
        /// When.
        at: Timestamp,
    },
    /// It ended without a sale.
    Cancelled {
        /// Why.
        reason: Reason,
        /// When.
        at: Timestamp,
    },
    /// The copy of a ticket is this from now on.
    TicketCopied(Ticket),
}

/// Why a command is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such order, or it is another's.
    NotFound,
    /// The ticket was not heard of, yet.
    TicketUnknown,
    /// The sale has ended.
    TicketWithdrawn,
    /// Less is available than was ordered, as far as is known.
    SoldOut {
        /// How many were, when that was last heard.
        available: i32,
    },
    /// The total is more than can be counted.
    TotalTooLarge,
    /// It was paid.
    Completed,
    /// An event about an order that nobody placed here. Never happens unless something is very wrong.
    NoSuchOrder,
}

impl command::Refusal for Refusal {
    const REASONS: &'static [&'static str] = &[
        "NOT_FOUND",
        "TICKET_UNKNOWN",
        "TICKET_WITHDRAWN",
        "SOLD_OUT",
        "TOTAL_TOO_LARGE",
        "ORDER_COMPLETED",
        "NO_SUCH_ORDER",
    ];

    fn reason(&self) -> &'static str {
        match self {
            Self::NotFound => "NOT_FOUND",
            Self::TicketUnknown => "TICKET_UNKNOWN",
            Self::TicketWithdrawn => "TICKET_WITHDRAWN",
            Self::SoldOut { .. } => "SOLD_OUT",
            Self::TotalTooLarge => "TOTAL_TOO_LARGE",
            Self::Completed => "ORDER_COMPLETED",
            Self::NoSuchOrder => "NO_SUCH_ORDER",
        }
    }
}

/// The service, as the engine knows it.
pub struct Orders;

impl Domain for Orders {
    type State = State;
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(state: &State, command: &Command, now: Timestamp) -> Result<Vec<Event>, Refusal> {
        match command {
            Command::Create(create) => match &state.order {
                Some(_) => Ok(vec![]),
                None => Ok(vec![Event::Created(place(create, state.ticket.as_ref(), now)?)]),
            },
            Command::Cancel { user, .. } => {
                let order = state.order.as_ref().filter(|order| order.user == *user).ok_or(Refusal::NotFound)?;
                match order.status {
                    Status::Created | Status::AwaitingPayment => Ok(vec![cancelled(Reason::Buyer, now)]),
                    Status::Cancelled(_) => Ok(vec![]),
                    Status::Completed => Err(Refusal::Completed),
                }
            }
            // The order's own state decides what an event still means to it: each may come late, and more than once.
            Command::Reserved(_) => Ok(match known(state)?.status {
                Status::Created => vec![Event::AwaitingPayment { at: now }],
                _ => vec![],
            }),
            Command::Rejected(_, reason) => Ok(match known(state)?.status {
                Status::Created => vec![cancelled(*reason, now)],
                _ => vec![],
            }),
            Command::Paid(_) => Ok(match known(state)?.status {
                Status::AwaitingPayment => vec![Event::Completed { at: now }],
                // Too late: payments sees how the order ended, and gives the money back.
                _ => vec![],
            }),
            // Obeyed whatever this machine's clock says, or an order might never end.
            Command::Expire(_) => Ok(match known(state)?.status {
                Status::Created | Status::AwaitingPayment => vec![cancelled(Reason::Expired, now)],
                Status::Completed | Status::Cancelled(_) => vec![],
            }),
            Command::CopyTicket(ticket) => Ok(match &state.ticket {
                Some(copy) if copy.version >= ticket.version => vec![],
                _ => vec![Event::TicketCopied(ticket.clone())],
            }),
        }
    }

    fn apply(mut state: State, event: &Event) -> State {
        match event {
            Event::Created(order) => state.order = Some(order.clone()),
            Event::AwaitingPayment { at } => move_to(&mut state, Status::AwaitingPayment, *at),
            Event::Completed { at } => move_to(&mut state, Status::Completed, *at),
            Event::Cancelled { reason, at } => move_to(&mut state, Status::Cancelled(*reason), *at),
            Event::TicketCopied(ticket) => state.ticket = Some(ticket.clone()),
        }
        state
    }
}

fn place(create: &Create, ticket: Option<&Ticket>, now: Timestamp) -> Result<Order, Refusal> {
    let ticket = ticket.ok_or(Refusal::TicketUnknown)?;
    let unit_price = create.unit_price.unwrap_or(ticket.price);
    let total_price = unit_price.times(create.quantity).ok_or(Refusal::TotalTooLarge)?;
    if ticket.withdrawn {
        return Err(Refusal::TicketWithdrawn);
    }
    if ticket.available < create.quantity {
        return Err(Refusal::SoldOut { available: ticket.available });
    }
    Ok(Order {
        id: create.id,
        user: create.user.clone(),
        ticket: ticket.id,
        ticket_title: ticket.title.clone(),
        quantity: create.quantity,
        unit_price,
        total_price,
        status: Status::Created,
        expires_at: now + create.ttl,
        trace: create.trace.clone(),
        version: Version::FIRST,
        created_at: now,
        updated_at: now,
    })
}

fn known(state: &State) -> Result<&Order, Refusal> {
    state.order.as_ref().ok_or(Refusal::NoSuchOrder)
}

fn cancelled(reason: Reason, at: Timestamp) -> Event {
    Event::Cancelled { reason, at }
}

fn move_to(state: &mut State, status: Status, at: Timestamp) {
    if let Some(order) = &mut state.order {
        order.status = status;
        order.version = order.version.next();
        order.updated_at = at;
    }
}
