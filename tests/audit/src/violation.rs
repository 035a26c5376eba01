//! What is wrong: which rule does not hold, of what, and how. In: the rules' findings. Out: a line each, and whether a
//! later finding is still the same one.

use std::fmt;

use uuid::Uuid;

/// What must hold, each as a [`Violation`] of it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A ticket's `reserved` and `sold` are the sums of its reservations.
    Stock,
    /// A ticket never has more reserved and sold than there are.
    Oversold,
    /// Orders' copy of a ticket is the ticket.
    TicketCopy,
    /// Whatever is about an order is about one that exists.
    NoSuchOrder,
    /// An order is decided: none stays `CREATED`.
    Undecided,
    /// An order ends when its time is up.
    Overdue,
    /// An order has its stock exactly while it is due to it.
    Reservation,
    /// Payments' account of an order is the order.
    Account,
    /// An order's timer runs exactly while the order is open, to the same time.
    Timer,
    /// An order was cancelled for the reason that it tells, as those have it who are that reason, and no sooner than it could be.
    Reason,
    /// An order's payments are its buyer's, and where its end has them: one succeeded for what was bought, none for what was not.
    Payment,
    /// Money and ticket are on the same side, by the provider's ledger.
    Money,
    /// What payments tells of the money is what the provider's ledger has.
    Ledger,
    /// Each event is told once: its versions follow one another, on one partition, and a repetition is word for word.
    Events,
    /// What a database has, its topic tells, no less and no more.
    Told,
    /// What a database's outbox has is published, and it is kept how far.
    Outbox,
}

/// What a violation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum About {
    /// A ticket.
    Ticket(Uuid),
    /// An order.
    Order(Uuid),
    /// A topic as a whole.
    Topic(&'static str),
    /// A service as a whole.
    Service(&'static str),
}

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule it breaks.
    pub rule: Rule,
    /// What it is about. Rule and this are what it is; the rest may change while it lasts.
    pub about: About,
    /// How, in words.
    pub what: String,
    /// Of something that follows something else and has not come as far: how far each has.
    pub(crate) behind: Option<Behind>,
}

/// How far two have come that should have come equally far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Behind {
    /// The one that has not come as far.
    pub(crate) at: i64,
    /// The other.
    pub(crate) of: i64,
}

impl Violation {
    pub(crate) fn new(rule: Rule, about: About, what: impl Into<String>) -> Self {
        Self { rule, about, what: what.into(), behind: None }
    }

    /// Two versions that are to be equal, and aren't: one lags.
    pub(crate) fn lagging(rule: Rule, about: About, [one, other]: [i64; 2], what: impl Into<String>) -> Self {
        let behind = Some(Behind { at: one.min(other), of: one.max(other) });
        Self { behind, ..Self::new(rule, about, what) }
    }

    /// Whether `later` is the same, seen again. What has come by then to where the other was is not: it follows, and a
    /// ticket that sells all the time is never seen at rest.
    pub(crate) fn is_still(&self, later: &Self) -> bool {
        let caught_up = self.behind.zip(later.behind).is_some_and(|(then, now)| now.at >= then.of);
        (self.rule, self.about) == (later.rule, later.about) && !caught_up
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ticket(id) => write!(f, "ticket {id}"),
            Self::Order(id) => write!(f, "order {id}"),
            Self::Topic(name) => write!(f, "topic {name}"),
            Self::Service(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}: {}", self.rule, self.about, self.what)
    }
}
