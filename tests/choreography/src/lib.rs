//! The whole choreography in memory: the services' own `react`, `decide`, `apply` and `publish`, with maps for
//! databases and lists for topics. No I/O, no clock: whoever drives it says what happens next.
//!
//! Messages are delivered in any order, even within a key, and any number of times: that is more than Kafka does to
//! them, and the services must bear it.

mod node;
mod provider;
mod system;

pub use provider::{DECLINED, Money};
pub use system::{Group, System};
