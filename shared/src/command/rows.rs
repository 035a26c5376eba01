//! Rows of one table: the order in which they are locked, and in memory, which of them are new or were changed.

use std::hash::Hash;

use indexmap::{IndexMap, map::Entry};
use uuid::Uuid;

/// The ids of the rows that a batch is about, each once, in the one order in which every transaction locks them.
pub fn in_lock_order(ids: impl IntoIterator<Item = Uuid>) -> Vec<Uuid> {
    let mut ids: Vec<Uuid> = ids.into_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The rows that a batch is about, by key: what most working sets are made of. They stay in the order in which they came: ids
/// that are made one after the other go into an index one beside the other, and not all over it.
#[derive(Debug)]
pub struct Rows<K, V>(IndexMap<K, Row<V>>);

#[derive(Debug)]
struct Row<V> {
    value: V,
    change: Change,
}

/// What became of a row since it was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    Inserted,
    Updated,
}

impl<K: Eq + Hash, V: PartialEq> Rows<K, V> {
    /// Rows as they were loaded.
    pub fn new(loaded: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(loaded.into_iter().map(|(key, value)| (key, Row { value, change: Change::None })).collect())
    }

    /// The row of this key, if there is one.
    pub fn get(&self, key: K) -> Option<&V> {
        self.0.get(&key).map(|row| &row.value)
    }

    /// Makes or replaces a row: it is to be saved, unless it is as it was.
    pub fn put(&mut self, key: K, value: V) {
        match self.0.entry(key) {
            Entry::Vacant(place) => {
                place.insert(Row { value, change: Change::Inserted });
            }
            Entry::Occupied(mut held) => {
                let row = held.get_mut();
                if row.value == value {
                    return;
                }
                row.value = value;
                // What is replaced before it was ever saved is still new.
                if row.change == Change::None {
                    row.change = Change::Updated;
                }
            }
        }
    }

    /// The rows that were not there when the batch was loaded, each once, in the order in which they were made.
    pub fn inserted(&self) -> Vec<&V> {
        self.with(Change::Inserted)
    }

    /// The rows that were loaded and have changed since, each once, in the order in which they were loaded.
    pub fn updated(&self) -> Vec<&V> {
        self.with(Change::Updated)
    }

    fn with(&self, wanted: Change) -> Vec<&V> {
        self.0.values().filter(|row| row.change == wanted).map(|row| &row.value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_saved_once_as_new_or_as_changed() {
        let mut rows = Rows::new([(1, "loaded"), (2, "loaded"), (3, "loaded")]);
        for (key, row) in
            [(1, "changed"), (1, "changed again"), (2, "loaded"), (5, "made"), (4, "made later"), (5, "made again")]
        {
            rows.put(key, row);
        }
        assert_eq!(rows.inserted(), [&"made again", &"made later"]);
        assert_eq!(rows.updated(), [&"changed again"]);
        assert_eq!(rows.get(3), Some(&"loaded"));
    }
}
