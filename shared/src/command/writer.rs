//! A writer: one stream of transactions over a connection of its own. Retries what the infrastructure is to blame for,
//! finds out what became of a commit whose answer was lost, and narrows down which command the database objects to.

use std::{marker::PhantomData, time::Duration};

use diesel::{
    OptionalExtension, QueryResult,
    result::Error,
    sql_types::{BigInt, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Envelope, Service, Unit, UnitOutcome, Work, WriteContext,
    metrics::LaneMetrics,
    progress::Progress,
    transaction::{self, Decided, Source},
};
use crate::{
    backoff::Backoff,
    clock::Timestamp,
    db::{Conn, Fault, Fixed, Prepared},
    inbox::Positions,
    telemetry::{Span, Spell, TraceContext},
    timers::{Following, Timed, TimerMetrics},
};

/// How long a fault of the infrastructure is to be borne.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Somebody waits for an answer: "not now" is one.
    Caller,
    /// Others of a group would do it if this one left: it may be this one alone that can't reach the database.
    Member,
    /// Until it is over; nothing may be skipped.
    Endless,
}

impl Patience {
    /// Whether it ends with the tries so far, the first of which failed then.
    fn ends(self, tries: &Backoff, failed: Instant) -> bool {
        match self {
            Self::Caller => tries.tried() >= TRIES,
            Self::Member => failed.elapsed() >= MEMBER_FOR,
            Self::Endless => false,
        }
    }
}

/// Enough to bridge a connection that was cut, too few to keep a caller waiting for a server that is away.
const TRIES: u32 = 3;
/// Longer than a server takes to start again: if all of a group left, they would have to find each other anew.
const MEMBER_FOR: Duration = Duration::from_secs(15);

pub(crate) struct Writer<S> {
    lane: &'static str,
    context: WriteContext,
    /// The lane's own.
    measured: LaneMetrics,
    stop: CancellationToken,
    /// Whether a commit's outcome is unknown and the database that knows it out of reach.
    outcome_unknown: watch::Sender<bool>,
    conn: Option<Conn>,
    row: Option<Row>,
    /// Whether it has committed what a crash of the server may still take back.
    unflushed: bool,
    spells: Spells,
    service: PhantomData<fn() -> S>,
}

/// What may come again and again for as long as one command is in the way.
#[derive(Default)]
struct Spells {
    halving: Spell,
    unfired: Spell,
}

/// The writer's row, as far as it is known.
#[derive(Clone, Copy)]
struct Row {
    id: Uuid,
    /// The last batch known to be committed.
    batch: i64,
}

/// What came of a look for timers that are due.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Looked {
    /// How many were.
    pub(crate) found: usize,
    /// How many of them fired.
    pub(crate) fired: usize,
}

/// How an attempt ended that did not commit.
enum Failed {
    Rejected(String),
    Locked,
    /// The database can't be reached, or the program ends.
    Unavailable,
    /// The program ends before it is known whether it was committed.
    Unknown,
}

/// What became of each unit of such an attempt.
impl<S: Service> From<Failed> for UnitOutcome<S> {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Rejected(why) => Self::Impossible(why),
            Failed::Locked => Self::Locked,
            Failed::Unavailable => Self::Unavailable,
            Failed::Unknown => Self::Unknown,
        }
    }
}

/// An attempt that settled.
enum Settled<S: Service> {
    /// What became of each unit; committed, if any of them changed something.
    Done(Vec<UnitOutcome<S>>),
    /// Nothing was committed, for the sake of one unit, and what became of that.
    Blocked { culprit: usize, outcome: UnitOutcome<S> },
}

struct Register;
impl Fixed for Register {
    const SQL: &'static str = "INSERT INTO writers (id, batch) VALUES ($1, 0)";
}

struct Touch;
impl Fixed for Touch {
    const SQL: &'static str = "UPDATE writers SET moved_at = now() WHERE id = $1";
}

struct Resolve;
impl Fixed for Resolve {
    const SQL: &'static str = "SELECT batch FROM writers WHERE id = $1 FOR UPDATE";
}

#[derive(diesel::QueryableByName)]
struct Batch {
    #[diesel(sql_type = BigInt)]
    batch: i64,
}

impl<S: Service> Writer<S> {
    /// `lane` is what logs and metrics call it.
    pub(crate) fn new(lane: &'static str, context: WriteContext, stop: CancellationToken) -> Self {
        let measured = context.metrics.lane(lane);
        let outcome_unknown = watch::Sender::new(false);
        let (conn, row, spells) = (None, None, Spells::default());
        Self {
            lane,
            context,
            measured,
            stop,
            outcome_unknown,
            conn,
            row,
            unflushed: false,
            spells,
            service: PhantomData,
        }
    }

    /// What its transactions are called in logs, traces and metrics.
    pub(crate) fn lane(&self) -> &'static str {
        self.lane
    }

    /// Tells when nothing can be done before the database is back: a commit's outcome is known to it alone.
    pub(crate) fn outcome_unknown(&self) -> watch::Receiver<bool> {
        self.outcome_unknown.subscribe()
    }

    /// What it tells of its lane.
    pub(super) fn measured(&self) -> &LaneMetrics {
        &self.measured
    }

    /// Whether the program is to end.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Whether it has committed, since this was asked the last time, what a crash of the server may take back.
    pub(crate) fn take_unflushed(&mut self) -> bool {
        std::mem::take(&mut self.unflushed)
    }

    /// What this reads, once the server has flushed it, which no crash takes back then.
    ///
    /// # Errors
    ///
    /// A fault of the infrastructure, or another's lock; it is logged.
    pub(crate) async fn read_flushed<T>(
        &mut self,
        read: impl AsyncFnOnce(&AsyncPgConnection) -> QueryResult<T>,
    ) -> Result<T, ()> {
        let row = self.ready().await?;
        let Some(conn) = self.conn.as_ref() else { return Err(()) };
        // Whatever could be read lies before this in the log. Of its own row: it waits for nobody.
        let flushed = async {
            let found = read(conn).await?;
            match Prepared::<Touch, _>::with(|sql| sql.bind::<SqlUuid, _>(row.id)).execute(&mut &**conn).await? {
                1 => Ok(found),
                _ => Err(Error::NotFound),
            }
        };
        match flushed.await {
            Ok(found) => Ok(found),
            Err(error) => {
                if let Some(failed) = self.aborted(error).await {
                    let why = UnitOutcome::<S>::from(failed).why();
                    tracing::warn!(lane = self.lane, why, "what was committed can't be flushed yet");
                }
                Err(())
            }
        }
    }

    /// Does all units, in as few transactions of at most so many as the database allows, and says what became of each. `positions`
    /// are the offsets that move with them, if they came from Kafka.
    pub(crate) async fn execute(
        &mut self,
        units: &[Unit<S::Command>],
        most: usize,
        mut positions: Option<&mut Positions>,
        patience: Patience,
        answers: bool,
    ) -> Vec<UnitOutcome<S>> {
        if let Some(over) = self.spells.halving.over(Instant::now().into_std()) {
            tracing::info!(lane = self.lane, times = over.times, lasted = ?over.lasted, "batches go through whole again");
        }
        let mut progress = Progress::<S>::of(units);
        // Parts still to be done, the first on top, and whether they are a search for what is stuck.
        let all: Vec<usize> = (0..units.len()).collect();
        let mut parts: Vec<_> = all.chunks(most.max(1)).rev().map(|part| (part.to_vec(), false)).collect();
        while let Some((mut part, impatient)) = parts.pop() {
            progress.sift(&mut part);
            if part.is_empty() {
                continue;
            }
            let these: Vec<&Unit<S::Command>> = part.iter().map(|index| &units[*index]).collect();
            let moves = positions.as_deref().map(|positions| positions.moves(&these)).unwrap_or_default();
            let reads = positions.as_deref().map(Positions::source);
            let source = Source { publishes: self.context.publishes, reads };
            let work = Work { units: &these, moves: &moves, source, answers, patience, impatient };
            match self.settle(&work).await {
                Ok(Settled::Done(settled)) => {
                    if let Some(positions) = positions.as_deref_mut() {
                        positions.moved(&moves, &these, &settled);
                    }
                    part.into_iter().zip(settled).for_each(|(index, outcome)| progress.record(index, outcome));
                }
                Ok(Settled::Blocked { culprit, outcome }) => {
                    progress.record(part[culprit], outcome);
                    parts.push((part, impatient));
                }
                // What is left would only be tried as long again.
                Err(Failed::Unavailable) => break,
                // The rest of the part goes on without whatever is about that root.
                Err(Failed::Locked) if progress.lock_found(&part) => parts.push((part, true)),
                Err(Failed::Unknown) => {
                    part.into_iter().for_each(|index| progress.record(index, UnitOutcome::Unknown));
                    break;
                }
                Err(failed) if part.len() == 1 => progress.record(part[0], failed.into()),
                Err(failed) => {
                    if let Some(left_out) = self.spells.halving.happens(Instant::now().into_std()) {
                        let (lane, commands) = (self.lane, part.len());
                        tracing::info!(lane, commands, left_out, "halving a batch that did not go through");
                    }
                    self.measured.halved();
                    let second = part.split_off(part.len() / 2);
                    let search = impatient || matches!(failed, Failed::Locked);
                    parts.push((second, search));
                    parts.push((part, search));
                }
            }
        }
        progress.outcomes()
    }

    /// One transaction, however often it takes.
    async fn settle(&mut self, work: &Work<'_, S::Command>) -> Result<Settled<S>, Failed> {
        let (mut backoff, mut first_failed) = (Backoff::new(), None);
        let mut assume_new = work.creates_roots::<S>();
        loop {
            match self.attempt(work, assume_new).await {
                Ok(settled) => return Ok(settled),
                // One of them may have been there before.
                Err(Some(Failed::Rejected(_))) if assume_new => {
                    assume_new = false;
                    continue;
                }
                Err(Some(failed)) => return Err(failed),
                Err(None) => {}
            }
            let failed = *first_failed.get_or_insert_with(Instant::now);
            if self.stop.is_cancelled() || work.patience.ends(&backoff, failed) {
                return Err(Failed::Unavailable);
            }
            backoff.wait(&self.stop).await;
        }
    }

    /// Claims timers that have been due for less than `back` seconds and does what they are about, in one transaction.
    /// `follow` is told of each that fired.
    ///
    /// # Errors
    ///
    /// A fault of the infrastructure, which is logged.
    pub(crate) async fn execute_due(
        &mut self,
        limit: usize,
        back: f64,
        timers: &TimerMetrics,
        follow: Option<&dyn Following<S>>,
    ) -> Result<Looked, ()>
    where
        S: Timed,
    {
        if let Some(over) = self.spells.unfired.over(Instant::now().into_std()) {
            tracing::info!(lane = self.lane, times = over.times, lasted = ?over.lasted, "timers can be fired again");
        }
        let row = self.ready().await?;
        let Some(conn) = self.conn.as_ref() else { return Err(()) };
        let begun = Instant::now();
        let (claimed, loaded) = match transaction::claim_due::<S>(conn, row.id, row.batch + 1, limit, back).await {
            Ok(Some(claimed)) => (claimed.due, claimed.loaded),
            Ok(None) => {
                self.rollback().await;
                return Ok(Looked::default());
            }
            Err(error) => {
                if let Some(failed) = self.aborted(error).await {
                    self.unfired(&failed.into());
                }
                return Err(());
            }
        };
        let due: Vec<Timestamp> = claimed.iter().map(|due| due.at).collect();
        let (units, spans): (Vec<_>, Vec<_>) = claimed
            .into_iter()
            .map(|due| {
                let span = Span::timer(due.trace.as_ref(), self.lane);
                let commands = vec![Envelope::new(due.command, span.context().clone())];
                (Unit { commands, at: None }, span)
            })
            .unzip();
        let these: Vec<&Unit<S::Command>> = units.iter().collect();
        let source = Source { publishes: self.context.publishes, reads: None };
        let answers = follow.is_some();
        let work = Work { units: &these, moves: &[], source, answers, patience: Patience::Endless, impatient: false };
        let settled = match loaded {
            Ok(loaded) => self.finish(transaction::decide_due::<S>(&work, loaded), row, &work, begun).await,
            Err(error) => Err(self.aborted(error).await),
        };
        let outcomes = match settled {
            Ok(Settled::Done(outcomes)) => outcomes,
            // Nothing is left of the attempt, or what is will be found by whoever looks next.
            Err(None | Some(Failed::Unknown)) => return Err(()),
            // One of them is at fault: the ordinary way finds out which.
            _ => self.execute(&units, units.len(), None, Patience::Endless, answers).await,
        };
        if let Some(follow) = follow {
            let commands = units.iter().flat_map(|unit| &unit.commands);
            for ((envelope, span), outcome) in commands.zip(&spans).zip(&outcomes) {
                if let UnitOutcome::Done(Some(state)) = outcome {
                    follow.fired(&envelope.command, state, span);
                }
            }
        }
        for (envelope, span) in units.iter().flat_map(|unit| &unit.commands).zip(spans) {
            envelope.transaction.link(&span);
        }
        timers.fired(outcomes.iter().zip(due).filter(|(outcome, _)| !outcome.blocks()).map(|(_, at)| at));
        let failed = outcomes.iter().filter(|outcome| outcome.blocks());
        for outcome in failed.clone() {
            // Looked for again, and found again.
            self.unfired(outcome);
        }
        // They stay due, and hold up no other.
        Ok(Looked { found: outcomes.len(), fired: outcomes.len() - failed.count() })
    }

    /// Says so, now and then.
    fn unfired(&self, outcome: &UnitOutcome<S>) {
        if let Some(left_out) = self.spells.unfired.happens(Instant::now().into_std()) {
            tracing::error!(lane = self.lane, why = outcome.why(), left_out, "a timer can't be fired");
        }
    }

    /// Tries once; `assume_new` as for [`transaction::begin`]. `Err(None)` is a fault of the infrastructure that left nothing behind.
    async fn attempt(&mut self, work: &Work<'_, S::Command>, assume_new: bool) -> Result<Settled<S>, Option<Failed>> {
        let row = self.ready().await.map_err(|()| None)?;
        // Just made ready.
        let Some(conn) = self.conn.as_ref() else { return Err(None) };
        let begun = Instant::now();
        match transaction::begin::<S>(conn, row.id, row.batch + 1, work, assume_new).await {
            Ok(decided) => self.finish(decided, row, work, begun).await,
            Err(error) => Err(self.aborted(error).await),
        }
    }

    /// From the decision to the commit.
    async fn finish(
        &mut self,
        decided: Decided<S>,
        row: Row,
        work: &Work<'_, S::Command>,
        begun: Instant,
    ) -> Result<Settled<S>, Option<Failed>> {
        let ready = match decided {
            Decided::Ready(ready) => ready,
            Decided::Blocked { culprit, outcome } => {
                self.rollback().await;
                return Ok(Settled::Blocked { culprit, outcome });
            }
        };
        if !ready.dirty {
            self.rollback().await;
            return Ok(Settled::Done(ready.outcomes));
        }
        let batch = row.batch + 1;
        let size = work.units.len();
        let commands = work.units.iter().flat_map(|unit| &unit.commands);
        let links: Vec<TraceContext> =
            commands.map(|envelope| &envelope.trace).filter(|trace| trace.sampled()).cloned().collect();
        let span = Span::transaction(self.lane, size, work.source.reads, &links);
        let decided_at = Instant::now();
        let Some(conn) = self.conn.as_ref() else { return Err(None) };
        if let Err(error) = transaction::commit(conn, &ready).await {
            match conn.fault(&error) {
                Fault::Infrastructure => {
                    tracing::warn!(lane = self.lane, %error, "what became of a commit has to be found out");
                    self.measured.faulted();
                    self.conn = None;
                    match self.find_out(row.id, batch, work.patience).await {
                        Some(true) => {}
                        known => {
                            span.error("COMMIT_LOST");
                            return Err(known.is_none().then_some(Failed::Unknown));
                        }
                    }
                }
                fault => {
                    span.error(if fault == Fault::Locked { "LOCKED" } else { "REJECTED" });
                    return Err(self.void(fault, error).await);
                }
            }
        }
        self.row = Some(Row { batch, ..row });
        self.unflushed |= ready.unobserved;
        if ready.events() > 0 {
            self.context.wake_relay.notify_one();
        }
        work.units.iter().flat_map(|unit| &unit.commands).for_each(|envelope| envelope.transaction.tell(&span));
        drop(span);
        self.measured.committed(size, ready.events(), begun.elapsed(), decided_at.elapsed());
        self.context.metrics.reached(ready.reached());
        Ok(Settled::Done(ready.outcomes))
    }

    /// An error before COMMIT was sent: nothing is committed.
    async fn aborted(&mut self, error: Error) -> Option<Failed> {
        if matches!(error, Error::NotFound) {
            tracing::warn!(
                lane = self.lane,
                "the writer's row is gone, or was set back by a crash: starting over with another"
            );
            self.row = None;
            self.rollback().await;
            return None;
        }
        let fault = self.conn.as_ref().map_or(Fault::Infrastructure, |conn| conn.fault(&error));
        self.void(fault, error).await
    }

    async fn void(&mut self, fault: Fault, error: Error) -> Option<Failed> {
        match fault {
            Fault::Rejected => {
                self.rollback().await;
                Some(Failed::Rejected(error.to_string()))
            }
            Fault::Locked => {
                self.rollback().await;
                Some(Failed::Locked)
            }
            Fault::Infrastructure => {
                tracing::warn!(lane = self.lane, %error, "a transaction failed, and will be tried again");
                self.measured.faulted();
                self.conn = None;
                None
            }
        }
    }

    async fn rollback(&mut self) {
        if let Some(conn) = &mut self.conn {
            match conn.batch_execute("ROLLBACK").await {
                Ok(()) => conn.forget_errors(),
                Err(_) => self.conn = None,
            }
        }
    }

    /// A connection and a registered row.
    async fn ready(&mut self) -> Result<Row, ()> {
        if self.conn.is_none() {
            match self.context.database.connect_writer().await {
                Ok(conn) => self.conn = Some(conn),
                Err(error) => {
                    tracing::warn!(lane = self.lane, %error, "no connection to write with");
                    self.measured.faulted();
                    return Err(());
                }
            }
        }
        if let Some(row) = self.row {
            return Ok(row);
        }
        let row = Row { id: Uuid::now_v7(), batch: 0 };
        match self.register(row.id).await {
            Ok(_) => {
                self.row = Some(row);
                Ok(row)
            }
            Err(error) => {
                tracing::warn!(lane = self.lane, %error, "can't register a writer");
                self.conn = None;
                Err(())
            }
        }
    }

    async fn register(&self, id: Uuid) -> QueryResult<usize> {
        let Some(conn) = self.conn.as_ref() else { return Err(Error::NotFound) };
        Prepared::<Register, _>::with(|sql| sql.bind::<SqlUuid, _>(id)).execute(&mut &**conn).await
    }

    /// Whether a batch whose COMMIT was sent got through. Locking the writer's row waits for the backend that may still
    /// be at it. Does not give up while the program runs: to guess would be to do things twice, or not at all. `None`: the
    /// program ends; or offsets will tell, by which a member of a group goes on.
    async fn find_out(&mut self, writer: Uuid, batch: i64, patience: Patience) -> Option<bool> {
        let committed = self.resolve(writer, batch, patience).await;
        self.outcome_unknown.send_replace(false);
        committed
    }

    async fn resolve(&mut self, writer: Uuid, batch: i64, patience: Patience) -> Option<bool> {
        let (mut backoff, failed) = (Backoff::new(), Instant::now());
        loop {
            if let Ok(conn) = self.context.database.connect_writer().await {
                let found = Prepared::<Resolve, _>::with(|sql| sql.bind::<SqlUuid, _>(writer))
                    .get_result::<Batch>(&mut &*conn)
                    .await
                    .optional();
                match found {
                    Ok(found) => {
                        let committed = found.is_some_and(|row| row.batch == batch);
                        tracing::info!(lane = self.lane, committed, "the writer's row told what became of the commit");
                        self.conn = Some(conn);
                        return Some(committed);
                    }
                    Err(error) => tracing::warn!(lane = self.lane, %error, "can't tell yet what became of a commit"),
                }
            }
            let left_to_offsets = patience == Patience::Member && patience.ends(&backoff, failed);
            if left_to_offsets || (self.stop.is_cancelled() && backoff.tried() >= TRIES) {
                return None;
            }
            if backoff.tried() >= TRIES {
                self.outcome_unknown.send_replace(true);
            }
            backoff.wait(&self.stop).await;
        }
    }
}
