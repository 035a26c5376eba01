//! Reading a topic from its end on, without a group, as long as anybody watches.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::BorrowedMessage,
};
use tokio_util::sync::CancellationToken;

use super::{Feed, Read};
use crate::{
    backoff::Backoff,
    inbox::Delivery,
    kafka::{Asking, KafkaConfig, topic_in, trace_of},
};

/// The task that keeps a feed told.
pub(crate) struct Tail<T> {
    kafka: KafkaConfig,
    topic: &'static str,
    read: Read<T>,
    feed: Feed<T>,
}

/// What metrics call its client.
const CLIENT: &str = "feed";
/// How long a call to a broker may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a poll waits for a message.
const POLL: Duration = Duration::from_millis(100);
/// How long it is read on when nobody watches any more: the next one may come soon.
const LINGER: Duration = Duration::from_secs(30);

impl<T: Clone + Send + Sync + 'static> Tail<T> {
    pub(crate) fn new(kafka: KafkaConfig, topic: &'static str, read: Read<T>, feed: Feed<T>) -> Self {
        // So that its metrics read 0 before anybody has watched.
        drop(kafka.metrics.client(CLIENT));
        Self { kafka, topic, read, feed }
    }

    /// Reads whenever anybody watches, until it is told to stop.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let tail = Arc::new(self);
        let mut backoff = Backoff::new();
        while stop.run_until_cancelled(tail.feed.watched()).await.is_some() {
            let begun = Instant::now();
            let (reading, stopped) = (tail.clone(), stop.clone());
            let ended = tokio::task::spawn_blocking(move || reading.read_on(&stopped)).await;
            match ended {
                Ok(Ok(())) => backoff = Backoff::new(),
                Ok(Err(error)) => {
                    tracing::warn!(topic = tail.topic, %error, "watches are told nothing: reading anew from the end on");
                    if begun.elapsed() > LINGER {
                        backoff = Backoff::new();
                    }
                    backoff.wait(&stop).await;
                }
                Err(panic) => {
                    tracing::error!(topic = tail.topic, %panic, "reading for watches panicked");
                    backoff.wait(&stop).await;
                }
            }
        }
    }

    /// Reads from the topic's present end on until nobody watches, or it can't. Blocks its thread.
    fn read_on(&self, stop: &CancellationToken) -> KafkaResult<()> {
        let topic = self.kafka.topic(self.topic);
        let client: BaseConsumer<Asking> = self
            .kafka
            .client()
            // A name that the library asks for: partitions are assigned by hand and nothing is committed, so that there is
            // no group of it.
            .set("group.id", self.kafka.group("feed"))
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("allow.auto.create.topics", "false")
            .set("queued.max.messages.kbytes", "4096")
            // What goes wrong is told by whoever is given the error.
            .create_with_context(Asking::shown(self.kafka.metrics.client(CLIENT)))?;
        client.assign(&ends(&client, &topic)?)?;
        // From here on nothing is missed; what changed before that, those who read their state earlier may have been.
        self.feed.missed();
        let mut watched = Instant::now();
        while !stop.is_cancelled() && watched.elapsed() < LINGER {
            match client.poll(POLL) {
                Some(Ok(message)) => self.pass(&message),
                // The topic was cut or made anew: where it is read from now is anybody's guess.
                Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => {
                    return Err(error);
                }
                // A broker out of reach: it is read on from the same place when it is back.
                Some(Err(error)) => tracing::debug!(topic = self.topic, %error, "reading for watches"),
                None => {}
            }
            if self.feed.is_watched() {
                watched = Instant::now();
            }
        }
        Ok(())
    }

    fn pass(&self, message: &BorrowedMessage<'_>) {
        let key = message.key().unwrap_or_default();
        let Ok(text) = std::str::from_utf8(key) else { return };
        if !self.feed.wants(text) {
            return;
        }
        let trace = trace_of(message.headers());
        let delivery = Delivery { key, payload: message.payload().unwrap_or_default(), trace: &trace };
        match catch_unwind(AssertUnwindSafe(|| (self.read)(&delivery))) {
            Ok(Ok(Some((version, state)))) => self.feed.tell(text, version, state),
            Ok(Ok(None)) => {}
            // The state is read from the database instead.
            Ok(Err(why)) => {
                tracing::warn!(topic = self.topic, key = text, %why, "a watched message can't be read");
                self.feed.missed();
            }
            Err(_) => {
                tracing::error!(topic = self.topic, key = text, "reading a watched message panicked");
                self.feed.missed();
            }
        }
    }
}

/// Every partition of the topic, at its end.
fn ends(client: &BaseConsumer<Asking>, topic: &str) -> KafkaResult<TopicPartitionList> {
    let metadata = client.fetch_metadata(Some(topic), TIMEOUT)?;
    let missing = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
    let mut ends = TopicPartitionList::new();
    for partition in topic_in(&metadata, topic).ok_or(missing)?.partitions() {
        let (_, end) = client.fetch_watermarks(topic, partition.id(), TIMEOUT)?;
        ends.add_partition_offset(topic, partition.id(), Offset::Offset(end))?;
    }
    Ok(ends)
}
