//! Versions: how many changes a state has seen.

use std::fmt;

/// Counts the changes of one aggregate's state, from 1. No offset, no sequence number, no schema version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(i64);

impl Version {
    /// Of what has never changed: it does not exist.
    pub const NONE: Self = Self(0);
    /// Of what has just been made.
    pub const FIRST: Self = Self(1);

    /// A version as it was stored or sent.
    pub const fn from_i64(number: i64) -> Self {
        Self(number)
    }

    /// The bare number, for databases and messages.
    pub const fn as_i64(self) -> i64 {
        self.0
    }

    /// The version after one more change.
    #[must_use]
    pub const fn next(self) -> Self {
        // Two to the 63 changes of one aggregate don't fit into any lifetime; staying put beats wrapping all the same.
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
