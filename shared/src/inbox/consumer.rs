//! A consumer: hands messages to the write path. One that can't be handled stops its partition.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::ready,
    sync::Arc,
    time::Duration,
};

use diesel_async::AsyncPgConnection;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer as _},
    error::KafkaResult,
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{
    InboxMetrics, Positions, Subscription,
    ahead::{Ahead, Turn},
    metrics::GroupMetrics,
    offsets,
    poller::{self, Assignment, Client, Decoded, Polled},
};
use crate::{
    backoff::Backoff,
    command::{At, Patience, Service, Unit, UnitOutcome, WriteContext, Writer},
    db::Database,
    kafka::KafkaConfig,
    pace::Pace,
    telemetry::{Span, Spell},
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

struct Waiting<C> {
    unit: Unit<C>,
    /// Open until the effects are committed; none where there are no effects.
    span: Option<Span>,
}

impl<C> Waiting<C> {
    fn new(unit: Unit<C>, span: Span) -> Self {
        let span = (!unit.commands.is_empty()).then_some(span);
        Self { unit, span }
    }

    /// Does something in the message's trace, so that logs of it name that.
    fn within(&self, what: impl FnOnce()) {
        match &self.span {
            Some(span) => span.within(what),
            None => what(),
        }
    }
}

/// What one writer does, and the spans of that.
struct Share<C> {
    units: Vec<Unit<C>>,
    spans: Vec<Option<Span>>,
}

impl<C> Share<C> {
    fn with_capacity(most: usize) -> Self {
        Self { units: Vec::with_capacity(most), spans: Vec::with_capacity(most) }
    }
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

    fn assigned(&mut self, client: &Client<S::Command>, assignments: Vec<Assignment>) {
        let group = self.subscription.group;
        self.unconfirmed = true;
        for Assignment { partition, next, stopped } in assignments {
            tracing::info!(group, partition, next, "assigned");
            self.positions.set(partition, next);
            self.forget_passed(partition);
            self.metrics.assigned(partition, next);
            match stopped {
                None => {
                    self.stopped.remove(&partition);
                    self.metrics.stopped(partition, false);
                }
                // It was paused as it was assigned.
                Some(why) => {
                    self.stopped_at(partition, next, &why);
                    self.paused.insert(partition);
                }
            }
        }
        self.resume(client);
    }

    fn revoked(&mut self, client: &Client<S::Command>, partitions: &[i32]) {
        self.commit_to_kafka(client);
        for partition in partitions {
            tracing::info!(group = self.subscription.group, partition, "revoked");
            self.let_go(*partition);
        }
    }

    /// A partition is ours no longer, nor is what was known of it.
    fn let_go(&mut self, partition: i32) {
        self.positions.remove(partition);
        self.forget_passed(partition);
        self.stopped.remove(&partition);
        self.held.remove(&partition);
        self.doomed.remove(&partition);
        self.metrics.revoked(partition);
    }

    /// What was passed over is read again by whoever has the partition now.
    fn forget_passed(&mut self, partition: i32) {
        self.passed.retain(|unit| unit.at.is_none_or(|at| at.partition != partition));
    }

    /// A batch through the write path. What waits aside has its messages queue behind it. Positions stand still until they are
    /// written.
    async fn handle(&mut self, client: &Client<S::Command>, messages: Vec<Decoded<S::Command>>) {
        let mut waiting = Vec::with_capacity(messages.len());
        for message in messages {
            let Some(at) = message.at().filter(|at| self.goes_on_to(*at)) else { continue };
            match (message.unit, self.held.get_mut(&at.partition)) {
                (Ok(unit), None) => waiting.push(Waiting::new(unit, message.span)),
                (Ok(unit), Some(held)) => held.push(Waiting::new(unit, message.span)),
                (Err((_, why)), held) => {
                    message.span.error("UNDECODABLE");
                    // What came before it is still good, and is done first; from it on nothing is.
                    if held.is_none() {
                        self.execute(client, std::mem::take(&mut waiting)).await;
                    }
                    if self.held.contains_key(&at.partition) {
                        self.doomed.insert(at.partition, (at, why));
                    } else if self.goes_on_to(at) {
                        message.span.within(|| self.stop(client, at.partition, at.offset, &why));
                    }
                }
            }
        }
        self.execute(client, waiting).await;
    }

    /// Whether a message is to be handled here, after all that came before it.
    fn goes_on_to(&self, at: At) -> bool {
        let at_end = self.stopped.contains(&at.partition) || self.doomed.contains_key(&at.partition);
        !at_end && self.course == Course::Onward && self.positions.wants(at)
    }

    /// What has effects is done at once. What has none can wait to go along, for a transaction that moves nothing but
    /// offsets costs as much as another: if it is lost meanwhile, it is read and passed over again.
    async fn execute(&mut self, client: &Client<S::Command>, waiting: Vec<Waiting<S::Command>>) {
        if waiting.iter().any(|waiting| !waiting.unit.commands.is_empty()) {
            self.write_out(client, waiting).await;
        } else {
            self.passed.extend(waiting.into_iter().map(|waiting| waiting.unit));
            if self.passed.len() >= self.config.batch {
                self.write_out(client, Vec::new()).await;
            }
        }
    }

    /// Does what it can, after what was passed over; stops or holds the partitions of what it can't.
    async fn write_out(&mut self, client: &Client<S::Command>, mut waiting: Vec<Waiting<S::Command>>) {
        while self.course == Course::Onward && !(self.passed.is_empty() && waiting.is_empty()) {
            let mut fenced = BTreeSet::new();
            let mut handled = 0;
            for (share, outcomes) in self.write(std::mem::take(&mut waiting)).await {
                for ((unit, span), outcome) in share.units.into_iter().zip(share.spans).zip(outcomes) {
                    let Some(at) = unit.at else { continue };
                    match outcome {
                        UnitOutcome::Done(_) => {
                            if let Some(span) = &span {
                                unit.commands.iter().for_each(|envelope| envelope.transaction.link(span));
                            }
                            handled += 1;
                        }
                        outcome => {
                            if matches!(outcome, UnitOutcome::Fenced) {
                                fenced.insert(at.partition);
                            }
                            waiting.extend(self.not_done(client, at, Waiting { unit, span }, outcome));
                            if self.course != Course::Onward {
                                return;
                            }
                        }
                    }
                }
            }
            self.metrics.handled(handled);
            for (partition, next) in self.positions.all() {
                self.metrics.next(partition, next);
            }
            if !fenced.is_empty() {
                self.adopt_offsets(&fenced).await;
            }
            // Somebody else has done some of them by now. What is left lies before a message that is to stop its partition, if
            // there is one.
            let still = |at: At| !self.stopped.contains(&at.partition) && self.positions.wants(at);
            waiting.retain(|waiting| waiting.unit.at.is_some_and(still));
        }
    }

    /// Has both writers do what was passed over, and then this, each what is of its partitions: their shares, and what became of
    /// these.
    async fn write(&mut self, waiting: Vec<Waiting<S::Command>>) -> [(Share<S::Command>, Vec<UnitOutcome<S>>); 2] {
        let passed = self.passed.drain(..).map(|unit| Waiting { unit, span: None });
        let all = passed.len() + waiting.len();
        let (mut first, mut second) = (Share::with_capacity(all), Share::with_capacity(all));
        for Waiting { unit, span } in passed.chain(waiting) {
            let seconds = unit.at.is_some_and(|at| self.second_takes.contains(&at.partition));
            let share = if seconds { &mut second } else { &mut first };
            share.units.push(unit);
            share.spans.push(span);
        }
        let mut positions = self.positions.split_off(&self.second_takes);
        let most = self.config.batch;
        let (first_outcomes, second_outcomes) = tokio::join!(
            self.writer.execute(&first.units, most, Some(&mut self.positions), Patience::Member, false),
            self.second.execute(&second.units, most, Some(&mut positions), Patience::Member, false),
        );
        self.positions.append(positions);
        self.unconfirmed |= self.writer.take_unflushed() | self.second.take_unflushed();
        [(first, first_outcomes), (second, second_outcomes)]
    }

    /// Acts on why a message was not done. If it is to be tried again at once, it is returned.
    fn not_done(
        &mut self,
        client: &Client<S::Command>,
        at: At,
        waiting: Waiting<S::Command>,
        outcome: UnitOutcome<S>,
    ) -> Option<Waiting<S::Command>> {
        match outcome {
            UnitOutcome::Fenced => {
                self.metrics.fenced();
                Some(waiting)
            }
            UnitOutcome::Locked => {
                if let Some(left_out) = self.locked.happens(std::time::Instant::now()) {
                    let group = self.subscription.group;
                    waiting
                        .within(|| tracing::warn!(group, ?at, left_out, "waits aside for a lock that another holds"));
                }
                self.pause(client, at.partition);
                self.held.entry(at.partition).or_default().push(waiting);
                None
            }
            // Behind something held: in its order. Behind something that stopped its partition: dropped, to be read again. Behind
            // something fenced: tried again after it, or it would be skipped.
            UnitOutcome::Behind => match self.held.get_mut(&at.partition) {
                Some(held) => {
                    held.push(waiting);
                    None
                }
                None => (!self.stopped.contains(&at.partition)).then_some(waiting),
            },
            outcome @ (UnitOutcome::Refused(_) | UnitOutcome::Impossible(_)) => {
                let error = if matches!(outcome, UnitOutcome::Refused(_)) { "REFUSED" } else { "IMPOSSIBLE" };
                if let Some(span) = &waiting.span {
                    span.error(error);
                }
                waiting.within(|| self.stop(client, at.partition, at.offset, &outcome.why()));
                None
            }
            // The offsets say where to go on.
            UnitOutcome::Unavailable | UnitOutcome::Unknown if self.writer.stop().is_cancelled() => {
                self.course = Course::Ending;
                None
            }
            UnitOutcome::Unavailable | UnitOutcome::Unknown => {
                let group = self.subscription.group;
                tracing::warn!(group, "leaves its group until the database can be reached: others may reach it");
                self.course = Course::Anew;
                None
            }
            // It was done, or is a caller's: only their commands have request ids.
            UnitOutcome::Done(_) | UnitOutcome::Before(_) | UnitOutcome::RequestIdReused | UnitOutcome::Again => None,
        }
    }

    /// Learns from the database how far others have moved partitions that were thought to be ours, unless the program ends first or
    /// the database is set back.
    async fn adopt_offsets(&mut self, partitions: &BTreeSet<i32>) {
        let (group, topic) = self.positions.source();
        let named: Vec<i32> = partitions.iter().copied().collect();
        let mut backoff = Backoff::new();
        loop {
            let found = async {
                let conn = self.database.connect().await?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(offsets::find(&conn, group, topic, &named).await?)
            };
            match found.await {
                Ok(found) => {
                    tracing::info!(group, ?found, "another has moved these offsets");
                    for partition in named {
                        // Or it was revoked meanwhile.
                        let Some(believed) = self.positions.next(partition) else { continue };
                        let next = found.get(&partition).map(|stored| stored.next);
                        self.compare(partition, believed, next);
                        if let Some(next) = next.filter(|_| self.course == Course::Onward) {
                            self.positions.set(partition, next);
                            self.metrics.next(partition, next);
                            // By another, who may not have waited for a flush.
                            self.unconfirmed = true;
                        }
                    }
                    return;
                }
                Err(error) => tracing::warn!(group, %error, "can't read offsets again yet"),
            }
            if self.writer.stop().is_cancelled() {
                self.course = Course::Ending;
                return;
            }
            backoff.wait(self.writer.stop()).await;
        }
    }

    /// Has the database flush what was not waited for, and say that it still has all of that: a crash may have taken some back,
    /// of partitions in which nothing comes any more. After a fault the next time will do.
    async fn confirm(&mut self) {
        if !self.unconfirmed || self.course != Course::Onward {
            return;
        }
        let (group, topic) = self.positions.source();
        let held: Vec<(i32, i64)> = self.positions.all().collect();
        let partitions: Vec<i32> = held.iter().map(|(partition, _)| *partition).collect();
        let read = async |conn: &AsyncPgConnection| offsets::find(conn, group, topic, &partitions).await;
        if let Ok(found) = self.writer.read_flushed(read).await {
            self.unconfirmed = false;
            for (partition, believed) in held {
                self.compare(partition, believed, found.get(&partition).map(|stored| stored.next));
            }
        }
    }

    /// What the database says of a partition. If it has gone back, there is nothing to go on from.
    fn compare(&mut self, partition: i32, believed: i64, found: Option<i64>) {
        if found.is_none_or(|found| found < believed) {
            let group = self.subscription.group;
            tracing::warn!(
                group,
                partition,
                believed,
                ?found,
                "an offset in the database went back: it is read again from there"
            );
            self.metrics.set_back();
            self.course = Course::Anew;
        }
    }

    /// Tries again what waits, each partition by itself: in one batch, what one of them meets could be laid to another's door
    /// again and again. The first that still meets a lock is the last for now, for it has cost all others their time; the next time
    /// it is the turn of those behind it.
    async fn retry_held(&mut self, client: &Client<S::Command>) {
        let mut partitions: Vec<i32> = self.held.keys().copied().collect();
        let tried = partitions.partition_point(|partition| Some(*partition) <= self.tried);
        partitions.rotate_left(tried);
        for partition in partitions {
            let Some(waiting) = self.held.remove(&partition) else { continue };
            self.tried = Some(partition);
            self.execute(client, waiting).await;
            if self.held.contains_key(&partition) {
                break;
            }
            if let Some((at, why)) = self.doomed.remove(&partition)
                && self.goes_on_to(at)
            {
                self.stop(client, partition, at.offset, &why);
            }
        }
        self.resume(client);
    }

    /// Has librdkafka go on with what is ours, and neither held nor stopped any more.
    fn resume(&mut self, client: &Client<S::Command>) {
        let ours = self.positions.all().map(|(partition, _)| partition);
        let goes_on = |partition: &i32| !self.held.contains_key(partition) && !self.stopped.contains(partition);
        let wanted: Vec<i32> = ours.filter(|partition| self.paused.contains(partition)).filter(goes_on).collect();
        for partition in wanted {
            let list = self.list([partition]);
            match client.resume(&list).and_then(|()| each(&list)) {
                Ok(()) => {
                    self.paused.remove(&partition);
                }
                // Or nothing more of it would ever come. It is tried again as long as the partition is ours.
                Err(error) => tracing::warn!(group = self.subscription.group, partition, %error, "can't resume yet"),
            }
        }
    }

    /// Nothing more of this partition, until an operator has seen to it.
    fn stop(&mut self, client: &Client<S::Command>, partition: i32, offset: i64, why: &str) {
        self.stopped_at(partition, offset, why);
        self.pause(client, partition);
    }

    fn stopped_at(&mut self, partition: i32, offset: i64, why: &str) {
        let Subscription { group, topic, .. } = self.subscription;
        tracing::error!(group, topic, partition, offset, why, "a message can't be handled: its partition stops here");
        self.metrics.stopped(partition, true);
        self.stopped.insert(partition);
        self.held.remove(&partition);
        self.doomed.remove(&partition);
    }

    fn pause(&mut self, client: &Client<S::Command>, partition: i32) {
        let list = self.list([partition]);
        if let Err(error) = client.pause(&list).and_then(|()| each(&list)) {
            // Not assigned any more, for one: then nothing of it comes any more either.
            tracing::warn!(group = self.subscription.group, partition, %error, "can't pause");
        }
        self.paused.insert(partition);
    }

    fn list(&self, partitions: impl IntoIterator<Item = i32>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.kafka.topic(self.subscription.topic), partition);
        }
        list
    }

    fn commit_to_kafka(&self, client: &Client<S::Command>) {
        let mut list = self.list(self.positions.all().map(|(partition, _)| partition));
        for (partition, next) in self.positions.all() {
            let _ =
                list.set_partition_offset(&self.kafka.topic(self.subscription.topic), partition, Offset::Offset(next));
        }
        if list.count() > 0
            && let Err(error) = client.commit(&list, CommitMode::Async)
        {
            tracing::debug!(group = self.subscription.group, %error, "Kafka was not told of the offsets");
        }
    }
}

/// What became of each partition of a list: a call about many goes well if it fails for all of them.
fn each(list: &TopicPartitionList) -> KafkaResult<()> {
    list.elements().iter().try_for_each(|element| element.error())
}
