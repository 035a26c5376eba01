//! How far a service's groups are behind: its database's offsets against the ends of the topics that it reads.
//!
//! Both are asked beside the consumers, not told by them: a consumer that is dead or stopped has the most to hide.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use diesel::{
    QueryResult,
    sql_types::{Array, BigInt, Integer, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::{FutureExt as _, future::BoxFuture};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};
use tokio_util::sync::CancellationToken;

use super::{InboxMetrics, metrics::Partitions};
use crate::{
    db::{Fixed, Prepared},
    kafka::{Asking, ClientStatistics, KafkaConfig, topic_in},
    ops::Sample,
    telemetry::Spell,
};

/// What metrics call the client that asks for topics' ends.
const CLIENT: &str = "lag";
/// How long a broker may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long one poll of the client takes in what librdkafka has to tell: far longer than a few things take.
const TOLD_WITHIN: Duration = Duration::from_millis(20);
/// How often is looked whether a topic has got more partitions.
const COUNTED_EVERY: Duration = Duration::from_secs(60);

/// The ends of topics' partitions, as they were last heard of.
type Ends = Arc<Mutex<HashMap<(&'static str, i32), i64>>>;

/// Shows how far each group is.
pub(crate) struct Lag {
    groups: Vec<&'static str>,
    topics: HashMap<&'static str, &'static str>,
    partitions: Mutex<HashMap<&'static str, Partitions>>,
    ends: Ends,
}

/// Asks brokers for the ends of topics.
pub(crate) struct Watermarks {
    kafka: KafkaConfig,
    topics: Vec<&'static str>,
    every: Duration,
    statistics: ClientStatistics,
    ends: Ends,
}

/// Of these groups, each with the topic that it reads; `expected` is how many partitions topics are likely to have.
pub(crate) fn lag(
    subscriptions: &[(&'static str, &'static str)],
    expected: i32,
    kafka: &KafkaConfig,
    every: Duration,
    metrics: &InboxMetrics,
) -> (Lag, Watermarks) {
    let ends = Ends::default();
    let mut partitions: HashMap<_, _> =
        subscriptions.iter().map(|(group, _)| (*group, metrics.partitions(group))).collect();
    for of_group in partitions.values_mut() {
        (0..expected).for_each(|partition| {
            of_group.of(partition);
        });
    }
    let mut topics: Vec<_> = subscriptions.iter().map(|(_, topic)| *topic).collect();
    topics.sort_unstable();
    topics.dedup();
    let lag = Lag {
        groups: subscriptions.iter().map(|(group, _)| *group).collect(),
        topics: subscriptions.iter().copied().collect(),
        partitions: Mutex::new(partitions),
        ends: ends.clone(),
    };
    let statistics = kafka.metrics.client(CLIENT);
    (lag, Watermarks { kafka: kafka.clone(), topics, every, statistics, ends })
}

struct Offsets;
impl Fixed for Offsets {
    const SQL: &'static str = "\
        SELECT consumer_group, topic, partition, next_offset FROM inbox_offsets WHERE consumer_group = ANY ($1)";
}

#[derive(diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    consumer_group: String,
    #[diesel(sql_type = Text)]
    topic: String,
    #[diesel(sql_type = Integer)]
    partition: i32,
    #[diesel(sql_type = BigInt)]
    next_offset: i64,
}

impl Sample for Lag {
    fn take<'a>(&'a self, conn: &'a AsyncPgConnection) -> BoxFuture<'a, QueryResult<()>> {
        async {
            let rows = Prepared::<Offsets, _>::with(|sql| sql.bind::<Array<Text>, _>(&self.groups))
                .load::<Row>(&mut &*conn)
                .await?;
            self.show(&rows);
            Ok(())
        }
        .boxed()
    }
}

impl Lag {
    fn show(&self, rows: &[Row]) {
        // Ends that were heard of before the offsets were read: where these are further by now, nothing is behind.
        let ends = locked(&self.ends);
        let mut partitions = locked(&self.partitions);
        for (group, of_group) in &mut *partitions {
            let Some(topic) = self.topics.get(group) else { continue };
            let next: HashMap<i32, i64> = rows
                .iter()
                .filter(|row| row.consumer_group == *group && row.topic == *topic)
                .map(|row| (row.partition, row.next_offset))
                .collect();
            for (partition, next) in &next {
                of_group.of(*partition).next.set(*next);
            }
            for ((_, partition), end) in ends.iter().filter(|((of, _), _)| of == topic) {
                // One that nobody has ever read is behind by all that it holds: topics of ours keep everything.
                let next = next.get(partition).copied().unwrap_or(0);
                of_group.of(*partition).lag.set((end - next).max(0));
            }
        }
    }
}

impl Watermarks {
    /// Asks until it is told to stop.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let Self { kafka, topics, every, statistics, ends } = self;
        let client: BaseConsumer<Asking> = match kafka.client().create_with_context(Asking::shown(statistics)) {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(%error, "no client to ask for the ends of topics: how far groups are isn't known");
                return stop.cancelled().await;
            }
        };
        let failing = Spell::default();
        let mut asker = Asker { client, kafka, topics, counted: HashMap::new() };
        while !stop.is_cancelled() {
            // Blocks, on a thread that is there for it; and on brokers that are away nobody's end has to wait.
            let asked = tokio::task::spawn_blocking(move || {
                let found = asker.ask();
                (asker, found)
            });
            let found = match stop.run_until_cancelled(asked).await {
                None => return,
                Some(Ok((back, found))) => {
                    asker = back;
                    found
                }
                Some(Err(panic)) => {
                    tracing::error!(%panic, "asking for the ends of topics panicked: how far groups are isn't known");
                    return stop.cancelled().await;
                }
            };
            match found {
                Ok(found) => {
                    locked(&ends).extend(found);
                    if let Some(over) = failing.over(Instant::now()) {
                        tracing::info!(times = over.times, lasted = ?over.lasted, "topics' ends are known again");
                    }
                }
                Err(error) => {
                    if let Some(left_out) = failing.happens(Instant::now()) {
                        tracing::info!(%error, left_out, "topics' ends can't be asked for: lag is told by the last known");
                    }
                }
            }
            let _ = tokio::time::timeout(every, stop.cancelled()).await;
        }
        // Closing blocks, too.
        drop(tokio::task::spawn_blocking(move || drop(asker)));
    }
}

/// A client that is asked now and then.
struct Asker {
    client: BaseConsumer<Asking>,
    kafka: KafkaConfig,
    topics: Vec<&'static str>,
    /// How many partitions a topic had, and when that was asked.
    counted: HashMap<&'static str, (i32, Instant)>,
}

impl Asker {
    fn ask(&mut self) -> KafkaResult<Vec<((&'static str, i32), i64)>> {
        // No messages come of this, but all that librdkafka has to tell since the last time, its statistics among it; with no time
        // at all it would be one thing a call, and the rest would pile up.
        let begun = Instant::now();
        while self.client.poll(TOLD_WITHIN).is_some() && begun.elapsed() < TIMEOUT {}
        let mut ends = TopicPartitionList::new();
        for topic in self.topics.clone() {
            for partition in 0..self.count(topic)? {
                ends.add_partition_offset(&self.kafka.topic(topic), partition, Offset::End)?;
            }
        }
        if ends.count() == 0 {
            return Ok(Vec::new());
        }
        // Where a message with that time would come to lie; and End stands for a time, too: that of whatever comes next.
        let ends = self.client.offsets_for_times(ends, TIMEOUT)?;
        let by_name: HashMap<String, &'static str> =
            self.topics.iter().map(|topic| (self.kafka.topic(topic), *topic)).collect();
        let found = ends.elements().into_iter().filter_map(|element| match element.offset() {
            Offset::Offset(end) if element.error().is_ok() => {
                Some(((*by_name.get(element.topic())?, element.partition()), end))
            }
            _ => None,
        });
        Ok(found.collect())
    }

    /// How many partitions a topic has: none, while it isn't there.
    fn count(&mut self, topic: &'static str) -> KafkaResult<i32> {
        if let Some((count, when)) = self.counted.get(topic)
            && when.elapsed() < COUNTED_EVERY
        {
            return Ok(*count);
        }
        let name = self.kafka.topic(topic);
        let metadata = match self.client.fetch_metadata(Some(&name), TIMEOUT) {
            Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition)) => return Ok(0),
            metadata => metadata?,
        };
        let count =
            topic_in(&metadata, &name).map_or(0, |found| i32::try_from(found.partitions().len()).unwrap_or(i32::MAX));
        if count > 0 {
            self.counted.insert(topic, (count, Instant::now()));
        }
        Ok(count)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic left behind is whole: each entry is set in one step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
