//! The engine's parts, as a service starts them, one by one.

use std::{sync::Arc, time::Duration};

use engine_tests::{
    COMMANDS, TOPIC,
    domain::{Command, Counter, Counters, Refusal},
};
use shared::{
    command::{self, CommandMetrics, Done, Envelope, Failure, Lane, LaneConfig, LaneKind, WriteContext},
    db::Database,
    inbox::{Consumer, ConsumerConfig, InboxMetrics},
    ops::Metrics,
    outbox::{OutboxMetrics, Relay, RelayConfig},
    timers::{TimerMetrics, Timers},
};
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{Topics, awaited, far};

/// A metric's value, by its line up to there; `None` if there is none such.
pub fn metric(metrics: &Metrics, line: &str) -> Option<f64> {
    let page = metrics.encode();
    page.lines().find_map(|candidate| candidate.strip_prefix(line)?.strip_prefix(' ')?.parse().ok())
}

/// Tells tasks to stop, and waits until they have.
async fn stopped(what: &str, stop: &CancellationToken, tasks: &mut JoinSet<()>) {
    stop.cancel();
    awaited(what, async {
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    })
    .await;
}

/// A callers' lane at work.
pub struct Writing {
    pub lane: Lane<Counters>,
    pub metrics: Metrics,
    pub stop: CancellationToken,
    tasks: JoinSet<()>,
}

pub type Answer = Result<Done<Option<Counter>>, Failure<Refusal>>;

/// How much a lane takes, without a pause.
pub fn limits(queue: usize, batch: usize) -> LaneConfig {
    LaneConfig { queue, batch, pace: Duration::ZERO, hearing: Duration::ZERO }
}

impl Writing {
    pub fn on(database: &Database) -> Self {
        Self::with(database, limits(4096, 1000))
    }

    pub fn with(database: &Database, limits: LaneConfig) -> Self {
        Self::waking(database, limits, Arc::new(Notify::new()))
    }

    pub fn waking(database: &Database, limits: LaneConfig, outbox: Arc<Notify>) -> Self {
        let (metrics, stop) = (Metrics::new(), CancellationToken::new());
        let context = writing(database, &metrics, outbox);
        let (lane, task) = command::lane::<Counters>(LaneKind::CALLERS, limits, context, stop.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(task);
        Self { lane, metrics, stop, tasks }
    }

    /// Gives a command that has time.
    pub async fn submit(&self, envelope: Envelope<Command>) -> Answer {
        self.lane.submit(envelope, far()).await
    }

    /// Gives a command that is to be done, and gives the state it led to.
    pub async fn done(&self, envelope: Envelope<Command>) -> Counter {
        match self.submit(envelope).await {
            Ok(Done::Now(Some(counter))) => counter,
            other => panic!("{other:?}"),
        }
    }

    /// Gives commands all at once; their answers, in the same order.
    pub async fn submit_all(&self, envelopes: impl IntoIterator<Item = Envelope<Command>>) -> Vec<Answer> {
        let calls = envelopes.into_iter().map(|envelope| self.submit(envelope));
        awaited("all answers", futures_util::future::join_all(calls)).await
    }

    /// Transactions that were committed.
    pub fn transactions(&self) -> f64 {
        metric(&self.metrics, r#"write_batch_units_count{lane="calls"}"#).unwrap()
    }

    /// Stops, and waits until all is drained.
    pub async fn stop(mut self) {
        stopped("the lane to drain", &self.stop, &mut self.tasks).await;
    }
}

/// A relay at work.
pub struct Relaying {
    pub metrics: Metrics,
    pub stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Relaying {
    pub fn start(database: &Database, topics: &Topics, batch: usize, wake: Arc<Notify>) -> Self {
        let (metrics, stop) = (Metrics::new(), CancellationToken::new());
        let config = RelayConfig {
            service: engine_tests::NAME,
            topic: TOPIC,
            new_topic: topics.new_topic,
            kafka: topics.config.clone(),
            batch,
            pace: Duration::from_millis(3),
        };
        let relay = Relay::new(config, database.clone(), wake, Arc::new(OutboxMetrics::new(&metrics)));
        let mut tasks = JoinSet::new();
        tasks.spawn(relay.run(stop.clone()));
        Self { metrics, stop, tasks }
    }

    /// Whether it is the one that publishes.
    pub fn leads(&self) -> bool {
        metric(&self.metrics, "outbox_lease_held") == Some(1.0)
    }

    pub async fn stop(mut self) {
        stopped("the relay to end", &self.stop, &mut self.tasks).await;
    }
}

/// A consumer of `counter-commands` at work.
pub struct Consuming {
    pub metrics: Metrics,
    pub stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Consuming {
    pub fn start(database: &Database, topics: &Topics, batch: usize) -> Self {
        let (metrics, stop) = (Metrics::new(), CancellationToken::new());
        let consumer = Consumer::<Counters>::new(
            COMMANDS,
            ConsumerConfig { batch, pace: Duration::ZERO, session_timeout: Duration::from_secs(6) },
            topics.config.clone(),
            writing(database, &metrics, Arc::default()),
            &InboxMetrics::new(&metrics),
            stop.clone(),
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(consumer.run(stop.clone()));
        Self { metrics, stop, tasks }
    }

    /// Whether this partition is stopped; `None` if it isn't assigned here.
    pub fn stopped(&self, partition: i32) -> Option<bool> {
        self.assigned("inbox_partition_stopped", partition).map(|value| value == 1.0)
    }

    /// The next offset of a partition, if it is assigned here.
    pub fn next(&self, partition: i32) -> Option<i64> {
        #[allow(clippy::cast_possible_truncation, reason = "offsets of a test are small")]
        self.assigned("inbox_next_offset", partition).map(|value| value as i64)
    }

    /// What a gauge shows of a partition, if it is assigned here.
    fn assigned(&self, name: &str, partition: i32) -> Option<f64> {
        let value =
            |name| metric(&self.metrics, &format!(r#"{name}{{group="counter-events",partition="{partition}"}}"#));
        value("inbox_partition_assigned").filter(|assigned| *assigned == 1.0)?;
        value(name)
    }

    /// Waits until it has ended by itself.
    pub async fn ended(mut self) {
        awaited("the consumer to end by itself", self.tasks.join_next()).await.unwrap().unwrap();
    }

    pub async fn stop(mut self) {
        stopped("the consumer to end", &self.stop, &mut self.tasks).await;
    }
}

/// A thread of the consumer's polls until it is told to stop; a test that fails ends, too.
impl Drop for Consuming {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Timers at work, until they are told to stop.
pub fn firing(database: &Database, batch: usize, stop: &CancellationToken, tasks: &mut JoinSet<()>) -> Metrics {
    let metrics = Metrics::new();
    let timers = Timers::<Counters>::new(
        "resets",
        batch,
        writing(database, &metrics, Arc::default()),
        Arc::new(TimerMetrics::new(&metrics)),
        stop.clone(),
    );
    tasks.spawn(timers.run(stop.clone()));
    metrics
}

/// What all writers of a service of `Counters` have in common.
fn writing(database: &Database, metrics: &Metrics, wake_relay: Arc<Notify>) -> WriteContext {
    let metrics = Arc::new(CommandMetrics::of::<Counters>(metrics));
    WriteContext { publishes: TOPIC, database: database.clone(), metrics, wake_relay }
}
