//! One transaction: from BEGIN to COMMIT in two round trips (three where a claim of timers does not bring all).

use diesel::{
    QueryResult,
    result::Error,
    sql_types::{Array, BigInt, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::{
    Envelope, Milestone, Patience, Service, Unit, UnitOutcome,
    batch::{self, Effects, Verdict},
    claims::{self, Claim, Claimed, Claims},
};
use crate::{
    clock::Timestamp,
    db::{Fixed, Prepared},
    outbox,
    timers::{ClaimedDue, Timed},
};

/// What a transaction is to do.
pub(crate) struct Work<'a, C> {
    /// The units, in their order.
    pub(crate) units: &'a [&'a Unit<C>],
    /// The offsets that move with them.
    pub(crate) moves: &'a [Move],
    pub(crate) source: Source<'a>,
    /// Whether callers wait for the states that their commands led to.
    pub(crate) answers: bool,
    /// How long a fault of the infrastructure is to be borne.
    pub(crate) patience: Patience,
    /// Wait for locks for 10 ms instead of a second: a part of a batch that is searched for what is locked.
    pub(crate) impatient: bool,
}

impl<C> Work<'_, C> {
    fn commands(&self) -> impl Iterator<Item = &C> {
        self.units.iter().flat_map(|unit| &unit.commands).map(|envelope| &envelope.command)
    }

    /// Whether some of its commands are expected to create what they are about.
    pub(super) fn creates_roots<S: Service<Command = C>>(&self) -> bool {
        self.commands().any(S::creates_root)
    }
}

/// Who reads what, and what is told about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    /// The topic that this service's events go to.
    pub(crate) publishes: &'static str,
    /// The group and topic that the units' offsets are of.
    pub(crate) reads: Option<(&'a str, &'a str)>,
}

/// The offset of a partition, moved with the effects of the messages before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) partition: i32,
    /// What the database is believed to hold.
    pub(crate) expected: i64,
    pub(crate) next: i64,
    /// When the broker wrote the message before that.
    pub(crate) written: Option<Timestamp>,
}

/// A transaction that has decided and not yet committed.
pub(super) enum Decided<S: Service> {
    /// To be committed.
    Ready(Box<Ready<S>>),
    /// A unit that a message brought can't be done, and what became of it. What lies behind it is not decided.
    Blocked { culprit: usize, outcome: UnitOutcome<S> },
}

pub(super) struct Ready<S: Service> {
    /// One for each unit.
    pub(super) outcomes: Vec<UnitOutcome<S>>,
    loaded: S::Loaded,
    effects: Effects,
    forget: Vec<Claim>,
    /// Whether nobody hears of it: no caller, and no reader of events. Its flush isn't waited for then, for if it is lost in a crash
    /// of the server, its offsets are too, and its messages are read again. What depends on it is committed later, and can't be
    /// flushed without it.
    pub(super) unobserved: bool,
    /// Whether there is anything that a commit would keep.
    pub(super) dirty: bool,
}

impl<S: Service> Ready<S> {
    pub(super) fn events(&self) -> usize {
        self.effects.outgoing.len()
    }

    pub(super) fn reached(&self) -> &[Milestone] {
        &self.effects.reached
    }
}

struct Begin;
impl Fixed for Begin {
    const SQL: &'static str = "BEGIN";
}

struct Impatient;
impl Fixed for Impatient {
    // A search for a locked root takes some of these, in which nobody else gets anything done. What is misjudged for
    // being locked just then waits aside, where there is time.
    const SQL: &'static str = "SET LOCAL lock_timeout = '10ms'";
}

struct Commit;
impl Fixed for Commit {
    const SQL: &'static str = "COMMIT";
}

struct Unflushed;
impl Fixed for Unflushed {
    const SQL: &'static str = "SET LOCAL synchronous_commit = off";
}

struct MoveWriter;
impl Fixed for MoveWriter {
    const SQL: &'static str = "UPDATE writers SET batch = $2, moved_at = now() WHERE id = $1 AND batch = $2 - 1";
}

struct MoveBoth;
impl Fixed for MoveBoth {
    // One statement where two would do: each has a price that doesn't depend on its rows. The offsets are locked in
    // order first, so that a consumer that lost its partitions and the one that has them now wait for each other in one
    // order.
    const SQL: &'static str = "\
        WITH writer AS (UPDATE writers SET batch = $2, moved_at = now() WHERE id = $1 AND batch = $2 - 1 RETURNING id), \
        mine AS (SELECT * FROM unnest($5, $6, $7, $8) AS mine (partition, expected, next, written)), \
        locked AS ( \
            SELECT partition FROM inbox_offsets \
            WHERE consumer_group = $3 AND topic = $4 AND partition = ANY ($5) ORDER BY partition FOR UPDATE), \
        moved AS ( \
            UPDATE inbox_offsets held \
            SET next_offset = mine.next, last_offset = mine.next - 1, last_written = mine.written \
            FROM mine JOIN locked USING (partition) \
            WHERE held.consumer_group = $3 AND held.topic = $4 AND held.partition = mine.partition \
                AND held.next_offset = mine.expected \
            RETURNING held.partition) \
        SELECT (SELECT count(*) FROM writer) AS writers, ARRAY(SELECT partition FROM moved) AS partitions";
}

#[derive(diesel::QueryableByName)]
struct Moved {
    #[diesel(sql_type = BigInt)]
    writers: i64,
    #[diesel(sql_type = Array<Integer>)]
    partitions: Vec<i32>,
}

/// Statements of the transaction itself go the same way as all others, as prepared ones: futures that are polled
/// together then reach the server in their order even while some statement is being prepared for the first time.
async fn run<T: Fixed>(conn: &AsyncPgConnection) -> QueryResult<()> {
    Prepared::<T, _>::with(|sql| sql).execute(&mut &*conn).await?;
    Ok(())
}

async fn move_writer(conn: &AsyncPgConnection, writer: Uuid, batch: i64) -> QueryResult<()> {
    let moved = Prepared::<MoveWriter, _>::with(|sql| sql.bind::<SqlUuid, _>(writer).bind::<BigInt, _>(batch))
        .execute(&mut &*conn)
        .await?;
    // Cleaned away after days of idling, or moved by who knows whom: the writer starts over with another row.
    if moved == 1 { Ok(()) } else { Err(Error::NotFound) }
}

/// Moves the writer's row, and the offsets if there are any to move. The partitions whose offset moved: those that are
/// still ours.
async fn move_on<C>(conn: &AsyncPgConnection, writer: Uuid, batch: i64, work: &Work<'_, C>) -> QueryResult<Vec<i32>> {
    let moves = work.moves;
    let Some((group, topic)) = work.source.reads.filter(|_| !moves.is_empty()) else {
        move_writer(conn, writer, batch).await?;
        return Ok(Vec::new());
    };
    let moved = Prepared::<MoveBoth, _>::with(|sql| {
        sql.bind::<SqlUuid, _>(writer)
            .bind::<BigInt, _>(batch)
            .bind::<Text, _>(group)
            .bind::<Text, _>(topic)
            .bind::<Array<Integer>, _>(moves.iter().map(|held| held.partition).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(moves.iter().map(|held| held.expected).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(moves.iter().map(|held| held.next).collect::<Vec<_>>())
            .bind::<Array<Nullable<Timestamptz>>, _>(moves.iter().map(|held| held.written).collect::<Vec<_>>())
    })
    // Its one row is read to the end: an error that comes behind it must not be missed.
    .load::<Moved>(&mut &*conn)
    .await?;
    match moved.into_iter().next() {
        Some(moved) if moved.writers == 1 => Ok(moved.partitions),
        _ => Err(Error::NotFound),
    }
}

/// The first half: everything up to the decision. The transaction stays open. `assume_new`: what is expected to
/// be created isn't looked for.
pub(super) async fn begin<S: Service>(
    conn: &AsyncPgConnection,
    writer: Uuid,
    batch: i64,
    work: &Work<'_, S::Command>,
    assume_new: bool,
) -> QueryResult<Decided<S>> {
    let commands: Vec<&S::Command> =
        work.commands().filter(|command| !(assume_new && S::creates_root(command))).collect();
    let wanted: Vec<&Claim> =
        work.units.iter().flat_map(|unit| &unit.commands).filter_map(|envelope| envelope.claim.as_ref()).collect();
    let patience = async { if work.impatient { run::<Impatient>(conn).await } else { Ok(()) } };
    let (_, _, moved, claims, loaded) = futures_util::try_join!(
        run::<Begin>(conn),
        patience,
        move_on(conn, writer, batch, work),
        claims::claim(conn, &wanted),
        S::load(conn, &commands),
    )?;
    Ok(decide_units(work, &moved, &claims, loaded))
}

/// The beginning of a transaction about what is due: what was claimed, with what it is about.
pub(super) async fn claim_due<S: Timed>(
    conn: &AsyncPgConnection,
    writer: Uuid,
    batch: i64,
    limit: usize,
    back: f64,
) -> QueryResult<Option<ClaimedDue<S>>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let (_, _, due) =
        futures_util::try_join!(run::<Begin>(conn), move_writer(conn, writer, batch), S::claim_due(conn, limit, back))?;
    Ok(due)
}

/// The decision in that transaction.
pub(super) fn decide_due<S: Timed>(work: &Work<'_, S::Command>, loaded: S::Loaded) -> Decided<S> {
    decide_units(work, &[], &Claims::default(), loaded)
}

/// Decides every unit whose partition is still ours and whose request was not done before.
fn decide_units<S: Service>(
    work: &Work<'_, S::Command>,
    moved: &[i32],
    claims: &Claims,
    loaded: S::Loaded,
) -> Decided<S> {
    let mut deciding =
        Deciding::<S> { work, claims, loaded, effects: Effects::default(), void: Vec::new(), changed: false };
    let mut outcomes = Vec::with_capacity(work.units.len());
    for (index, unit) in work.units.iter().enumerate() {
        let outcome = match unit.at {
            Some(at) if !moved.contains(&at.partition) => UnitOutcome::Fenced,
            at => {
                let outcome = deciding.unit(unit);
                // What its earlier commands have changed in memory can't be undone, and nothing more may be judged by that: the
                // attempt is void, and the writer tries again without it.
                if at.is_some() && outcome.blocks() {
                    return Decided::Blocked { culprit: index, outcome };
                }
                outcome
            }
        };
        outcomes.push(outcome);
    }
    let accepted_claims = outcomes.iter().zip(work.units).any(|(outcome, unit)| {
        matches!(outcome, UnitOutcome::Done(_)) && unit.commands.iter().any(|envelope| envelope.claim.is_some())
    });
    let Deciding { loaded, effects, void, changed, .. } = deciding;
    let dirty = changed || accepted_claims || !moved.is_empty();
    let forget = void.into_iter().map(|(claim, _)| claim.clone()).collect();
    let unobserved = work.source.reads.is_some() && effects.outgoing.is_empty();
    Decided::Ready(Box::new(Ready { outcomes, loaded, effects, forget, unobserved, dirty }))
}

/// A batch that is being decided, command by command.
struct Deciding<'a, S: Service> {
    work: &'a Work<'a, S::Command>,
    claims: &'a Claims,
    loaded: S::Loaded,
    effects: Effects,
    void: Vec<(&'a Claim, Void<S>)>,
    /// Whether anything of what was loaded has changed.
    changed: bool,
}

impl<'a, S: Service> Deciding<'a, S> {
    /// All commands of a unit, up to one that can't be done.
    fn unit(&mut self, unit: &'a Unit<S::Command>) -> UnitOutcome<S> {
        let mut outcome = UnitOutcome::Done(None);
        for envelope in &unit.commands {
            outcome = self.command(envelope);
            if outcome.blocks() {
                break;
            }
        }
        outcome
    }

    fn command(&mut self, envelope: &'a Envelope<S::Command>) -> UnitOutcome<S> {
        if let Some(answered) = claimed(self.claims, envelope, &self.void) {
            return answered;
        }
        match batch::decide_one::<S>(&mut self.loaded, envelope, self.work.source.publishes, &mut self.effects) {
            Verdict::Accepted { changed } => {
                self.changed |= changed;
                UnitOutcome::Done(self.work.answers.then(|| Box::new(state::<S>(&self.loaded, envelope))))
            }
            Verdict::Refused(refusal) => {
                self.void.extend(envelope.claim.as_ref().map(|claim| (claim, Void::Refused(refusal.clone()))));
                UnitOutcome::Refused(refusal)
            }
            Verdict::Panicked(message) => {
                self.void.extend(envelope.claim.as_ref().map(|claim| (claim, Void::Panicked)));
                UnitOutcome::Impossible(message)
            }
        }
    }
}

fn state<S: Service>(loaded: &S::Loaded, envelope: &Envelope<S::Command>) -> S::State {
    use super::WorkingSet;
    loaded.state(&envelope.command)
}

/// Why a claim of this batch is taken back: its command was not done, which isn't remembered.
enum Void<S: Service> {
    Refused(S::Refusal),
    Panicked,
}

/// The answer to a request that its id alone decides; `None` if it is the first.
fn claimed<S: Service>(
    claims: &Claims,
    envelope: &Envelope<S::Command>,
    void: &[(&Claim, Void<S>)],
) -> Option<UnitOutcome<S>> {
    let claim = envelope.claim.as_ref()?;
    let first_is_void = |resource| void.iter().find(|(first, _)| first.resource() == resource);
    match claims.of(claim) {
        Claimed::First => None,
        Claimed::Again { resource } => Some(match first_is_void(resource) {
            // The same request at the same instant: the same answer.
            Some((_, Void::Refused(refusal))) => UnitOutcome::Refused(refusal.clone()),
            Some((_, Void::Panicked)) => UnitOutcome::Impossible("the same request has just panicked".to_owned()),
            None => UnitOutcome::Before(resource),
        }),
        Claimed::Reused { resource } => Some(match first_is_void(resource) {
            Some(_) => UnitOutcome::Again,
            None => UnitOutcome::RequestIdReused,
        }),
    }
}

/// The second half: what was decided, and the commit. Once it has been sent, only the writer's row says what became of
/// it.
pub(super) async fn commit<S: Service>(conn: &AsyncPgConnection, ready: &Ready<S>) -> QueryResult<()> {
    let forget: Vec<&Claim> = ready.forget.iter().collect();
    let unflushed = async { if ready.unobserved { run::<Unflushed>(conn).await } else { Ok(()) } };
    // After an error the server skips the COMMIT if it came with what failed, and answers it with a rollback if it came later;
    // that error is the result here, for an answer to COMMIT counts only when all before it went well.
    futures_util::try_join!(
        S::save(conn, &ready.loaded),
        claims::forget(conn, &forget),
        outbox::append(conn, &ready.effects.outgoing),
        unflushed,
        run::<Commit>(conn),
    )?;
    Ok(())
}
