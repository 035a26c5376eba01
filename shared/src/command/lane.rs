//! A lane: a bounded queue, and the task that takes what is waiting as one batch. Callers have one; what comes of calls of
//! other systems has another, so that neither waits for the other.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    CommandMetrics, Envelope, Patience, Refusal, Service, Unit, UnitOutcome, WriteContext, Writer,
    metrics::LaneMetrics, service::Domain,
};
use crate::{backoff::Pauses, pace::Pace};

/// The limits of a lane.
#[derive(Clone, Copy, Debug)]
pub struct LaneConfig {
    /// Commands that may wait, at least 1; one more is refused.
    pub queue: usize,
    /// Commands per transaction, at least 1.
    pub batch: usize,
    /// The least time from one transaction's beginning to the next one's, unless it is full.
    pub pace: Duration,
    /// How long, within its deadline, a call is tried again whose caller has seen an event that this service may not have heard
    /// of yet.
    pub hearing: Duration,
}

/// What a command led to.
#[derive(Clone, Debug)]
pub enum Done<State> {
    /// It was done, or had nothing left to do: the state now.
    Now(State),
    /// The request with this id was done before, and made this resource then.
    Before(Uuid),
}

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure<R> {
    /// The rules forbid it.
    Refused(R),
    /// Its request id stands for a request with another content.
    RequestIdReused,
    /// The queue is full.
    Overloaded,
    /// The database can't be reached, or what the command is about stays locked. Nothing was done.
    Unavailable,
    /// The deadline passed, or the program ends. It may have happened, or happen yet, if it had begun.
    DeadlineExceeded,
    /// A bug, or a value that the database rejects. Nothing was done.
    Internal,
}

impl<R: Refusal> Failure<R> {
    /// What [`reason`](Self::reason) says of all that isn't refused by the rules.
    pub(super) const REASONS: &[&str] =
        &["REQUEST_ID_REUSED", "OVERLOADED", "DATABASE_UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL"];

    /// In one word, as callers are told, too.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.reason(),
            Self::RequestIdReused => "REQUEST_ID_REUSED",
            Self::Overloaded => "OVERLOADED",
            Self::Unavailable => "DATABASE_UNAVAILABLE",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::Internal => "INTERNAL",
        }
    }
}

type Answer<S> = Result<Done<<S as Domain>::State>, Failure<<S as Domain>::Refusal>>;

/// A command that waits.
struct Pending<S: Service> {
    unit: Unit<S::Command>,
    deadline: Instant,
    answer: oneshot::Sender<Answer<S>>,
    /// While it is aside.
    aside: Option<Aside>,
}

/// A command that waits, without the command.
struct Asker<S: Service> {
    deadline: Instant,
    answer: oneshot::Sender<Answer<S>>,
    aside: Option<Aside>,
}

impl<S: Service> Pending<S> {
    fn new(envelope: Envelope<S::Command>, deadline: Instant, answer: oneshot::Sender<Answer<S>>) -> Self {
        Self { unit: Unit { commands: vec![envelope], at: None }, deadline, answer, aside: None }
    }

    fn of(unit: Unit<S::Command>, Asker { deadline, answer, aside }: Asker<S>) -> Self {
        Self { unit, deadline, answer, aside }
    }

    /// Its command, and whoever asked.
    fn part(self) -> (Unit<S::Command>, Asker<S>) {
        let Self { unit, deadline, answer, aside } = self;
        (unit, Asker { deadline, answer, aside })
    }

    /// What it is about: callers' commands are one a unit.
    fn root(&self) -> Option<Uuid> {
        self.unit.commands.first().map(|envelope| S::root(&envelope.command))
    }
}

/// The roots that commands aside wait for, and how many wait for each. A new command about such a root joins them: tried here,
/// it would have its whole batch wait for that lock.
#[derive(Clone, Default)]
struct Locked(Arc<Mutex<HashMap<Uuid, usize>>>);

impl Locked {
    fn has(&self, root: Uuid) -> bool {
        self.lock().contains_key(&root)
    }

    /// One more, until what is returned is dropped.
    fn one_more(&self, root: Uuid) -> Aside {
        *self.lock().entry(root).or_default() += 1;
        Aside { locked: self.clone(), root }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, usize>> {
        // Whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A command that waits aside.
struct Aside {
    locked: Locked,
    root: Uuid,
}

impl Drop for Aside {
    fn drop(&mut self) {
        let mut locked = self.locked.lock();
        if let Some(others) = locked.get_mut(&self.root) {
            *others -= 1;
            if *others == 0 {
                locked.remove(&self.root);
            }
        }
    }
}

/// The way aside.
struct WayAside<S: Service> {
    queue: mpsc::Sender<Pending<S>>,
    locked: Locked,
    measured: LaneMetrics,
}

impl<S: Service> WayAside<S> {
    fn take(&self, mut pending: Pending<S>) {
        pending.aside = pending.root().map(|root| self.locked.one_more(root));
        if let Err(full) = self.queue.try_send(pending) {
            let _ = full.into_inner().answer.send(Err(Failure::Unavailable));
        }
        self.measured.queued(self.queue.max_capacity() - self.queue.capacity());
    }
}

/// Hands commands to the write path and awaits what becomes of them. Cheap to clone.
pub struct Lane<S: Service> {
    queue: mpsc::Sender<Pending<S>>,
    hearing: Duration,
    metrics: Arc<CommandMetrics>,
    measured: Arc<LaneMetrics>,
}

impl<S: Service> Clone for Lane<S> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            hearing: self.hearing,
            metrics: self.metrics.clone(),
            measured: self.measured.clone(),
        }
    }
}

impl<S: Service> Lane<S> {
    /// Gives a command and awaits its outcome. Dropping the future doesn't take the command back: once it has begun it
    /// is finished.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn submit(&self, envelope: Envelope<S::Command>, deadline: std::time::Instant) -> Answer<S> {
        let deadline = Instant::from_std(deadline);
        let transaction = envelope.transaction.clone();
        let (answer, answered) = oneshot::channel();
        if let Err(refused) = self.queue.try_send(Pending::new(envelope, deadline, answer)) {
            let outcome = Err(match refused {
                mpsc::error::TrySendError::Full(_) => Failure::Overloaded,
                mpsc::error::TrySendError::Closed(_) => Failure::Unavailable,
            });
            self.count(&outcome);
            return outcome;
        }
        self.measured.queued(self.queue.max_capacity() - self.queue.capacity());
        let outcome = match tokio::time::timeout_at(deadline, answered).await {
            // The lane ended before it took the command.
            Ok(outcome) => outcome.unwrap_or(Err(Failure::Unavailable)),
            Err(_) => Err(Failure::DeadlineExceeded),
        };
        transaction.link_current();
        self.count(&outcome);
        outcome
    }

    /// Gives a command that nobody is in a hurry for: waits for room in the queue, and then for as long as it takes.
    ///
    /// # Errors
    ///
    /// See [`Failure`]. Unavailable: the program ends, or the database is out of reach.
    pub(crate) async fn give(&self, envelope: Envelope<S::Command>) -> Answer<S> {
        let (answer, answered) = oneshot::channel();
        let deadline = Instant::now() + NEVER;
        let transaction = envelope.transaction.clone();
        let pending = Pending::new(envelope, deadline, answer);
        self.queue.send(pending).await.map_err(|_| Failure::Unavailable)?;
        self.measured.queued(self.queue.max_capacity() - self.queue.capacity());
        let outcome = answered.await.unwrap_or(Err(Failure::Unavailable));
        transaction.link_current();
        self.count(&outcome);
        outcome
    }

    fn count(&self, outcome: &Answer<S>) {
        if let Err(failure) = outcome {
            self.metrics.refused(failure);
        }
    }

    /// Like [`submit`](Self::submit), but a refusal that may only mean that this service hasn't heard yet what its
    /// caller has is tried again, for as long as is configured, within the deadline.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn submit_when_heard(
        &self,
        envelope: impl Fn() -> Envelope<S::Command>,
        deadline: std::time::Instant,
        not_heard_yet: impl Fn(&S::Refusal) -> bool,
    ) -> Answer<S> {
        let last = (std::time::Instant::now() + self.hearing).min(deadline.checked_sub(LAST_TRY).unwrap_or(deadline));
        let mut pauses = Pauses::until(last.into());
        loop {
            let outcome = self.submit(envelope(), deadline).await;
            let again = matches!(&outcome, Err(Failure::Refused(refusal)) if not_heard_yet(refusal));
            if !again || !pauses.pause().await {
                return outcome;
            }
        }
    }
}

/// What is left of its caller's time for the last of these tries, so that it is answered with what the call lacks.
const LAST_TRY: Duration = Duration::from_millis(50);

/// The least time from a transaction that carried two commands or more to the next: where that many come at once, what a transaction
/// takes by itself is most of what commands cost, and many small ones would keep callers waiting for longer than this.
const IN_COMPANY: Duration = Duration::from_millis(5);

/// From one try of what is locked to the next.
const LOCKED_PAUSE: Duration = Duration::from_millis(100);

/// A deadline that is none: as far ahead as no process lives.
const NEVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// Whose commands a lane takes.
#[derive(Clone, Copy, Debug)]
pub struct LaneKind {
    name: &'static str,
    /// What waits for others' locks.
    aside: &'static str,
    patience: Patience,
}

impl LaneKind {
    /// Those of callers, who wait: "not now" is an answer.
    pub const CALLERS: Self = Self { name: "calls", aside: "calls-aside", patience: Patience::Caller };
    /// What came of jobs, which nobody should have to find out again.
    pub const JOBS: Self = Self { name: "jobs", aside: "jobs-aside", patience: Patience::Endless };
}

/// A lane of a service, and the task that works it off until it is told to stop and has drained.
pub fn lane<S: Service>(
    kind: LaneKind,
    config: LaneConfig,
    context: WriteContext,
    stop: CancellationToken,
) -> (Lane<S>, impl Future<Output = ()> + Send + 'static) {
    let (queue, waiting) = mpsc::channel(config.queue.max(1));
    let (set_aside, aside) = mpsc::channel(config.queue.max(1));
    let metrics = context.metrics.clone();
    let LaneKind { name, aside: aside_name, patience } = kind;
    let way_aside = WayAside { queue: set_aside, locked: Locked::default(), measured: metrics.lane(aside_name) };
    let worker = |waiting, name, aside| Worker {
        waiting,
        again: Vec::new(),
        writer: Writer::<S>::new(name, context.clone(), stop.clone()),
        patience,
        most: config.batch.max(1),
        pace: Pace::new(config.pace).in_company(IN_COMPANY),
        aside,
        stop: stop.clone(),
    };
    let (main, slow) = (worker(waiting, name, Some(way_aside)), worker(aside, aside_name, None));
    let task = async move {
        tokio::join!(main.run(), slow.run());
    };
    let measured = Arc::new(metrics.lane(name));
    (Lane { queue, hearing: config.hearing, metrics, measured }, task)
}

/// The next command that comes while `lost` is true. Loses none when it is dropped.
async fn next_while<S: Service>(
    lost: &mut watch::Receiver<bool>,
    waiting: &mut mpsc::Receiver<Pending<S>>,
) -> Option<Pending<S>> {
    lost.wait_for(|lost| *lost).await.ok()?;
    waiting.recv().await
}

/// Takes what is waiting as one batch, again and again. What is locked is handed aside, with all else that is about the
/// same, where waiting for it stands in nobody's way; there it is tried again until its deadline.
struct Worker<S: Service> {
    waiting: mpsc::Receiver<Pending<S>>,
    /// For the next batch, before all that waits.
    again: Vec<Pending<S>>,
    writer: Writer<S>,
    patience: Patience,
    /// Commands per transaction.
    most: usize,
    pace: Pace,
    /// `None`: this is the worker of what went aside.
    aside: Option<WayAside<S>>,
    stop: CancellationToken,
}

impl<S: Service> Worker<S> {
    /// Works until it is told to stop and nothing waits any more.
    async fn run(mut self) {
        while let Some(taken) = self.next_batch().await {
            let (units, askers): (Vec<_>, Vec<_>) = taken.into_iter().map(Pending::part).unzip();
            let outcomes = self.execute(&units).await;
            let mut locked = false;
            for ((unit, asker), outcome) in units.into_iter().zip(askers).zip(outcomes) {
                locked |= self.answer(unit, asker, outcome);
            }
            if locked {
                self.writer.measured().queued(self.waiting.len() + self.again.len());
                // Each try has waited for its lock already. No longer: others may have come, whose locks are free by now.
                let _ = tokio::time::timeout(LOCKED_PAUSE, self.stop.cancelled()).await;
            }
        }
    }

    /// What is to be done next, once there is something and it is time; `None` if there never will be.
    async fn next_batch(&mut self) -> Option<Vec<Pending<S>>> {
        let mut taken = std::mem::take(&mut self.again);
        while taken.is_empty() {
            let received = tokio::select! {
                received = self.waiting.recv_many(&mut taken, self.most) => received,
                () = self.stop.cancelled(), if !self.waiting.is_closed() => {
                    self.waiting.close();
                    continue;
                }
            };
            if received == 0 {
                return None;
            }
        }
        self.pace.begin(taken.len() + self.waiting.len() >= self.most).await;
        // What has come meanwhile comes along.
        while taken.len() < self.most
            && let Ok(pending) = self.waiting.try_recv()
        {
            taken.push(pending);
        }
        self.pace.carries(taken.len());
        self.writer.measured().queued(self.waiting.len());
        if let Some(aside) = &self.aside {
            let locked = |pending: &mut Pending<S>| pending.root().is_some_and(|root| aside.locked.has(root));
            taken.extract_if(.., locked).for_each(|pending| aside.take(pending));
        }
        let now = Instant::now();
        for late in taken.extract_if(.., |pending| pending.deadline <= now) {
            // Never begun, so it never happens. Whoever asked may have gone.
            let _ = late.answer.send(Err(Failure::DeadlineExceeded));
        }
        Some(taken)
    }

    async fn execute(&mut self, units: &[Unit<S::Command>]) -> Vec<UnitOutcome<S>> {
        let mut outcome_unknown = self.writer.outcome_unknown();
        let execute = self.writer.execute(units, self.most, None, self.patience, true);
        tokio::pin!(execute);
        loop {
            tokio::select! {
                outcomes = &mut execute => return outcomes,
                Some(pending) = next_while(&mut outcome_unknown, &mut self.waiting) => {
                    if *outcome_unknown.borrow() {
                        // Nothing is begun before the database is back: who asks now need not wait for that.
                        let _ = pending.answer.send(Err(Failure::Unavailable));
                    } else {
                        self.again.push(pending);
                    }
                }
            }
        }
    }

    /// Tells whoever asked, unless it is to be tried again. True if that is for a lock.
    fn answer(&mut self, unit: Unit<S::Command>, asker: Asker<S>, outcome: UnitOutcome<S>) -> bool {
        let reply = match outcome {
            UnitOutcome::Done(Some(state)) => Ok(Done::Now(*state)),
            UnitOutcome::Before(resource) => Ok(Done::Before(resource)),
            UnitOutcome::Refused(refusal) => Err(Failure::Refused(refusal)),
            UnitOutcome::RequestIdReused => Err(Failure::RequestIdReused),
            UnitOutcome::Unavailable => Err(Failure::Unavailable),
            UnitOutcome::Unknown => Err(Failure::DeadlineExceeded),
            UnitOutcome::Again => {
                self.again.push(Pending::of(unit, asker));
                return false;
            }
            UnitOutcome::Locked => match &self.aside {
                Some(aside) => {
                    aside.take(Pending::of(unit, asker));
                    return false;
                }
                // The program ends, and locks may stay for long.
                None if self.stop.is_cancelled() => Err(Failure::Unavailable),
                None => {
                    self.again.push(Pending::of(unit, asker));
                    return true;
                }
            },
            UnitOutcome::Impossible(why) => {
                tracing::error!(lane = self.writer.lane(), why, "a command can't be done");
                Err(Failure::Internal)
            }
            // Only what comes from Kafka has a partition, and none of that comes this way.
            UnitOutcome::Done(None) | UnitOutcome::Fenced | UnitOutcome::Behind => Err(Failure::Internal),
        };
        // Whoever asked may have gone; what was done stays done.
        let _ = asker.answer.send(reply);
        false
    }
}
