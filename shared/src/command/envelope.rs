//! A command with what belongs to it and not to the attempt: when it was given, by whose trace, once or many times.

use super::Claim;
use crate::{
    clock::{self, Timestamp},
    telemetry::{Later, TraceContext},
};

/// A command on its way.
#[derive(Debug)]
pub struct Envelope<C> {
    /// What is asked for.
    pub command: C,
    /// When it was asked, and not when it is decided: what waited for a lock may be older than the state that it meets.
    pub now: Timestamp,
    /// The span of the work that asked.
    pub trace: TraceContext,
    /// What makes repeating it harmless, if its caller wants that.
    pub claim: Option<Claim>,
    /// The transaction that does it, once there is one.
    pub(crate) transaction: Later,
}

impl<C> Envelope<C> {
    /// A command given now.
    pub fn new(command: C, trace: TraceContext) -> Self {
        Self::at(clock::now(), command, trace)
    }

    /// A command given then.
    pub(crate) fn at(now: Timestamp, command: C, trace: TraceContext) -> Self {
        let transaction = Later::of(&trace);
        Self { command, now, trace, claim: None, transaction }
    }

    /// With what makes it done once, however often it comes, if its caller gave that.
    #[must_use]
    pub fn with_claim(mut self, claim: Option<Claim>) -> Self {
        self.claim = claim;
        self
    }
}
