//! From Kafka to the database: a consumer per group and topic, whose offsets move in the same transaction as the
//! effects, so that each message has its effects once, however often it is delivered.
//!
//! Comes in: a topic's messages. Goes out: commands, through the write path. Decides nothing; reads no payload: a
//! service's `react` does.

mod ahead;
mod consumer;
mod lag;
mod metrics;
mod offsets;
mod poller;
mod positions;

pub use consumer::{Consumer, ConsumerConfig};
pub(crate) use lag::lag;
pub use metrics::InboxMetrics;
pub(crate) use positions::Positions;

/// What a service reads, and what it makes of it.
pub struct Subscription<C> {
    /// The consumer group, without the installation's prefix.
    pub group: &'static str,
    /// The topic, without the installation's prefix.
    pub topic: &'static str,
    /// Turns a message into commands: none, if it means nothing to this service. Pure.
    pub react: fn(&Delivery<'_>) -> Result<Vec<C>, Undecodable>,
}

// A derive would ask the same of `C`.
impl<C> Clone for Subscription<C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for Subscription<C> {}

/// A message, as far as a service may see it.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The id of what it is about.
    pub key: &'a [u8],
    /// The encoded event.
    pub payload: &'a [u8],
    /// The span in which it is handled.
    pub trace: &'a crate::telemetry::TraceContext,
}

/// Why a message can't be understood.
#[derive(Debug, thiserror::Error)]
pub enum Undecodable {
    /// Its payload is no message of the topic's type.
    #[error("not a message of this topic: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// It breaks the contract.
    #[error("{0}")]
    Contract(String),
}
