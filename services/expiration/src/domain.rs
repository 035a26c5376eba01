//! The rules of timers, pure: an order's timer is set once, and either fires or is dropped.

use shared::{
    clock::Timestamp,
    command::{self, Domain},
    id::Id,
    telemetry::TraceContext,
};

/// Marks ids of orders.
pub enum OrderKind {}
/// An order's id.
pub type OrderId = Id<OrderKind>;

/// The timer of one order.
#[derive(Clone, Debug, PartialEq)]
pub struct Expiration {
    /// Whose.
    pub order: OrderId,
    /// When it is due.
    pub expires_at: Timestamp,
    /// Where it is in its life.
    pub status: Status,
    /// The span that set it.
    pub trace: TraceContext,
}

/// Where a timer is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It runs.
    Scheduled,
    /// It fired. Final.
    Expired,
    /// Its order ended first. Final.
    Dropped,
}

/// What is asked of this service.
#[derive(Clone, Debug)]
pub enum Command {
    /// An order was placed.
    Schedule {
        /// Which.
        order: OrderId,
        /// When it ends unless it is paid.
        expires_at: Timestamp,
        /// The span that says so.
        trace: TraceContext,
    },
    /// An order ended.
    Drop {
        /// Which.
        order: OrderId,
        /// When it would have ended.
        expires_at: Timestamp,
        /// The span that says so.
        trace: TraceContext,
    },
    /// A timer is due, by the database's clock.
    Fire(OrderId),
}

impl Command {
    /// The order whose timer it is about.
    pub fn order(&self) -> OrderId {
        match self {
            Self::Schedule { order, .. } | Self::Drop { order, .. } | Self::Fire(order) => *order,
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A timer was set.
    Scheduled(Expiration),
    /// It fired.
    Expired,
    /// It is of no more use.
    Dropped,
    /// The order ended before its timer was set: should it be asked for after all, it won't run.
    NeverNeeded(Expiration),
}

/// There is nothing that these rules forbid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {}

impl command::Refusal for Refusal {
    const REASONS: &'static [&'static str] = &[];

    fn reason(&self) -> &'static str {
        match *self {}
    }
}

/// The service, as the engine knows it.
pub struct Expirations;

impl Domain for Expirations {
    type State = Option<Expiration>;
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(state: &Option<Expiration>, command: &Command, _: Timestamp) -> Result<Vec<Event>, Refusal> {
        let timer = |order: &OrderId, expires_at: &Timestamp, trace: &TraceContext, status| Expiration {
            order: *order,
            expires_at: *expires_at,
            status,
            trace: trace.clone(),
        };
        Ok(match (command, state.as_ref().map(|timer| timer.status)) {
            (Command::Schedule { order, expires_at, trace }, None) => {
                vec![Event::Scheduled(timer(order, expires_at, trace, Status::Scheduled))]
            }
            (Command::Drop { order, expires_at, trace }, None) => {
                vec![Event::NeverNeeded(timer(order, expires_at, trace, Status::Dropped))]
            }
            (Command::Drop { .. }, Some(Status::Scheduled)) => vec![Event::Dropped],
            (Command::Fire(_), Some(Status::Scheduled)) => vec![Event::Expired],
            // An echo, or a timer that is no more.
            (Command::Schedule { .. }, Some(_))
            | (Command::Drop { .. } | Command::Fire(_), Some(Status::Expired | Status::Dropped))
            | (Command::Fire(_), None) => vec![],
        })
    }

    fn apply(state: Option<Expiration>, event: &Event) -> Option<Expiration> {
        let moved_to = |status| state.clone().map(|timer| Expiration { status, ..timer });
        match event {
            Event::Scheduled(timer) | Event::NeverNeeded(timer) => Some(timer.clone()),
            Event::Expired => moved_to(Status::Expired),
            Event::Dropped => moved_to(Status::Dropped),
        }
    }
}
