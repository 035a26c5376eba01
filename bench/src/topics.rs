//! Topics, as any client of Kafka has them: made, removed, counted. In: brokers and names. Out: what they hold. It consumes
//! nothing.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::RDKafkaErrorCode,
};

/// How long a broker may take to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A reader that joins no group and tells nobody how far it is.
pub(crate) fn reader(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    // Named by every client that assigns, used by none.
    config.set("bootstrap.servers", brokers).set("group.id", "bench").set("enable.auto.commit", "false");
    config
}

/// A writer whose every record is acknowledged by all, and that waits for no company.
pub(crate) fn writer(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("acks", "all").set("enable.idempotence", "true").set("linger.ms", "0");
    config
}

/// A topic's partitions, each with the offsets of its first record and of the next to come.
///
/// # Errors
///
/// There is no such topic, or nobody answers.
pub(crate) fn extents(client: &BaseConsumer, topic: &str) -> Result<Vec<(i32, i64, i64)>> {
    let metadata = client.fetch_metadata(Some(topic), TIMEOUT)?;
    let found = metadata.topics().first().with_context(|| format!("no topic {topic}"))?;
    let extents = found.partitions().iter().map(|partition| {
        let (first, next) = client.fetch_watermarks(topic, partition.id(), TIMEOUT)?;
        Ok((partition.id(), first, next))
    });
    extents.collect()
}

/// How many records a topic holds.
///
/// # Errors
///
/// As above.
pub(crate) fn held(client: &BaseConsumer, topic: &str) -> Result<i64> {
    Ok(extents(client, topic)?.into_iter().map(|(_, first, next)| next - first).sum())
}

/// All of a topic, or what comes to it from now on.
///
/// # Errors
///
/// As above.
pub(crate) fn from(client: &BaseConsumer, topic: &str, beginning: bool) -> Result<TopicPartitionList> {
    let mut places = TopicPartitionList::new();
    for (partition, first, next) in extents(client, topic)? {
        places.add_partition_offset(topic, partition, Offset::Offset(if beginning { first } else { next }))?;
    }
    Ok(places)
}

/// Makes a topic, unless it is there.
///
/// # Errors
///
/// The brokers refuse.
pub(crate) async fn make(brokers: &str, topic: &str, partitions: i32) -> Result<()> {
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for made in admin(brokers)?.create_topics([&new], &AdminOptions::new()).await? {
        match made {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, error)) => return Err(anyhow!("making {topic}: {error}")),
        }
    }
    Ok(())
}

/// Removes topics; those that aren't there are gone already.
///
/// # Errors
///
/// The brokers refuse.
pub(crate) async fn remove(brokers: &str, topics: &[&str]) -> Result<()> {
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
    for removed in admin(brokers)?.delete_topics(topics, &options).await? {
        match removed {
            Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
            Err((topic, error)) => return Err(anyhow!("removing {topic}: {error}")),
        }
    }
    Ok(())
}

fn admin(brokers: &str) -> Result<AdminClient<DefaultClientContext>> {
    Ok(ClientConfig::new().set("bootstrap.servers", brokers).create()?)
}
