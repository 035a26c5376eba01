//! How far a consumer has come on each partition that is assigned to it: what the database last said.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::{At, Move, Service, Unit, UnitOutcome};

/// The next offset of each assigned partition.
#[derive(Debug)]
pub(crate) struct Positions {
    group: &'static str,
    topic: &'static str,
    next: BTreeMap<i32, i64>,
}

impl Positions {
    pub(crate) fn new(group: &'static str, topic: &'static str) -> Self {
        Self { group, topic, next: BTreeMap::new() }
    }

    /// The group and topic, as the database names them.
    pub(crate) fn source(&self) -> (&'static str, &'static str) {
        (self.group, self.topic)
    }

    pub(crate) fn set(&mut self, partition: i32, next: i64) {
        self.next.insert(partition, next);
    }

    pub(crate) fn remove(&mut self, partition: i32) {
        self.next.remove(&partition);
    }

    /// Those of these partitions, which are no longer here.
    pub(crate) fn split_off(&mut self, partitions: &BTreeSet<i32>) -> Self {
        let next = partitions.iter().filter_map(|partition| self.next.remove_entry(partition)).collect();
        Self { next, ..*self }
    }

    /// Brings back what was split off.
    pub(crate) fn append(&mut self, mut others: Self) {
        self.next.append(&mut others.next);
    }

    /// The next offset of a partition, if it is assigned.
    pub(crate) fn next(&self, partition: i32) -> Option<i64> {
        self.next.get(&partition).copied()
    }

    /// Whether a message is still to be handled here: its partition is assigned, and it doesn't lie behind. One that lies
    /// further ahead than the next is wanted, too, for offsets may have gaps: that messages come in their order, and none is
    /// left out, is for whoever hands them over to see to.
    pub(crate) fn wants(&self, at: At) -> bool {
        self.next.get(&at.partition).is_some_and(|next| *next <= at.offset)
    }

    /// Partition by partition, the next offset.
    pub(crate) fn all(&self) -> impl Iterator<Item = (i32, i64)> {
        self.next.iter().map(|(partition, next)| (*partition, *next))
    }

    /// The moves that go with these units, which are in their partitions' order.
    pub(crate) fn moves<C>(&self, units: &[&Unit<C>]) -> Vec<Move> {
        let mut moves: BTreeMap<i32, Move> = BTreeMap::new();
        for at in units.iter().filter_map(|unit| unit.at) {
            // One of a partition that isn't ours gets no move, which fences it.
            if let Some(expected) = self.next.get(&at.partition) {
                let next = at.offset + 1;
                let first = Move { partition: at.partition, expected: *expected, next, written: None };
                let held = moves.entry(at.partition).or_insert(first);
                (held.next, held.written) = (next, at.written);
            }
        }
        moves.into_values().collect()
    }

    /// Moves that were committed, but for those of fenced units.
    pub(crate) fn moved<S: Service>(
        &mut self,
        moves: &[Move],
        units: &[&Unit<S::Command>],
        outcomes: &[UnitOutcome<S>],
    ) {
        let fenced = |partition: i32| {
            units.iter().zip(outcomes).any(|(unit, outcome)| {
                matches!(outcome, UnitOutcome::Fenced) && unit.at.is_some_and(|at| at.partition == partition)
            })
        };
        for held in moves {
            if !fenced(held.partition) {
                self.next.insert(held.partition, held.next);
            }
        }
    }
}
