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

use anyhow::{Result, ensure};
use local::wait;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer},
};
use tokio::task::JoinHandle;

use crate::{
    SOON, World,
    history::{self, Event, TIMEOUT},
};

/// The topics that services write.
pub const TOPICS: [&str; 4] = ["tickets", "orders", "payments", "expiration"];

/// The groups, and what each reads.
const GROUPS: [(&str, &str); 6] = [
    ("tickets-orders", "orders"),
    ("payments-orders", "orders"),
    ("expiration-orders", "orders"),
    ("orders-tickets", "tickets"),
    ("orders-payments", "payments"),
    ("orders-expiration", "expiration"),
];

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
    pub async fn stop(self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
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

/// Waits until every group has read all that its topic holds, as any tool that watches lag sees it.
///
/// # Errors
///
/// One hasn't in time.
pub async fn awaits_caught_up(world: &World) -> Result<()> {
    let (config, prefix) = (history::client(world), world.stack().topic_prefix());
    for (group, topic) in GROUPS {
        let (mut config, group, topic) = (config.clone(), format!("{prefix}{group}"), format!("{prefix}{topic}"));
        config.set("group.id", &group);
        wait::until(&format!("group {group} to have read all of {topic}"), SOON, || {
            let (config, topic) = (config.clone(), topic.clone());
            async move { tokio::task::spawn_blocking(move || no_lag(&config, &topic)).await? }
        })
        .await?;
    }
    Ok(())
}

fn no_lag(config: &ClientConfig, topic: &str) -> Result<()> {
    let client: BaseConsumer = config.create()?;
    let mut list = TopicPartitionList::new();
    for partition in history::partitions(&client, topic)? {
        list.add_partition(topic, partition);
    }
    for committed in client.committed_offsets(list, TIMEOUT)?.elements() {
        let (low, high) = client.fetch_watermarks(topic, committed.partition(), TIMEOUT)?;
        let read = committed.offset() == Offset::Offset(high) || low == high;
        ensure!(read, "partition {}: {:?} of {high}", committed.partition(), committed.offset());
    }
    Ok(())
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
