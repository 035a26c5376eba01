//! Rows of one table: the order in which they are locked, and in memory, which of them are new or were changed.

use std::{collections::HashMap, hash::Hash};

use uuid::Uuid;

/// The ids of the rows that a batch is about, each once, in the one order in which every transaction locks them.
pub fn in_lock_order(ids: impl IntoIterator<Item = Uuid>) -> Vec<Uuid> {
    let mut ids: Vec<Uuid> = ids.into_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The rows that a batch is about, by key: what most working sets are made of.
#[derive(Debug)]
pub struct Rows<K, V> {
    rows: HashMap<K, V>,
    changes: HashMap<K, Change>,
}

/// What became of a row since it was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Inserted,
    Updated,
}

impl<K: Eq + Hash + Copy, V: PartialEq> Rows<K, V> {
    /// Rows as they were loaded.
    pub fn new(loaded: impl IntoIterator<Item = (K, V)>) -> Self {
        Self { rows: loaded.into_iter().collect(), changes: HashMap::new() }
    }

    /// The row of this key, if there is one.
    pub fn get(&self, key: K) -> Option<&V> {
        self.rows.get(&key)
    }

    /// Makes or replaces a row: it is to be saved, unless it is as it was.
    pub fn put(&mut self, key: K, row: V) {
        if self.rows.get(&key) == Some(&row) {
            return;
        }
        let change = if self.rows.insert(key, row).is_some() { Change::Updated } else { Change::Inserted };
        // What is replaced before it was ever saved is still new.
        self.changes.entry(key).or_insert(change);
    }

    /// The rows that were not there when the batch was loaded, each once, in no order.
    pub fn inserted(&self) -> Vec<&V> {
        self.with(Change::Inserted)
    }

    /// The rows that were loaded and have changed since, each once, in no order.
    pub fn updated(&self) -> Vec<&V> {
        self.with(Change::Updated)
    }

    fn with(&self, wanted: Change) -> Vec<&V> {
        let these = self.changes.iter().filter(|(_, change)| **change == wanted);
        these.filter_map(|(key, _)| self.rows.get(key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_saved_once_as_new_or_as_changed() {
        let mut rows = Rows::new([(1, "loaded"), (2, "loaded"), (3, "loaded")]);
        for (key, row) in
            [(1, "changed"), (1, "changed again"), (2, "loaded"), (4, "made"), (5, "made"), (5, "made again")]
        {
            rows.put(key, row);
        }
        let sorted = |mut rows: Vec<&&'static str>| {
            rows.sort_unstable();
            rows.into_iter().copied().collect::<Vec<_>>()
        };
        assert_eq!(sorted(rows.inserted()), ["made", "made again"]);
        assert_eq!(sorted(rows.updated()), ["changed again"]);
        assert_eq!(rows.get(3), Some(&"loaded"));
    }
}
