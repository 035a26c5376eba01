//! What stands or falls together: a caller's command, or all commands that one message from Kafka leads to.

use uuid::Uuid;

use super::{Envelope, Service, service::Domain};
use crate::clock::Timestamp;

/// Commands that are done together or not at all.
#[derive(Debug)]
pub(crate) struct Unit<C> {
    /// None, for a message that leads to nothing: only the offset moves.
    pub(crate) commands: Vec<Envelope<C>>,
    /// Where it came from, if that is Kafka.
    pub(crate) at: Option<At>,
}

/// A message's place, the topic being its consumer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// When the broker wrote it, as far as it says.
    pub(crate) written: Option<Timestamp>,
}

/// What became of a unit.
pub(crate) enum UnitOutcome<S: Domain> {
    /// Its effects are committed; a caller's command comes with the state it led to. Boxed: most of these are of messages, and go from
    /// hand to hand without one.
    Done(Option<Box<S::State>>),
    /// A caller's command that was done before, with the resource it made then.
    Before(Uuid),
    /// The request id stands for another request.
    RequestIdReused,
    /// Claimed by a request in the same batch that was refused: to be tried again.
    Again,
    /// The rules forbid it.
    Refused(S::Refusal),
    /// It can't be done, ever: a panic, or what the database rejects.
    Impossible(String),
    /// A row it needs is locked by somebody else for long.
    Locked,
    /// Somebody else has moved its partition's offset: not ours any more.
    Fenced,
    /// Not tried, for something before it on its partition was not done.
    Behind,
    /// Not done: the database can't be reached, and it was not to be waited for.
    Unavailable,
    /// Perhaps done: the commit's answer was lost, and the program ends before the database can be asked.
    Unknown,
}

impl<S: Service> UnitOutcome<S> {
    /// In a word or two, for logs.
    pub(crate) fn why(&self) -> String {
        match self {
            Self::Done(_) | Self::Before(_) => "done".to_owned(),
            Self::RequestIdReused => "its request id stands for another request".to_owned(),
            Self::Again => "to be tried again".to_owned(),
            Self::Refused(refusal) => format!("refused: {refusal:?}"),
            Self::Impossible(why) => why.clone(),
            Self::Locked => "a row stays locked".to_owned(),
            Self::Fenced => "another consumer has its partition".to_owned(),
            Self::Behind => "behind another that was not done".to_owned(),
            Self::Unavailable => "the database can't be reached".to_owned(),
            Self::Unknown => "what became of it is not known".to_owned(),
        }
    }

    /// Whether a partition can't go past this unit.
    pub(crate) fn blocks(&self) -> bool {
        !matches!(self, Self::Done(_))
    }
}
