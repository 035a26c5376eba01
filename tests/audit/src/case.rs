//! What is known of an order and of a ticket, by everybody who knows something of it: as numbers, for there are millions.
//! In: rows, records, movements. Out: nothing but themselves; what they mean is for the rules.

use std::{
    collections::HashMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    time::SystemTime,
};

use anyhow::{Result, bail};
use uuid::Uuid;

use crate::{Counts, Violation};

/// All that one look has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// How much that was.
    pub counts: Counts,
    /// The first id of interest; of tickets and orders with earlier ones nothing was read.
    pub since: Uuid,
    /// Every ticket that anybody knows of.
    pub tickets: HashMap<Uuid, TicketCase>,
    /// Every order that a database or the ledger knows of.
    pub orders: HashMap<Uuid, OrderCase>,
    /// What the topics tell.
    pub topics: Topics,
    /// Whether the provider's ledger was read.
    pub ledger: bool,
    /// What was wrong already with what was read: a record that is no event, an outbox that isn't published.
    pub violations: Vec<Violation>,
}

/// What everybody knows of a ticket.
#[derive(Clone, Debug, Default)]
pub struct TicketCase {
    /// The ticket itself.
    pub ticket: Option<Ticket>,
    /// Orders' copy of it.
    pub copy: Option<Copied>,
    /// How much its reservations hold.
    pub held: i64,
    /// How much of it they have bought.
    pub sold: i64,
}

/// A ticket, as tickets has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// How many there are.
    pub quantity: i32,
    /// How many are held.
    pub reserved: i32,
    /// How many are sold.
    pub sold: i32,
    /// What others keep of it.
    pub shown: Copied,
}

/// A ticket, as orders keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// What it is for.
    pub title: Print,
    /// What one costs.
    pub currency: Currency,
    /// In its minor unit.
    pub price: i64,
    /// How many can be reserved.
    pub available: i32,
    /// Whether the sale has ended.
    pub withdrawn: bool,
    /// Which of its states this is.
    pub version: i64,
}

/// What everybody knows of an order.
#[derive(Clone, Debug, Default)]
pub struct OrderCase {
    /// The order itself.
    pub order: Option<Order>,
    /// Its stock, by tickets.
    pub reservation: Option<Reservation>,
    /// Payments' copy of it.
    pub account: Option<Shown>,
    /// All attempts to pay it.
    pub payments: Vec<Payment>,
    /// Its timer, by expiration.
    pub timer: Option<Timer>,
    /// What the provider has moved for it.
    pub movements: Vec<Movement>,
}

/// An order, as orders has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// What is ordered.
    pub ticket: Uuid,
    /// How many.
    pub quantity: i32,
    /// What others keep of it.
    pub shown: Shown,
    /// Why it was cancelled, if it was.
    pub reason: Option<Reason>,
    /// When it ends unless it is paid.
    pub expires_at: SystemTime,
    /// Whether that time had passed, by the database's clock.
    pub overdue: bool,
    /// When its status changed last.
    pub updated_at: SystemTime,
}

/// An order, as payments keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The buyer.
    pub user: Print,
    /// What is to be paid in.
    pub currency: Currency,
    /// How much, in its minor unit.
    pub total: i64,
    /// Where it is in its life.
    pub status: OrderStatus,
    /// Which of its states this is.
    pub version: i64,
}

/// An order's stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Of which ticket.
    pub ticket: Uuid,
    /// How many.
    pub quantity: i32,
    /// What became of it.
    pub status: Hold,
}

/// An attempt to pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Its id.
    pub id: Uuid,
    /// Who pays.
    pub user: Print,
    /// What became of it.
    pub status: PaymentStatus,
    /// The provider's id of the charge, once there is one.
    pub reference: Option<Print>,
    /// The account's version when it changed last.
    pub version: i64,
}

/// An order's timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// When it is due.
    pub expires_at: SystemTime,
    /// Where it is in its life.
    pub status: TimerStatus,
}

/// Money that moved at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Movement {
    /// Which way.
    pub kind: Kind,
    /// The provider's id of the charge that it is, or that it gives back.
    pub charge: Print,
    /// For which payment, if it says so.
    pub payment: Option<Uuid>,
    /// In the currency's minor unit.
    pub amount: i64,
    /// Which that is.
    pub currency: Currency,
}

/// Which way money moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To us.
    Charge,
    /// Back.
    Refund,
}

/// What stands for a text that is only ever compared: 64 bits of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Print(pub u64);

impl Print {
    /// Of a text.
    pub fn of(text: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// An ISO 4217 code, in upper case. What is none is of no currency that there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Of a code in either case.
    pub fn of(code: &str) -> Self {
        Self(
            code.as_bytes()
                .try_into()
                .map(|code: [u8; 3]| code.map(|byte| byte.to_ascii_uppercase()))
                .unwrap_or_default(),
        )
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or("of no currency"))
    }
}

/// Statuses as their columns hold them.
macro_rules! status {
    ($(#[$doc:meta])* $name:ident, $column:literal, { $($(#[$of:meta])* $code:literal => $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$of])* $variant,)* }

        impl $name {
            /// By its number in the column.
            ///
            /// # Errors
            ///
            /// It is no number that the column should hold.
            pub fn of(code: i16) -> Result<Self> {
                Ok(match code {
                    $($code => Self::$variant,)*
                    _ => bail!(concat!($column, " is {}, and means nothing"), code),
                })
            }
        }
    };
}

status!(
    /// Where an order is in its life.
    OrderStatus, "orders.status", {
    /// Whether there is stock is not known yet.
    1 => Created,
    /// Stock is held.
    2 => AwaitingPayment,
    /// Paid.
    3 => Completed,
    /// Ended without a sale.
    4 => Cancelled,
});

impl OrderStatus {
    /// Whether it has not ended.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Created | Self::AwaitingPayment)
    }
}

status!(
    /// Why an order was cancelled.
    Reason, "orders.cancel_reason", {
    /// Its buyer did.
    1 => Buyer,
    /// It was not paid in time.
    2 => Expired,
    /// Less was available than was ordered.
    3 => SoldOut,
    /// The price was another by then.
    4 => PriceChanged,
    /// The sale had ended.
    5 => Withdrawn,
    /// Nobody listed such a ticket.
    6 => UnknownTicket,
});

status!(
    /// What became of an order's stock.
    Hold, "reservations.status", {
    /// It is held.
    1 => Held,
    /// It was paid for.
    2 => Sold,
    /// It was held, and can be had again.
    3 => Released,
    /// There was none.
    4 => Refused,
    /// The order ended before it asked.
    5 => Ended,
});

status!(
    /// What became of a payment.
    PaymentStatus, "payments.status", {
    /// A charge has begun.
    1 => Pending,
    /// The money was taken.
    2 => Succeeded,
    /// None was taken.
    3 => Failed,
    /// It is on its way back.
    4 => RefundPending,
    /// It went back.
    5 => Refunded,
});

status!(
    /// Where a timer is in its life.
    TimerStatus, "expirations.status", {
    /// It runs.
    1 => Scheduled,
    /// It fired.
    2 => Expired,
    /// Its order ended first.
    3 => Dropped,
});

/// What the four topics tell.
#[derive(Debug, Default)]
pub struct Topics {
    /// Of tickets, by ticket.
    pub tickets: Topic,
    /// Of orders, by order.
    pub orders: Topic,
    /// Of payments, by order.
    pub payments: Topic,
    /// Of timers that fired, by order.
    pub expiration: Topic,
}

/// What a topic tells.
#[derive(Debug, Default)]
pub struct Topic {
    /// Whether its beginning is gone, so that what it doesn't tell may have been told.
    pub cut: bool,
    /// Of each key, what was told.
    pub tales: HashMap<Uuid, Tale>,
    /// Of each order that was rejected, what stands for the rejections: they are told under a ticket's key, and change no version.
    pub rejections: HashMap<Uuid, Vec<u32>>,
}

/// What was told of one key: versions that follow one another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tale {
    first: i64,
    /// What each event was, from the first on.
    prints: Vec<u32>,
    partition: i32,
}

/// Why an event is not one that could come next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Versions were passed over, or begin late.
    Gap {
        /// The last before.
        after: i64,
        /// What came then.
        came: i64,
    },
    /// It was told before, in other words.
    Reworded {
        /// At which version.
        version: i64,
    },
    /// The key's events were on another partition before.
    Moved,
}

impl Tale {
    /// The newest version that was told; 0 before any was.
    pub fn last(&self) -> i64 {
        match self.is_empty() {
            true => 0,
            false => self.first + i64::try_from(self.prints.len()).unwrap_or(i64::MAX) - 1,
        }
    }

    /// Whether nothing was told.
    pub fn is_empty(&self) -> bool {
        self.prints.is_empty()
    }

    /// The next event: its version, and what stands for all of it. A topic whose beginning is `cut` may begin anywhere.
    ///
    /// # Errors
    ///
    /// It can't come here. Whatever it is, the tale goes on from it.
    pub fn hear(&mut self, version: i64, print: u32, partition: i32, cut: bool) -> Result<(), Fault> {
        if self.is_empty() {
            *self = Self { first: version, prints: vec![print], partition };
            return if version == 1 || cut { Ok(()) } else { Err(Fault::Gap { after: 0, came: version }) };
        }
        if partition != self.partition {
            return Err(Fault::Moved);
        }
        let last = self.last();
        if version == last + 1 {
            self.prints.push(print);
            return Ok(());
        }
        if version > last {
            *self = Self { first: version, prints: vec![print], partition };
            return Err(Fault::Gap { after: last, came: version });
        }
        match usize::try_from(version - self.first).ok().and_then(|place| self.prints.get(place)) {
            Some(told) if *told == print => Ok(()),
            // Told first where the topic is cut.
            None if cut => Ok(()),
            _ => Err(Fault::Reworded { version }),
        }
    }
}
