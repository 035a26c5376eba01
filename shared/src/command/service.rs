//! What a service tells the engine about itself.

use std::{fmt::Debug, future::Future, time::Duration};

use diesel::QueryResult;
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use crate::{clock::Timestamp, telemetry::TraceContext};

/// The rules of one service, pure: no I/O, no clock, no chance. Lives in its `domain.rs`.
pub trait Domain: Sized + Send + Sync + 'static {
    /// What a command is decided on: its aggregate, or that there is none yet.
    type State: Clone + Send + Sync + 'static;
    /// What is asked for.
    type Command: Send + Sync + 'static;
    /// What happened.
    type Event: Send + Sync;
    /// Why something is not done.
    type Refusal: Refusal;

    /// Judges a command, given at `now`, which may lie before the state's latest change. No events: it was done already.
    ///
    /// # Errors
    ///
    /// The rules forbid it. To a caller that is an answer. From Kafka it means that something is wrong, and stops the
    /// event's partition; a timer stays due; what came of a job is logged and dropped.
    fn decide(state: &Self::State, command: &Self::Command, now: Timestamp) -> Result<Vec<Self::Event>, Self::Refusal>;

    /// The state after an event. Total: whatever was decided can be applied.
    fn apply(state: Self::State, event: &Self::Event) -> Self::State;
}

/// Why a command was refused, as a value.
pub trait Refusal: Clone + Debug + Send + Sync + 'static {
    /// All that [`reason`](Self::reason) may say: what never happened reads 0.
    const REASONS: &'static [&'static str];

    /// In UPPER_SNAKE_CASE, one of few: what metrics count it by.
    fn reason(&self) -> &'static str;
}

/// How a service's state is kept. Lives in its `store.rs`.
pub trait Store: Domain {
    /// All that the commands of a batch are about.
    type Loaded: WorkingSet<Self>;

    /// The root that a command is about: the row whose lock it waits for. By it is known which commands have to wait
    /// aside once somebody else was found to hold that.
    fn root(command: &Self::Command) -> Uuid;

    /// Whether a command is expected to create its root, being the first that is ever heard of it, so that
    /// [`load`](Self::load) need not look for a row that isn't there. If a row is there all the same, for messages may come twice, a
    /// unique index must reject what the command inserts; the batch is then decided again with the row loaded. Therefore
    /// such a command, decided without a state, must be accepted and change something.
    fn creates_root(command: &Self::Command) -> bool {
        let _ = command;
        false
    }

    /// Locks the commands' roots, alone and in the order of their ids, table by table, and then reads what hangs under
    /// them by statements of their own: a join in the locking statement would show a root as it is beside children as
    /// they were.
    ///
    /// Statements are to be polled together, in order (`try_join!`), so that they travel together. `NotFound` is no error that
    /// they may end with: the writer takes it for the loss of its own row.
    fn load(
        conn: &AsyncPgConnection,
        commands: &[&Self::Command],
    ) -> impl Future<Output = QueryResult<Self::Loaded>> + Send;

    /// Writes back what is new and what was changed, in one statement per table for each of both, polled together.
    fn save(conn: &AsyncPgConnection, loaded: &Self::Loaded) -> impl Future<Output = QueryResult<()>> + Send;
}

/// States in memory between loading and saving.
pub trait WorkingSet<D: Domain>: Send + Sync {
    /// What this command is decided on.
    fn state(&self, command: &D::Command) -> D::State;

    /// That state after the command: to be saved.
    fn replace(&mut self, command: &D::Command, state: D::State);
}

/// How events become messages. Lives in a service's `events.rs`.
pub trait Publish: Domain {
    /// The message that tells others of an event, which led to this state; `None` if it is nobody else's business.
    fn publish(state: &Self::State, event: &Self::Event) -> Option<Message>;

    /// The trace in which this aggregate's story is told from its beginning, if it has one of its own. Events that
    /// another trace caused are told there all the same, with a link to their cause.
    fn story(state: &Self::State) -> Option<&TraceContext> {
        let _ = state;
        None
    }

    /// What operators see of how long these aggregates take, and how they end; nothing, unless a service has such.
    const MILESTONES: Option<Milestones> = None;

    /// The milestone that an event is, which led to this state. It is counted once its transaction has committed.
    fn milestone(state: &Self::State, event: &Self::Event) -> Option<Milestone> {
        let _ = (state, event);
        None
    }
}

/// A histogram of times, by what was reached: how long an aggregate took, and how often that happened.
#[derive(Clone, Copy, Debug)]
pub struct Milestones {
    /// Its name, in seconds.
    pub metric: &'static str,
    /// What it is, without a full stop.
    pub help: &'static str,
    /// All that there are.
    pub outcomes: &'static [&'static str],
}

/// What an aggregate has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Milestone {
    /// Which: one of [`Milestones::outcomes`].
    pub outcome: &'static str,
    /// How long after the aggregate began.
    pub after: Duration,
}

impl Milestone {
    /// Reached at a time by what began at another. Clocks of machines differ: never less than nothing.
    pub fn new(outcome: &'static str, began: Timestamp, at: Timestamp) -> Self {
        Self { outcome, after: (at - began).to_std().unwrap_or_default() }
    }
}

/// A service, as far as the write path is concerned.
pub trait Service: Store + Publish {}

impl<T: Store + Publish> Service for T {}

/// An event as others are told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Orders messages of one key among each other, and places them on a partition.
    pub key: String,
    /// The kind of event: `order.created`.
    pub kind: &'static str,
    /// The encoded protobuf.
    pub payload: Vec<u8>,
}
