//! A service's own topic.

use std::time::{Duration, Instant};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    metadata::{Metadata, MetadataTopic},
};
use tokio_util::sync::CancellationToken;

use super::{KafkaConfig, complaints::Asking};
use crate::backoff::Backoff;

/// How a topic is made.
#[derive(Clone, Copy, Debug)]
pub struct TopicConfig {
    /// At least 1.
    pub partitions: i32,
    /// At least 1, and at most as many as there are brokers.
    pub replication: i32,
}

/// Why a topic isn't there.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// The brokers can't be reached, or said no.
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// It could not be made.
    #[error("the topic {0} can't be made: {1}")]
    Refused(String, RDKafkaErrorCode),
}

const TIMEOUT: Duration = Duration::from_secs(5);

/// Makes a topic if it is missing, and says how many partitions it has.
///
/// # Errors
///
/// No broker answered within 5 s, or the topic can't be made.
pub async fn ensure_topic(kafka: &KafkaConfig, name: &str, config: TopicConfig) -> Result<i32, TopicError> {
    let topic = kafka.topic(name);
    if let Some(partitions) = partition_count(kafka, &topic).await? {
        return Ok(partitions);
    }
    let admin: AdminClient<Asking> = kafka.client().create_with_context(Asking::default())?;
    // Of three or more, one broker may be away and nothing stops; whatever was acknowledged is on more than one.
    let in_sync = (config.replication - 1).max(1).to_string();
    let new = NewTopic::new(&topic, config.partitions, TopicReplication::Fixed(config.replication))
        .set("min.insync.replicas", &in_sync)
        // The topics are the system's memory: nothing is ever dropped from them.
        .set("cleanup.policy", "delete")
        .set("retention.ms", "-1")
        .set("retention.bytes", "-1")
        .set("message.timestamp.type", "LogAppendTime");
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
    let made = admin.create_topics([&new], &options).await;
    // Dropping it joins its threads, which would block the runtime's.
    tokio::task::spawn_blocking(move || drop(admin));
    for made in made? {
        match made {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(TopicError::Refused(topic, code)),
        }
    }
    // Another replica may have been first, with other settings: what is there counts. The broker that answers may hear
    // of it a moment later than the one that made it.
    let (mut backoff, made) = (Backoff::new(), Instant::now());
    while made.elapsed() < TIMEOUT {
        if let Some(partitions) = partition_count(kafka, &topic).await? {
            return Ok(partitions);
        }
        backoff.wait(&CancellationToken::new()).await;
    }
    Err(TopicError::Refused(topic, RDKafkaErrorCode::UnknownTopicOrPartition))
}

/// How many partitions a topic has; `None` if it isn't there (yet).
///
/// # Errors
///
/// No broker answered within 5 s.
pub async fn partition_count(kafka: &KafkaConfig, topic: &str) -> Result<Option<i32>, TopicError> {
    let client: BaseConsumer<Asking> = kafka.client().create_with_context(Asking::default())?;
    let topic = topic.to_owned();
    let count = tokio::task::spawn_blocking(move || {
        let metadata = client.fetch_metadata(Some(&topic), TIMEOUT)?;
        Ok::<_, KafkaError>(
            topic_in(&metadata, &topic).map(|found| found.partitions().len()).filter(|count| *count > 0),
        )
    });
    let count = count.await.map_err(|_| KafkaError::Canceled)??;
    Ok(count.and_then(|count| i32::try_from(count).ok()))
}

/// A topic, if these metadata say that it is there.
pub(crate) fn topic_in<'m>(metadata: &'m Metadata, name: &str) -> Option<&'m MetadataTopic> {
    metadata.topics().iter().find(|topic| topic.name() == name && topic.error().is_none())
}
