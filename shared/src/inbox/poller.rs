//! The thread that talks to librdkafka: takes assignments at the database's offsets, and turns messages into units.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use prometheus_client::metrics::counter::Counter;
use rdkafka::{
    ClientContext, Message, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::BorrowedMessage,
    types::RDKafkaRespErr,
};
use tokio::{runtime::Handle, sync::mpsc};
use tokio_util::sync::CancellationToken;

use super::{ConsumerConfig, Delivery, Subscription, offsets};
use crate::{
    backoff::Backoff,
    clock::{self, Timestamp},
    command::{At, Envelope, Unit},
    db::Database,
    kafka::{ClientStatistics, Complaints, KafkaConfig, trace_of},
    telemetry::{Record, Span, Spell},
};

/// What the poller tells the consumer, in the order in which it happened.
pub(super) enum Polled<C> {
    /// Partitions are ours from these offsets on.
    Assigned(Vec<Assignment>),
    /// Partitions are no longer ours.
    Revoked(Vec<i32>),
    /// Messages, in their partitions' order.
    Messages(Vec<Decoded<C>>),
    /// Some partition doesn't hold what was to be read next. librdkafka doesn't say which, and has given it up.
    Lost,
}

/// A partition that became ours.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    pub(super) partition: i32,
    pub(super) next: i64,
    /// Why it can't be read on from there, if it can't.
    pub(super) stopped: Option<String>,
}

/// A message, and what it says. Nothing has come of it yet.
pub(super) struct Decoded<C> {
    /// The commands it leads to; or why it can't be understood.
    pub(super) unit: Result<Unit<C>, (At, String)>,
    /// Open until its effects are committed.
    pub(super) span: Span,
}

impl<C> Decoded<C> {
    pub(super) fn at(&self) -> Option<At> {
        match &self.unit {
            Ok(unit) => unit.at,
            Err((at, _)) => Some(*at),
        }
    }
}

pub(super) type Client<C> = BaseConsumer<Rebalancer<C>>;

/// Called back by librdkafka, within `poll`.
pub(super) struct Rebalancer<C> {
    group: &'static str,
    topic: &'static str,
    /// The topic's name on the brokers.
    full_topic: String,
    database: Database,
    runtime: Handle,
    told: mpsc::Sender<Polled<C>>,
    /// Partitions assigned since the poller last asked.
    fresh: Mutex<Vec<i32>>,
    stop: CancellationToken,
    complaints: Complaints,
    statistics: ClientStatistics,
    /// The topic isn't there.
    missing: Spell,
}

/// How long a call to a broker may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Messages handed over at once.
pub(super) const GATHERED: usize = 256;
/// How long a fetch may wait at the broker where every message is wanted at once: what librdkafka asks for by itself.
const LONG_POLL: Duration = Duration::from_millis(500);
/// From this pace on a group gains nothing by being told of every message at once.
const LEISURELY: Duration = Duration::from_millis(10);
/// Bytes for which such a group's fetch doesn't wait its time out.
const PLENTY: usize = 256 * 1024;
/// Bytes of one partition that a fetch brings at most. The next fetch begins [`FETCH_PACE`] after all of this one is polled: with
/// librdkafka's own 1 MiB the poller would wait for a backlog's messages as long as it takes to turn them into units.
const FETCH_BYTES: usize = 4 * 1024 * 1024;
/// The least time from one fetch that brought something to the next.
const FETCH_PACE: Duration = Duration::from_millis(5);
/// How long `poll` waits for a first message.
const FIRST: Duration = Duration::from_millis(100);

/// A client of the group, subscribed. Must be called on a thread of the runtime.
pub(super) fn subscribe<C: Send + 'static>(
    subscription: Subscription<C>,
    config: &ConsumerConfig,
    kafka: &KafkaConfig,
    database: Database,
    told: mpsc::Sender<Polled<C>>,
    stop: CancellationToken,
) -> KafkaResult<Client<C>> {
    let full_topic = kafka.topic(subscription.topic);
    let rebalancer = Rebalancer {
        group: subscription.group,
        topic: subscription.topic,
        full_topic: full_topic.clone(),
        database,
        runtime: Handle::current(),
        told,
        fresh: Mutex::default(),
        stop,
        complaints: Complaints::of(subscription.group),
        statistics: kafka.metrics.client(subscription.group),
        missing: Spell::default(),
    };
    let (least, wait) = fetches(config.pace);
    let client: Client<C> = kafka
        .client()
        .set("group.id", kafka.group(subscription.group))
        // librdkafka 2.12's new protocol has open faults.
        .set("group.protocol", "classic")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", config.session_timeout.as_millis().to_string())
        .set("heartbeat.interval.ms", (config.session_timeout.as_millis() / 3).to_string())
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // An offset that the topic doesn't hold means that it was cut or made anew: never to be skipped in silence.
        .set("auto.offset.reset", "error")
        .set("allow.auto.create.topics", "false")
        // A topic that its service has yet to make is found soon.
        .set("topic.metadata.refresh.interval.ms", "1000")
        .set("fetch.min.bytes", least.to_string())
        .set("fetch.wait.max.ms", wait.as_millis().to_string())
        .set("fetch.message.max.bytes", FETCH_BYTES.to_string())
        .set("fetch.error.backoff.ms", "100")
        // Nothing is fetched while something waits to be polled, and then for so long: the first message after a pause
        // comes at once, and under load an answer, which has its price at the broker, here and in the batches that follow
        // from it, brings all that has gathered meanwhile.
        .set("queued.min.messages", "1")
        .set("fetch.queue.backoff.ms", FETCH_PACE.as_millis().to_string())
        .create_with_context(rebalancer)?;
    client.subscribe(&[&full_topic])?;
    Ok(client)
}

/// For how many bytes a fetch waits at the broker, and for how long. Every answer has its price, at the broker and here: a
/// group that takes its time anyway asks for all that comes meanwhile at once.
fn fetches(pace: Duration) -> (usize, Duration) {
    if pace < LEISURELY { (1, LONG_POLL) } else { (PLENTY, pace.min(LONG_POLL)) }
}

/// Polls until it is told to stop or nobody listens any more. Blocks its thread.
pub(super) fn poll<C: Send + 'static>(client: &Arc<Client<C>>, subscription: Subscription<C>, passed_over: &Counter) {
    let context = client.context().clone();
    while !context.stop.is_cancelled() && !context.told.is_closed() {
        context.complaints.watch();
        // One time for all that is there at once: of a backlog, reading the clock is a part of what a message costs.
        let mut now = None;
        let poll = |wait| {
            let polled = client.poll(wait)?;
            let now = *now.get_or_insert_with(clock::now);
            Some(polled.map(|message| decode(&message, now, subscription, passed_over)))
        };
        let messages = gather(&context.fresh, poll, |error| context.complain(&error));
        if !messages.is_empty() && context.told.blocking_send(Polled::Messages(messages)).is_err() {
            return;
        }
    }
}

/// Awaits a first message; whatever is there already comes along, and nothing more is waited for.
fn gather<C>(
    fresh: &Mutex<Vec<i32>>,
    mut poll: impl FnMut(Duration) -> Option<KafkaResult<Decoded<C>>>,
    complain: impl Fn(KafkaError),
) -> Vec<Decoded<C>> {
    let mut messages: Vec<Decoded<C>> = Vec::new();
    let mut wait = FIRST;
    while messages.len() < GATHERED {
        let polled = poll(wait);
        wait = Duration::ZERO;
        // Of partitions that went and came back within this poll, whether it brought a message or not: these are read
        // again from the database's offset on, and what was gathered before would be taken for what follows it.
        let fresh = std::mem::take(&mut *fresh.lock().unwrap_or_else(PoisonError::into_inner));
        if !fresh.is_empty() {
            messages.retain(|earlier| earlier.at().is_none_or(|at| !fresh.contains(&at.partition)));
        }
        match polled {
            Some(Ok(message)) => messages.push(message),
            Some(Err(error)) => complain(error),
            None => break,
        }
    }
    messages
}

fn decode<C>(
    message: &BorrowedMessage<'_>,
    now: Timestamp,
    subscription: Subscription<C>,
    passed_over: &Counter,
) -> Decoded<C> {
    // A producer's clock would say nothing here: another may be behind it.
    let written = match message.timestamp() {
        rdkafka::Timestamp::LogAppendTime(millis) => Timestamp::from_timestamp_millis(millis),
        _ => None,
    };
    let at = At { partition: message.partition(), offset: message.offset(), written };
    let key = message.key().unwrap_or_default();
    let record = Record {
        topic: subscription.topic,
        group: subscription.group,
        partition: at.partition,
        offset: at.offset,
        key: std::str::from_utf8(key).unwrap_or_default(),
    };
    let span = Span::process(&trace_of(message.headers()), record);
    let delivery = Delivery { key, payload: message.payload().unwrap_or_default(), trace: span.context() };
    // A panic in here would end this thread, and with it the process.
    let unit = match catch_unwind(AssertUnwindSafe(|| (subscription.react)(&delivery))) {
        Ok(Ok(commands)) => {
            if commands.is_empty() {
                passed_over.inc();
            }
            let envelope = |command| Envelope::at(now, command, span.context().clone());
            Ok(Unit { commands: commands.into_iter().map(envelope).collect(), at: Some(at) })
        }
        Ok(Err(why)) => Err((at, why.to_string())),
        Err(_) => Err((at, "reading it panicked".to_owned())),
    };
    Decoded { unit, span }
}

impl<C: Send + 'static> ClientContext for Rebalancer<C> {
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

impl<C: Send + 'static> ConsumerContext for Rebalancer<C> {
    fn rebalance(&self, client: &BaseConsumer<Self>, err: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let named: Vec<i32> = partitions.elements().iter().map(|element| element.partition()).collect();
        let done = match err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(client, partitions, &named),
            _ => {
                // Told first: what still comes of them is dropped, and the fence holds for what is under way.
                let _ = self.told.blocking_send(Polled::Revoked(named));
                match client.rebalance_protocol() {
                    RebalanceProtocol::Cooperative => client.incremental_unassign(partitions),
                    _ => client.unassign(),
                }
            }
        };
        if let Err(error) = done {
            tracing::error!(group = self.group, %error, "a rebalance failed");
        }
    }
}

impl<C: Send + 'static> Rebalancer<C> {
    /// Takes partitions at the offsets that the database holds, whatever Kafka has been told of them.
    fn assign(
        &self,
        client: &BaseConsumer<Self>,
        partitions: &mut TopicPartitionList,
        named: &[i32],
    ) -> KafkaResult<()> {
        let Some(assignments) = self.runtime.block_on(self.positions(client, named)) else {
            // The program ends: an assignment of nothing lets the rebalance finish.
            return client.incremental_assign(&TopicPartitionList::new());
        };
        let mut stopped = TopicPartitionList::new();
        for Assignment { partition, next, stopped: why } in &assignments {
            // Of one that stops nothing is read; its offset, which the topic may not hold, would be complained of until it is paused.
            let offset = if why.is_some() { Offset::End } else { Offset::Offset(*next) };
            partitions.set_partition_offset(&self.full_topic, *partition, offset)?;
            if why.is_some() {
                stopped.add_partition(&self.full_topic, *partition);
            }
        }
        let _ = self.told.blocking_send(Polled::Assigned(assignments));
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).extend(named);
        match client.rebalance_protocol() {
            RebalanceProtocol::Cooperative => client.incremental_assign(partitions)?,
            _ => client.assign(partitions)?,
        }
        if stopped.count() > 0 { client.pause(&stopped) } else { Ok(()) }
    }

    /// Where to read on; `None` if the program ends before that is known.
    async fn positions(&self, client: &BaseConsumer<Self>, partitions: &[i32]) -> Option<Vec<Assignment>> {
        let mut backoff = Backoff::new();
        loop {
            match self.look_up(client, partitions).await {
                Ok(assignments) => return Some(assignments),
                Err(error) => tracing::warn!(group = self.group, %error, "can't tell yet where to read on"),
            }
            if self.stop.is_cancelled() {
                return None;
            }
            backoff.wait(&self.stop).await;
        }
    }

    async fn look_up(
        &self,
        client: &BaseConsumer<Self>,
        partitions: &[i32],
    ) -> Result<Vec<Assignment>, Box<dyn std::error::Error + Send + Sync>> {
        let conn = self.database.connect().await?;
        let mut stored = offsets::find(&conn, self.group, self.topic, partitions).await?;
        let mut assignments = Vec::with_capacity(partitions.len());
        for partition in partitions {
            // Blocks, on a thread that is there for it.
            let (low, high) = client.fetch_watermarks(&self.full_topic, *partition, TIMEOUT)?;
            if !stored.contains_key(partition) {
                // A new group begins at the beginning.
                offsets::begin(&conn, self.group, self.topic, *partition, low).await?;
                stored.extend(offsets::find(&conn, self.group, self.topic, &[*partition]).await?);
            }
            let (next, written) = stored.get(partition).map_or((low, None), |stored| (stored.next, stored.written));
            let stopped = if !(low..=high).contains(&next) {
                Some(format!("the topic holds {low} to {high}, and {next} comes next: was it cut, or made anew?"))
            } else if let Some(written) = written.filter(|_| low < next)
                && self.first_after(client, *partition, written)? == Offset::Offset(low)
            {
                Some(format!(
                    "all of the topic is newer than {written}, when what comes before {next} was: was it made anew?"
                ))
            } else {
                None
            };
            assignments.push(Assignment { partition: *partition, next, stopped });
        }
        Ok(assignments)
    }

    /// The first message that the broker wrote later than that. A topic that was made anew holds nothing that is as old as
    /// what was read of the one before it.
    fn first_after(&self, client: &BaseConsumer<Self>, partition: i32, written: Timestamp) -> KafkaResult<Offset> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset(&self.full_topic, partition, Offset::Offset(written.timestamp_millis() + 1))?;
        let found = client.offsets_for_times(asked, TIMEOUT)?;
        let found = found
            .find_partition(&self.full_topic, partition)
            .ok_or(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition))?;
        found.error()?;
        Ok(found.offset())
    }

    fn complain(&self, error: &KafkaError) {
        match error.rdkafka_error_code() {
            // Its service has yet to make it.
            Some(RDKafkaErrorCode::UnknownTopicOrPartition) => {
                if self.missing.happens(Instant::now()).is_some() {
                    tracing::info!(group = self.group, topic = self.topic, "the topic isn't there yet");
                }
            }
            Some(RDKafkaErrorCode::AutoOffsetReset) => {
                tracing::error!(
                    group = self.group,
                    topic = self.topic,
                    "the topic doesn't hold what comes next: was it cut?"
                );
                let _ = self.told.blocking_send(Polled::Lost);
            }
            _ => self.complaints.error(error, "polling"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::TraceContext;

    impl Decoded<()> {
        /// One that means nothing.
        pub(in crate::inbox) fn nothing(partition: i32, offset: i64) -> Self {
            let record = Record { topic: "topic", group: "group", partition, offset, key: "key" };
            let span = Span::process(&TraceContext::root(), record);
            Self { unit: Ok(Unit { commands: vec![], at: Some(At { partition, offset, written: None }) }), span }
        }
    }

    /// The partitions that were assigned anew within a poll, and the message that it brought.
    type Poll = (&'static [i32], Option<(i32, i64)>);

    fn gathered(polls: &[Poll]) -> Vec<(i32, i64)> {
        let fresh = Mutex::new(Vec::new());
        let mut polls = polls.iter();
        let poll = |_| {
            let (assigned, brought) = polls.next()?;
            fresh.lock().unwrap().extend_from_slice(assigned);
            brought.map(|(partition, offset)| Ok(Decoded::nothing(partition, offset)))
        };
        let messages = gather(&fresh, poll, |error| panic!("{error}"));
        messages.iter().filter_map(Decoded::at).map(|at| (at.partition, at.offset)).collect()
    }

    #[test]
    fn messages_from_before_their_partition_was_assigned_anew_are_thrown_away() {
        let (one, other) = (|offset| Some((1, offset)), |offset| Some((2, offset)));
        for (case, polls, expected) in [
            ("nothing is assigned", vec![(&[][..], one(5)), (&[], other(7))], vec![(1, 5), (2, 7)]),
            ("with a message of another", vec![(&[], one(5)), (&[], other(7)), (&[1], other(8))], vec![(2, 7), (2, 8)]),
            ("with its own first", vec![(&[], one(5)), (&[1], one(3)), (&[], one(4))], vec![(1, 3), (1, 4)]),
            ("without a message", vec![(&[], one(5)), (&[], other(7)), (&[1], None)], vec![(2, 7)]),
            ("before the first message", vec![(&[1], one(3))], vec![(1, 3)]),
            ("all", vec![(&[], one(5)), (&[], other(7)), (&[1, 2], None)], vec![]),
        ] {
            assert_eq!(gathered(&polls), expected, "{case}");
        }
    }
}
