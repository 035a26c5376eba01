//! Kafka as the engine uses it: settings, topics, placing keys, headers, and a producer that awaits whole batches.
//!
//! The outbox and the inbox stand on it; services never see it.

mod client;
mod cloud_event;
mod complaints;
mod murmur2;
mod producer;
mod statistics;
mod topic;

pub use client::{Brokers, KafkaConfig};
pub use cloud_event::CloudEvent;
pub(crate) use cloud_event::trace_of;
pub(crate) use complaints::{Asking, Complaints};
pub use murmur2::partition_of;
pub(crate) use producer::{BatchProducer, PRODUCER, Record, SendError};
pub(crate) use statistics::ClientStatistics;
pub use statistics::KafkaMetrics;
pub(crate) use topic::topic_in;
pub use topic::{TopicConfig, TopicError, ensure_topic, partition_count};
