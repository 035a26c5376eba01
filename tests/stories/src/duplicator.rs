//! Delivers every event twice. In: a world. Out: beside each event of its topics, a copy of it: same key, headers,
//! payload and partition, as a relay leaves it that was cut off before it could note how far it had come. Copies aren't
//! copied.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer},
};
use tokio::task::JoinHandle;

use crate::{
    World,
    history::{self, Event, TIMEOUT},
};

/// The topics that services write.
pub const TOPICS: [&str; 4] = ["tickets", "orders", "payments", "expiration"];

/// Copies every event as it comes, until it is told to stop.
pub struct Duplicator {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<usize>>,
}

impl Duplicator {
    /// Begins, with all that there is already.
    pub fn start(world: &World) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (config, told) = (history::client(world), stop.clone());
        let topics = TOPICS.map(|topic| history::full_name(world, topic));
        let task = tokio::task::spawn_blocking(move || copy(config, &topics, &told));
        Self { stop, task }
    }

    /// Stops, and says how many copies it made.
    ///
    /// # Errors
    ///
    /// It had failed.
    pub async fn stop(mut self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        (&mut self.task).await?
    }
}

impl Drop for Duplicator {
    /// A story that fails must end, too: its runtime waits for this task.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Repeats all that there is by now, once; how many events that were.
///
/// # Errors
///
/// A topic can't be read or written.
pub async fn repeat_all(world: &World) -> Result<usize> {
    let producer = producer(history::client(world))?;
    let mut repeated = 0;
    for topic in TOPICS {
        for event in history::first_appearances(world, topic).await? {
            send(&producer, &history::full_name(world, topic), &event)?;
            repeated += 1;
        }
    }
    tokio::task::spawn_blocking(move || producer.flush(TIMEOUT)).await??;
    Ok(repeated)
}

/// Copies each event once, until it is told to stop.
fn copy(config: ClientConfig, topics: &[String], stop: &AtomicBool) -> Result<usize> {
    let client: BaseConsumer = config.create()?;
    let mut from_the_beginning = TopicPartitionList::new();
    for topic in topics {
        for partition in history::partitions(&client, topic)? {
            from_the_beginning.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
    }
    client.assign(&from_the_beginning)?;
    let producer = producer(config)?;
    let mut copied = HashSet::new();
    while !stop.load(Ordering::Relaxed) {
        let message = match client.poll(Duration::from_millis(50)) {
            None | Some(Err(KafkaError::PartitionEOF(_))) => continue,
            Some(polled) => polled?,
        };
        let event = Event::of(&message)?;
        // A copy isn't copied, or there would be no end.
        if copied.insert(event.header("ce_id")?.to_owned()) {
            send(&producer, message.topic(), &event)?;
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(TIMEOUT)?;
    Ok(copied.len())
}

/// Sends one event, and waits until it is there.
pub(crate) fn send_alone(config: ClientConfig, topic: &str, event: &Event) -> Result<()> {
    let producer = producer(config)?;
    send(&producer, topic, event)?;
    Ok(producer.flush(TIMEOUT)?)
}

fn producer(mut config: ClientConfig) -> Result<BaseProducer> {
    for consumers in ["enable.auto.commit", "enable.partition.eof", "group.id"] {
        config.remove(consumers);
    }
    Ok(config.set("enable.idempotence", "true").create()?)
}

fn send(producer: &BaseProducer, topic: &str, event: &Event) -> Result<()> {
    let mut headers = OwnedHeaders::new_with_capacity(event.headers.len());
    for (key, value) in &event.headers {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    let record = BaseRecord::to(topic).partition(event.partition).key(&event.key).payload(&event.payload);
    producer.send(record.headers(headers)).map_err(|(error, _)| error.into())
}
