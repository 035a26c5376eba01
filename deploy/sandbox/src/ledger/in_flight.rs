//! Which idempotency keys have a request under way in this process.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The keys under way. All clones are one.
#[derive(Clone, Default)]
pub(super) struct InFlight(Arc<Mutex<HashSet<String>>>);

/// A key that is under way until this is dropped. It goes along with the instruction, not with its caller, who may hang up.
pub(super) struct Held {
    key: String,
    of: InFlight,
}

impl InFlight {
    /// Takes a key; `None` if somebody has it.
    pub(super) fn hold(&self, key: &str) -> Option<Held> {
        self.keys().insert(key.to_owned()).then(|| Held { key: key.to_owned(), of: self.clone() })
    }

    fn keys(&self) -> MutexGuard<'_, HashSet<String>> {
        // Whole at any time: inserting and removing are one step each.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.keys().remove(&self.key);
    }
}
