//! What must hold, as pure functions. In: what was seen. Out: every violation.

use crate::{Violation, case::Seen};

/// Every violation, in order.
pub fn all(seen: &Seen) -> Vec<Violation> {
    seen.violations.clone()
}
