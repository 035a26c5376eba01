//! Looks a whole system over, without changing it: do all that hold a piece of the truth hold the same one? In: where the
//! four databases, the topics and the payment provider's ledger are. Out: every violation, and how much was looked at.
//!
//! - [`look`] is one look. The sources are read one after the other, so what a running system does meanwhile shows as
//!   violations, too;
//! - [`audit`] looks again until those have gone, and reports what stays;
//! - [`Rule`] is the list of what must hold; [`rules`] has each as a pure function, [`case`] what they are about.
//!
//! It reads in transactions that are READ ONLY, joins no consumer group, and asks the provider for its ledger alone. Much
//! fits in: what is known of an order is kept in one place, as numbers, and nothing is asked for one order at a time.

pub mod case;
mod patience;
mod read;
pub mod rules;
mod violation;

use std::{fmt, time::Duration};

use anyhow::{Context, Result};
use local::stack::Addresses;
use uuid::Uuid;

pub use violation::{About, Rule, Violation};

/// How far two machines' clocks may be apart: a service's, which ids and times are made by, from another's or the broker's.
const CLOCKS_APART: Duration = Duration::from_secs(60);

/// How long a violation has to last unless another time is given: longer than any work takes whose services are well.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Where a system's truths are.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The services' databases.
    pub databases: Databases,
    /// The broker, as clients get it.
    pub kafka_brokers: String,
    /// What stands before the topics' names.
    pub topic_prefix: String,
    /// The sandbox's base URL. Without it (with Stripe itself) the money is looked at as payments has it.
    pub ledger: Option<String>,
    /// Only tickets and orders with this id or a later one are looked at: ids are ordered by time, and what is older may
    /// have been much.
    pub since: Option<Uuid>,
}

/// The URLs of the services' databases: `postgres://orders@127.0.0.1:5433/orders`.
#[derive(Clone, Debug)]
pub struct Databases {
    /// Of tickets.
    pub tickets: String,
    /// Of orders.
    pub orders: String,
    /// Of payments.
    pub payments: String,
    /// Of expiration.
    pub expiration: String,
}

impl Sources {
    /// Those of `make run` on this machine, its ports moved by so many.
    ///
    /// # Errors
    ///
    /// There are no such ports.
    pub fn of_make_run(port_offset: u16) -> Result<Self> {
        let addresses = Addresses::of_make_run(port_offset)?;
        let database = |service| addresses.database_url(service);
        Ok(Self {
            databases: Databases {
                tickets: database("tickets")?,
                orders: database("orders")?,
                payments: database("payments")?,
                expiration: database("expiration")?,
            },
            kafka_brokers: addresses.kafka_brokers,
            topic_prefix: String::new(),
            ledger: Some(addresses.sandbox_url),
            since: None,
        })
    }
}

/// What was looked at, and what of it is not as it must be.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How much was looked at, the last time.
    pub counts: Counts,
    /// How often all of it was looked at.
    pub looks: usize,
    /// What is not as it must be, in order.
    pub violations: Vec<Violation>,
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tickets.
    pub tickets: u64,
    /// Orders that wait for stock.
    pub created: u64,
    /// Orders that wait to be paid.
    pub awaiting_payment: u64,
    /// Orders that were paid.
    pub completed: u64,
    /// Orders that ended without a sale.
    pub cancelled: u64,
    /// Payments, whatever became of them.
    pub payments: u64,
    /// Movements in the provider's ledger.
    pub movements: u64,
    /// Records of the topics, repeated ones too.
    pub events: u64,
}

impl Counts {
    /// Orders in all.
    pub fn orders(&self) -> u64 {
        self.created + self.awaiting_payment + self.completed + self.cancelled
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tickets, created, awaiting_payment, completed, cancelled, payments, movements, events } = self;
        write!(
            f,
            "{tickets} tickets; {} orders: {created} created, {awaiting_payment} awaiting payment, {completed} completed, \
             {cancelled} cancelled; {payments} payments, {movements} movements of money, {events} events",
            self.orders()
        )
    }
}

/// One look: everything that is not as it must be, or was under way.
///
/// # Errors
///
/// A source can't be read.
pub async fn look(sources: &Sources) -> Result<Report> {
    let seen = read::everything(sources).await.context("looking")?;
    Ok(Report { counts: seen.counts, looks: 1, violations: rules::all(&seen) })
}

/// Looks again until nothing is wrong, or the same has been wrong for as long as `patience`. What goes away between two
/// looks was work under way.
///
/// # Errors
///
/// A source can't be read.
pub async fn audit(sources: &Sources, patience: Duration) -> Result<Report> {
    patience::outlasting(patience, || look(sources)).await
}
