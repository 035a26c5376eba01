//! From the database to Kafka: events are appended in the transaction that caused them, and a relay publishes them on
//! its own time, each key's in the order of its versions, and none lost.
//!
//! Comes in: what the write path appends. Goes out: messages on the service's topic. Never decides anything, and never
//! touches a service's tables.

mod append;
mod cursor;
mod difference;
mod lag;
mod lease;
mod metrics;
mod partitions;
mod relay;

pub(crate) use append::append;
pub(crate) use lag::OutboxLag;
pub use metrics::OutboxMetrics;
pub use partitions::{ensure_partitions, keep_partitions};
pub use relay::{Relay, RelayConfig};
