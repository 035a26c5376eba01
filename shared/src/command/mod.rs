//! The write path: every change of state, wherever it comes from, goes through here.
//!
//! Commands come in: from callers and jobs through a [`Lane`], from Kafka and timers through a `Writer` of their own.
//! They leave in batches, a transaction each:
//!
//! ```text
//! begin → move the writer's row → move offsets → claim request ids → lock roots, load what hangs under them
//!       → decide and apply, one by one, in memory
//!       → save, a statement per table → append events to the outbox → commit → answer
//! ```
//!
//! Two round trips: one up to the decision, one from there to the commit. This is the only place that opens a
//! transaction on a service's state, and within one nothing is awaited but Postgres.

mod batch;
mod claims;
mod context;
mod envelope;
mod housekeeping;
mod lane;
mod metrics;
mod progress;
mod rows;
mod service;
mod transaction;
mod unit;
mod writer;

pub(crate) use batch::Outgoing;
pub use claims::Claim;
pub use context::WriteContext;
pub use envelope::Envelope;
pub(crate) use housekeeping::keep_house;
pub use lane::{Done, Failure, Lane, LaneConfig, LaneKind, lane};
pub use metrics::CommandMetrics;
pub use rows::{Rows, in_lock_order};
pub use service::{Domain, Message, Milestone, Milestones, Publish, Refusal, Service, Store, WorkingSet};
pub(crate) use transaction::{Move, Work};
pub(crate) use unit::{At, Unit, UnitOutcome};
pub(crate) use writer::{Looked, Patience, Writer};
