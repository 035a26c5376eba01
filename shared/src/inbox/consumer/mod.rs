//! A consumer: hands messages to the write path. One that can't be handled stops its partition.

mod agreement;
mod messages;
mod partitions;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::ready,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use self::messages::Waiting;
use super::{
    InboxMetrics, Positions, Subscription,
    ahead::{Ahead, Turn},
    metrics::GroupMetrics,
    poller::{self, Client, Polled},
};
use crate::{
    backoff::Backoff,
    command::{At, Service, Unit, WriteContext, Writer},
    db::Database,
    kafka::KafkaConfig,
    pace::Pace,
    telemetry::Spell,
};

/// The limits of a consumer.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerConfig {
    /// Messages per transaction, at least 1.
    pub batch: usize,
    /// The least time from one transaction's beginning to the next one's.
    pub pace: Duration,
    /// How long the group waits for a member that fell silent; brokers accept 6 s and more.
    pub session_timeout: Duration,
}

/// Handles one topic for one group. Every replica has one; the group shares the partitions out.
pub struct Consumer<S: Service> {
    subscription: Subscription<S::Command>,
    config: ConsumerConfig,
    kafka: KafkaConfig,
    database: Database,
    metrics: GroupMetrics,
    writer: Writer<S>,
    /// Helps out while more waits than one transaction takes.
    second: Writer<S>,
    /// The partitions whose messages `second` writes now; `writer` writes all others'.
    second_takes: BTreeSet<i32>,
    /// What waits for either.
    ahead: Ahead<S::Command>,
    /// Of partitions assigned here.
    positions: Positions,
    pace: Pace,
    /// Partitions that a message stopped.
    stopped: BTreeSet<i32>,
    /// Partitions whose next message meets a lock that somebody else holds: their messages wait aside.
    held: BTreeMap<i32, Vec<Waiting<S::Command>>>,
    /// What can't be decoded behind something held, with why: its partition stops there once all before it is done.
    doomed: BTreeMap<i32, (At, String)>,
    /// What librdkafka was told to pause, and not yet to go on with. It remembers that when a partition goes and comes back.
    paused: BTreeSet<i32>,
    /// What means nothing to this service and only moves offsets: it goes along with what comes next.
    passed: Vec<Unit<S::Command>>,
    /// Something waits aside.
    locked: Spell,
    course: Course,
    /// Whether the database may still lose offsets that it has moved: those of transactions whose flush was not waited for, by this
    /// consumer or by the one that had a partition before.
    unconfirmed: bool,
    /// The partition whose messages aside were tried last.
    tried: Option<i32>,
}

/// Whether a consumer goes on. Where it doesn't, something was not done, and nothing that comes after it may be, or its offset would
/// go past it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// It does what comes.
    Onward,
    /// The program ends, and the database was out of reach.
    Ending,
    /// All is to be read again from the database's offsets, by a new client of the group: the database has lost offsets that it had
    /// moved, and what lies between was handed over long ago; or a topic doesn't hold what was to be read next; or the database
    /// has been out of reach for long, perhaps from here alone, and others of the group shall have the partitions meanwhile.
    Anew,
}

/// Transactions that each of two writers does one after the other before both wait for each other: meanwhile one decides while the
/// other's flush is waited for.
const EACH: usize = 8;
/// Deliveries from the poller that may wait for that, each of [`poller::GATHERED`] messages at most: together about what two writers
/// do between meetings, 2 · `EACH` batches of the default size.
const WAITING: usize = 64;
/// Batches that may be read ahead of those that are handled: so many that both writers find partitions of their own, for of a
/// backlog a fetch brings much of one partition, then of the next.
const AHEAD: usize = 2 * EACH;
/// How long leaving the group may take at the end.
const CLOSING: Duration = Duration::from_secs(5);
/// How often what was not waited for is flushed, and brokers are told how far the group has come: that is for the tools that
/// watch lag, nothing else.
const CONFIRMED_EVERY: Duration = Duration::from_secs(1);
/// How often what waits aside is tried again: an attempt may cost all others `lock_timeout`.
const HELD_TRIED_EVERY: Duration = Duration::from_secs(2);

impl<S: Service> Consumer<S> {
    /// A consumer of its own stream of transactions.
    pub fn new(
        subscription: Subscription<S::Command>,
        config: ConsumerConfig,
        kafka: KafkaConfig,
        context: WriteContext,
        metrics: &InboxMetrics,
        stop: CancellationToken,
    ) -> Self {
        drop(kafka.metrics.client(subscription.group));
        let metrics = metrics.group(subscription.group);
        let writer = || Writer::new(subscription.group, context.clone(), stop.clone());
        let (writer, second) = (writer(), writer());
        let positions = Positions::new(subscription.group, subscription.topic);
        let pace = Pace::new(config.pace);
        Self {
            subscription,
            config,
            kafka,
            database: context.database,
            metrics,
            writer,
            second,
            second_takes: BTreeSet::new(),
            ahead: Ahead::new(),
            positions,
            pace,
            stopped: BTreeSet::new(),
            held: BTreeMap::new(),
            doomed: BTreeMap::new(),
            paused: BTreeSet::new(),
            passed: Vec::new(),
            locked: Spell::default(),
            course: Course::Onward,
            unconfirmed: false,
            tried: None,
        }
    }

    /// Consumes until it is told to stop; finishes the transaction that it is at, and leaves the group.
    pub async fn run(mut self, stop: CancellationToken) {
        self.consume(&stop).await;
        while self.course == Course::Anew && !stop.is_cancelled() {
            self.forget();
            self.reach_database(&stop).await;
            self.consume(&stop).await;
        }
    }

    /// Waits until the database is within reach: before that a member of the group would only be in others' way.
    async fn reach_database(&self, stop: &CancellationToken) {
        let mut backoff = Backoff::new();
        while let Err(error) = self.database.connect().await {
            if stop.is_cancelled() {
                return;
            }
            tracing::warn!(group = self.subscription.group, %error, "stays out of its group: no connection to the database");
            backoff.wait(stop).await;
        }
    }

    /// As one member of the group: until it is told to stop, or all is to be read anew.
    async fn consume(&mut self, stop: &CancellationToken) {
        let mut backoff = Backoff::new();
        // What is polled while a transaction runs waits here, to go into the next one.
        let (told, mut polled) = mpsc::channel(WAITING);
        let client = loop {
            let told = told.clone();
            let subscribed = poller::subscribe(
                self.subscription,
                &self.config,
                &self.kafka,
                self.database.clone(),
                told,
                stop.clone(),
            );
            match subscribed {
                Ok(client) => break Arc::new(client),
                Err(error) => {
                    tracing::error!(group = self.subscription.group, %error, "can't subscribe");
                    backoff.wait(stop).await;
                }
            }
            if stop.is_cancelled() {
                return;
            }
        };
        drop(told);
        let mut polls = true;
        let mut polling = {
            let (client, passed_over) = (client.clone(), self.metrics.passed_over.clone());
            let subscription = self.subscription;
            tokio::task::spawn_blocking(move || poller::poll(&client, subscription, &passed_over))
        };
        let mut confirming = tokio::time::interval(CONFIRMED_EVERY);
        confirming.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut trying = tokio::time::interval_at(Instant::now() + HELD_TRIED_EVERY, HELD_TRIED_EVERY);
        trying.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.course != Course::Anew {
            tokio::select! {
                () = stop.cancelled() => break,
                next = polled.recv(), if self.ahead.is_empty() => match next {
                    Some(next) => self.take(&client, next, &mut polled).await,
                    None => break,
                },
                // What is read ahead goes on, between all else.
                () = ready(()), if !self.ahead.is_empty() => {
                    self.take(&client, Polled::Messages(Vec::new()), &mut polled).await;
                }
                _ = confirming.tick() => {
                    self.confirm().await;
                    self.write_out(&client, Vec::new()).await;
                    self.commit_to_kafka(&client);
                    if let Some(over) = self.locked.over(std::time::Instant::now()) {
                        let group = self.subscription.group;
                        tracing::info!(group, times = over.times, lasted = ?over.lasted, "nothing has met a lock for a while");
                    }
                }
                _ = trying.tick(), if !self.paused.is_empty() => self.retry_held(&client).await,
                // A bug, unless it was told to stop. Without it nothing comes any more, so this ends, and by that the whole
                // process, for another to begin anew.
                ended = &mut polling => {
                    polls = false;
                    if !stop.is_cancelled() {
                        let error = ended.err().map(|error| error.to_string());
                        tracing::error!(group = self.subscription.group, error, "the thread that polls ended by itself");
                    }
                    break;
                }
            }
        }
        // Nobody listens any more: the poller ends at its next word.
        drop(polled);
        self.write_out(&client, Vec::new()).await;
        self.commit_to_kafka(&client);
        if polls {
            let _ = polling.await;
        }
        // Closing waits for the group to be told, and calls back. While the brokers are away that may be for ever.
        let closing = tokio::task::spawn_blocking(move || drop(client));
        if tokio::time::timeout(CLOSING, closing).await.is_err() {
            tracing::warn!(group = self.subscription.group, "the group was not left: it will notice by itself");
        }
    }

    /// What was polled, in its order.
    async fn take(
        &mut self,
        client: &Client<S::Command>,
        next: Polled<S::Command>,
        waiting: &mut mpsc::Receiver<Polled<S::Command>>,
    ) {
        let mut next = Some(next);
        while let Some(polled) = next.take() {
            match polled {
                Polled::Assigned(assignments) => self.assigned(client, assignments),
                Polled::Revoked(partitions) => self.revoked(client, &partitions),
                Polled::Messages(messages) => {
                    self.ahead.extend(messages);
                    next = self.advance(client, waiting).await;
                }
                Polled::Lost => self.course = Course::Anew,
            }
        }
    }

    /// Does one batch of what is read ahead, or some by two writers beside each other. All that waits behind comes along: the
    /// fuller a batch, the less a message costs. If it is something else than messages that comes next, all before it is done,
    /// and it is returned.
    async fn advance(
        &mut self,
        client: &Client<S::Command>,
        waiting: &mut mpsc::Receiver<Polled<S::Command>>,
    ) -> Option<Polled<S::Command>> {
        let mut next = None;
        loop {
            self.read_ahead(waiting, &mut next);
            // With a full batch there, or no more to come before something else, there is nothing to gain from waiting.
            let at_once = self.ahead.len() >= self.config.batch || next.is_some();
            self.pace.begin(at_once).await;
            self.read_ahead(waiting, &mut next);
            let Turn { messages, second_takes } = self.ahead.turn(self.config.batch, EACH * self.config.batch);
            self.second_takes = second_takes;
            self.pace.carries(messages.len());
            self.handle(client, messages).await;
            if next.is_none() || self.ahead.is_empty() {
                return next;
            }
        }
    }

    /// Takes the messages that are there, up to a bound, or to something else that happened: that is `next` then.
    fn read_ahead(&mut self, waiting: &mut mpsc::Receiver<Polled<S::Command>>, next: &mut Option<Polled<S::Command>>) {
        while next.is_none() && self.ahead.len() < AHEAD * self.config.batch {
            match waiting.try_recv() {
                Ok(Polled::Messages(more)) => self.ahead.extend(more),
                Ok(other) => *next = Some(other),
                Err(_) => return,
            }
        }
    }

    /// All begins anew, with a client that has paused nothing.
    fn forget(&mut self) {
        let ours: Vec<i32> = self.positions.all().map(|(partition, _)| partition).collect();
        ours.into_iter().for_each(|partition| self.let_go(partition));
        self.ahead = Ahead::new();
        self.paused.clear();
        (self.course, self.unconfirmed) = (Course::Onward, false);
    }
}
