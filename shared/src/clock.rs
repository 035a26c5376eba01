//! The one place that reads this machine's clock. Everything else is given the time.

use chrono::{DateTime, SubsecRound, Utc};

/// A point in time, UTC, to the microsecond: what Postgres keeps, so that a state in memory equals its row.
pub type Timestamp = DateTime<Utc>;

/// Now, by this machine's clock.
pub fn now() -> Timestamp {
    #[allow(clippy::disallowed_methods, reason = "the one reader of the clock")]
    Utc::now().trunc_subsecs(6)
}
