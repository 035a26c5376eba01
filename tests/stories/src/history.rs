//! What a topic holds, as any client of Kafka reads it. In: a world and a topic. Out: all its records, partition by
//! partition, and what in them is not as the contract has it. It never joins a group.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use prost::Message;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::{BorrowedMessage, Headers},
};

use crate::World;

/// How long a call to a broker may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// One record, as it lies in its topic.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its partition.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
    /// When the broker took it, in ms since 1970.
    pub appended_at: i64,
    /// Its key.
    pub key: String,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// Its value.
    pub payload: Vec<u8>,
}

impl Event {
    /// A header that the contract promises.
    ///
    /// # Errors
    ///
    /// It isn't there.
    pub fn header(&self, name: &str) -> Result<&str> {
        self.headers.get(name).map(String::as_str).with_context(|| format!("no header {name}: {self:?}"))
    }

    /// Its value, decoded.
    ///
    /// # Errors
    ///
    /// It isn't such a message.
    pub fn message<M: Message + Default>(&self) -> Result<M> {
        Ok(M::decode(self.payload.as_slice())?)
    }

    pub(crate) fn of(message: &BorrowedMessage<'_>) -> Result<Self> {
        let headers = message.headers().context("a record without headers")?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec());
        let headers = headers.iter().map(|header| Ok((header.key.to_owned(), text(header.value.unwrap_or_default())?)));
        Ok(Self {
            partition: message.partition(),
            offset: message.offset(),
            appended_at: message.timestamp().to_millis().unwrap_or_default(),
            key: text(message.key().context("a record without a key")?)?,
            headers: headers.collect::<Result<_>>()?,
            payload: message.payload().unwrap_or_default().to_vec(),
        })
    }
}

/// All that a topic holds at the moment.
///
/// # Errors
///
/// It can't be read, or a record isn't even an event.
pub async fn read(world: &World, topic: &str) -> Result<Vec<Event>> {
    let (config, topic) = (client(world), full_name(world, topic));
    tokio::task::spawn_blocking(move || read_all(&config, &topic)).await?
}

/// What a topic holds, each event where it first appears.
///
/// # Errors
///
/// It can't be read, or an event was repeated otherwise than word for word.
pub async fn first_appearances(world: &World, topic: &str) -> Result<Vec<Event>> {
    let mut seen: HashMap<String, Event> = HashMap::new();
    let mut fresh = Vec::new();
    for event in read(world, topic).await? {
        let id = event.header("ce_id")?.to_owned();
        let Some(first) = seen.get(&id) else {
            fresh.push(event.clone());
            seen.insert(id, event);
            continue;
        };
        let same = |event: &Event| (event.partition, event.key.clone(), event.headers.clone(), event.payload.clone());
        ensure!(same(first) == same(&event), "{event:?} repeats {first:?} in other words");
    }
    Ok(fresh)
}

/// The name that a world's topic has on the broker.
pub(crate) fn full_name(world: &World, topic: &str) -> String {
    format!("{}{topic}", world.stack().topic_prefix())
}

/// A client of the world's broker.
pub fn client(world: &World) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &world.stack().shared_servers().kafka_brokers)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        // Named by every client that assigns, used by none.
        .set("group.id", "readers-of-stories");
    config
}

/// The numbers of a topic's partitions.
pub(crate) fn partitions(client: &BaseConsumer, topic: &str) -> Result<Vec<i32>> {
    let metadata = client.fetch_metadata(Some(topic), TIMEOUT)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic).context("no such topic")?;
    Ok(found.partitions().iter().map(|partition| partition.id()).collect())
}

fn read_all(config: &ClientConfig, topic: &str) -> Result<Vec<Event>> {
    let client: BaseConsumer = config.create()?;
    let mut from_the_beginning = TopicPartitionList::new();
    let mut left = HashMap::new();
    for partition in partitions(&client, topic)? {
        let (low, high) = client.fetch_watermarks(topic, partition, TIMEOUT)?;
        if low < high {
            from_the_beginning.add_partition_offset(topic, partition, Offset::Beginning)?;
            left.insert(partition, high);
        }
    }
    client.assign(&from_the_beginning)?;
    let mut events = Vec::new();
    while !left.is_empty() {
        let Some(polled) = client.poll(TIMEOUT) else { anyhow::bail!("{topic}: nothing within {TIMEOUT:?}") };
        let message = match polled {
            Ok(message) => message,
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let (partition, next) = (message.partition(), message.offset() + 1);
        if left.get(&partition).is_some_and(|high| next <= *high) {
            events.push(Event::of(&message)?);
        }
        if left.get(&partition).is_some_and(|high| next >= *high) {
            left.remove(&partition);
        }
    }
    events.sort_by_key(|event| (event.partition, event.offset));
    Ok(events)
}
