//! The rules of counters, pure. Two of them are traps for the engine's tests: a title and a number that panic.

use shared::{
    clock::Timestamp,
    command::{self, Domain},
    id::Id,
    user::UserId,
    version::Version,
};

/// Marks ids of counters.
pub enum CounterKind {}
/// A counter's id.
pub type CounterId = Id<CounterKind>;

/// To be added, this panics.
pub const PANICS: i32 = 13;

/// A counter as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Counter {
    /// Which.
    pub id: CounterId,
    /// Who made it.
    pub owner: UserId,
    /// What it is called.
    pub title: String,
    /// Where it is.
    pub value: i32,
    /// What it never goes above.
    pub limit: i32,
    /// Counts its changes.
    pub version: Version,
    /// When it begins again at 0.
    pub resets_at: Option<Timestamp>,
}

/// What is asked of this service.
#[derive(Clone, Debug)]
pub enum Command {
    /// Somebody wants a counter.
    Create {
        /// Its id.
        id: CounterId,
        /// Who wants it.
        owner: UserId,
        /// What it is to be called.
        title: String,
        /// What it never goes above.
        limit: i32,
        /// When it is to begin again at 0, if at all.
        resets_at: Option<Timestamp>,
    },
    /// Its owner moves it on.
    Increment {
        /// Which.
        id: CounterId,
        /// Who asks.
        caller: UserId,
        /// How far.
        by: i32,
    },
    /// Another service moves it on, and makes it if nobody has.
    Add {
        /// Which.
        id: CounterId,
        /// How far.
        by: i32,
    },
    /// Its time has come, by the database's clock.
    Reset(CounterId),
}

impl Command {
    /// The counter that it is about.
    pub fn counter(&self) -> CounterId {
        match self {
            Self::Create { id, .. } | Self::Increment { id, .. } | Self::Add { id, .. } | Self::Reset(id) => *id,
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A counter was made.
    Created(Counter),
    /// It was moved on.
    Incremented {
        /// How far.
        by: i32,
    },
    /// It began again at 0.
    Reset,
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such counter.
    NotFound,
    /// It is somebody else's.
    NotTheOwner,
    /// It would go above its limit.
    LimitReached {
        /// Where it is.
        value: i32,
    },
    /// Counters only go up.
    NotUpwards,
}

impl command::Refusal for Refusal {
    const REASONS: &'static [&'static str] = &["NOT_FOUND", "NOT_THE_OWNER", "LIMIT_REACHED", "NOT_UPWARDS"];

    fn reason(&self) -> &'static str {
        match self {
            Self::NotFound => "NOT_FOUND",
            Self::NotTheOwner => "NOT_THE_OWNER",
            Self::LimitReached { .. } => "LIMIT_REACHED",
            Self::NotUpwards => "NOT_UPWARDS",
        }
    }
}

/// The service, as the engine knows it.
pub struct Counters;

impl Domain for Counters {
    type State = Option<Counter>;
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(state: &Option<Counter>, command: &Command, _: Timestamp) -> Result<Vec<Event>, Refusal> {
        match (command, state) {
            // An echo.
            (Command::Create { .. }, Some(_)) => Ok(vec![]),
            (Command::Create { id, owner, title, limit, resets_at }, None) => {
                assert!(title != "panic", "asked to");
                let (id, owner, title) = (*id, owner.clone(), title.clone());
                Ok(vec![Event::Created(made(id, owner, title, *limit, *resets_at))])
            }
            (Command::Increment { .. }, None) => Err(Refusal::NotFound),
            (Command::Increment { caller, by, .. }, Some(counter)) => {
                if *caller != counter.owner {
                    return Err(Refusal::NotTheOwner);
                }
                Ok(vec![incremented(counter, *by)?])
            }
            (Command::Add { by, .. }, Some(counter)) => Ok(vec![incremented(counter, *by)?]),
            (Command::Add { id, by }, None) => {
                let owner = UserId::from_stored("nobody");
                let counter = made(*id, owner, "asked for".to_owned(), i32::MAX, None);
                let first = incremented(&counter, *by)?;
                Ok(vec![Event::Created(counter), first])
            }
            (Command::Reset(_), None) => Ok(vec![]),
            // Whether it was due at all is not asked: a timer that fires twice shows.
            (Command::Reset(_), Some(counter)) => {
                assert!(counter.title != "panic when due", "asked to");
                Ok(vec![Event::Reset])
            }
        }
    }

    fn apply(state: Option<Counter>, event: &Event) -> Option<Counter> {
        match event {
            Event::Created(counter) => Some(counter.clone()),
            Event::Incremented { by } => state.map(|counter| Counter {
                value: counter.value.saturating_add(*by),
                version: counter.version.next(),
                ..counter
            }),
            Event::Reset => {
                state.map(|counter| Counter { value: 0, resets_at: None, version: counter.version.next(), ..counter })
            }
        }
    }
}

fn made(id: CounterId, owner: UserId, title: String, limit: i32, resets_at: Option<Timestamp>) -> Counter {
    Counter { id, owner, title, value: 0, limit, version: Version::FIRST, resets_at }
}

fn incremented(counter: &Counter, by: i32) -> Result<Event, Refusal> {
    assert!(by != PANICS, "asked to");
    if by < 1 {
        return Err(Refusal::NotUpwards);
    }
    match counter.value.checked_add(by) {
        Some(value) if value <= counter.limit => Ok(Event::Incremented { by }),
        _ => Err(Refusal::LimitReached { value: counter.value }),
    }
}
