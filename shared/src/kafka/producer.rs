//! A producer whose deliveries are awaited by batch: one by one, each message costs a round trip of its own, and
//! librdkafka has nothing to put together.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientContext, Message,
    config::RDKafkaLogLevel,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::{DeliveryResult, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig},
};
use tokio::{runtime::Handle, sync::Notify};

use super::{ClientStatistics, Complaints, KafkaConfig};

/// What logs and metrics call it.
pub(crate) const PRODUCER: &str = "producer";

/// How long one poll of the client lasts. At its end rdkafka spins for what is left of a millisecond: with the tenth of a second
/// that its own `ThreadedProducer` polls for, a hundredth of a core, always. The client's end waits for the end of a poll.
const POLLED_FOR: Duration = Duration::from_millis(500);

/// A message to be sent.
pub(crate) struct Record<'a> {
    pub(crate) partition: i32,
    pub(crate) key: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) headers: OwnedHeaders,
}

/// Sends to one topic: idempotent, acknowledged by all replicas, without a timeout that gives up.
pub(crate) struct BatchProducer {
    producer: Arc<BaseProducer<Context>>,
    topic: String,
    /// Has threads for what blocks.
    runtime: Handle,
}

/// The deliveries that a batch still waits for.
#[derive(Default)]
struct Latch {
    outstanding: AtomicUsize,
    failed: AtomicBool,
    settled: Notify,
}

impl Latch {
    fn arrived(&self, result: &DeliveryResult<'_>) {
        if let Err((error, message)) = result
            // The first of a batch speaks for all: what is purged is a whole queue.
            && !self.failed.swap(true, Ordering::AcqRel)
        {
            // Purged on purpose, or refused for good: either way the outbox still has it.
            tracing::warn!(%error, topic = message.topic(), "an event was not delivered");
        }
        if self.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.settled.notify_one();
        }
    }
}

struct Context {
    complaints: Complaints,
    statistics: ClientStatistics,
    acknowledged: AtomicU64,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.complaints.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.complaints.error(&error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.statistics.record(statistics);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Arc<Latch>;

    fn delivery(&self, result: &DeliveryResult<'_>, latch: Arc<Latch>) {
        if result.is_ok() {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        latch.arrived(result);
    }
}

/// Why a batch is not known to be delivered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
    #[error("some of a batch was not delivered")]
    Undelivered,
}

impl BatchProducer {
    /// `most` is how many messages may be under way at once. Must be called on a thread of the runtime.
    pub(crate) fn new(kafka: &KafkaConfig, topic: &str, most: usize) -> KafkaResult<Self> {
        let context = Context {
            complaints: Complaints::of(PRODUCER),
            statistics: kafka.metrics.client(PRODUCER),
            acknowledged: AtomicU64::new(0),
        };
        let producer: BaseProducer<Context> = kafka
            .client()
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // Or what is behind a message that failed for good would overtake it.
            .set("enable.gapless.guarantee", "true")
            .set("message.timeout.ms", "0")
            .set("retries", "2147483647")
            // Long enough for the relay to hand over the whole of a batch. Without it the first part would leave alone, and what is
            // left while idempotence lets no more requests out, librdkafka waits for without a pause: thousands of polls for each
            // round trip to the broker.
            .set("linger.ms", "1")
            .set("batch.num.messages", "10000")
            .set("batch.size", "1000000")
            // Other systems' clients read these topics too, and not every one brings LZ4 or zstd (kafka-python doesn't).
            .set("compression.type", "none")
            .set("queue.buffering.max.messages", most.max(1).to_string())
            .set("queue.buffering.max.kbytes", "1048576")
            .create_with_context(context)?;
        let producer = Arc::new(producer);
        let (polled, runtime) = (producer.clone(), Handle::current());
        runtime.spawn_blocking(move || {
            // The last that holds it ends the client, which joins its threads.
            while Arc::strong_count(&polled) > 1 {
                polled.poll(POLLED_FOR);
            }
        });
        Ok(Self { producer, topic: topic.to_owned(), runtime })
    }

    /// Sends all and awaits the broker's word on each. Messages of a partition arrive in their order.
    ///
    /// # Errors
    ///
    /// Some may not have been delivered: the producer is of no more use, for what is sent next might overtake them.
    pub(crate) async fn send<'a>(&self, records: impl IntoIterator<Item = Record<'a>>) -> Result<(), SendError> {
        // One more than there are, so that it can't settle before all have been handed over.
        let latch = Arc::new(Latch { outstanding: AtomicUsize::new(1), ..Latch::default() });
        let mut refused = None;
        for record in records {
            latch.outstanding.fetch_add(1, Ordering::AcqRel);
            let message = BaseRecord::with_opaque_to(&self.topic, latch.clone())
                .partition(record.partition)
                .key(record.key)
                .payload(record.payload)
                .headers(record.headers);
            if let Err((error, _)) = self.producer.send(message) {
                latch.outstanding.fetch_sub(1, Ordering::AcqRel);
                refused = Some(error);
                break;
            }
        }
        if latch.outstanding.fetch_sub(1, Ordering::AcqRel) != 1 {
            latch.settled.notified().await;
        }
        match refused {
            Some(error) => Err(error.into()),
            None if latch.failed.load(Ordering::Acquire) => Err(SendError::Undelivered),
            None => Ok(()),
        }
    }

    /// To be called every now and then: tells when Kafka is well again.
    pub(crate) fn watch(&self) {
        self.producer.context().complaints.watch();
    }

    /// How many messages the broker has acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.producer.context().acknowledged.load(Ordering::Relaxed)
    }

    /// The error after which librdkafka sends nothing more, if there was one.
    pub(crate) fn fatal(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.producer.client().fatal_error()
    }
}

impl Drop for BatchProducer {
    fn drop(&mut self) {
        // What is still under way may or may not arrive; whoever drops the producer reads it again from the outbox. Purging waits
        // for each of librdkafka's threads, and one of those may be waiting for a name server.
        let producer = self.producer.clone();
        self.runtime.spawn_blocking(move || producer.purge(PurgeConfig::default().queue().inflight()));
    }
}
