//! Rows of one table: the order in which they are locked, and in memory, which of them were changed.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

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
    changed: HashSet<K>,
}

impl<K: Eq + Hash + Copy, V> Rows<K, V> {
    /// Rows as they were loaded.
    pub fn new(loaded: impl IntoIterator<Item = (K, V)>) -> Self {
        Self { rows: loaded.into_iter().collect(), changed: HashSet::new() }
    }

    /// The row of this key, if there is one.
    pub fn get(&self, key: K) -> Option<&V> {
        self.rows.get(&key)
    }

    /// Makes or replaces a row: it is to be saved.
    pub fn put(&mut self, key: K, row: V) {
        self.rows.insert(key, row);
        self.changed.insert(key);
    }

    /// What is to be saved, each row once, in no order.
    pub fn changed(&self) -> Vec<&V> {
        self.changed.iter().filter_map(|key| self.rows.get(key)).collect()
    }
}
