//! How far a batch has come: what became of its units so far, and what is known to be in the way of the others.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::{Service, Unit, UnitOutcome};

/// A batch that is worked off part by part, each a list of units' indices in their order.
pub(super) struct Progress<'a, S: Service> {
    units: &'a [Unit<S::Command>],
    outcomes: Vec<Option<UnitOutcome<S>>>,
    /// By partition, the first unit that was not done: those behind it have to wait.
    blocked: HashMap<i32, usize>,
    /// Roots that somebody else was found to have locked. Every attempt at one of them costs all others a wait, so that
    /// one has to be enough: the search among many commands about a hot root is one for the root, not for each of them.
    locked: HashSet<Uuid>,
}

impl<'a, S: Service> Progress<'a, S> {
    pub(super) fn of(units: &'a [Unit<S::Command>]) -> Self {
        let outcomes = units.iter().map(|_| None).collect();
        Self { units, outcomes, blocked: HashMap::new(), locked: HashSet::new() }
    }

    /// Says what became of a unit.
    pub(super) fn record(&mut self, index: usize, outcome: UnitOutcome<S>) {
        if let Some(at) = self.units[index].at.filter(|_| outcome.blocks()) {
            let first = self.blocked.entry(at.partition).or_insert(index);
            *first = index.min(*first);
        }
        self.outcomes[index] = Some(outcome);
    }

    /// Takes out of a part what need not be tried, or has been.
    pub(super) fn sift(&mut self, part: &mut Vec<usize>) {
        part.retain(|index| {
            let behind = self.units[*index].at.and_then(|at| self.blocked.get(&at.partition));
            if self.outcomes[*index].is_some() {
                return false;
            } else if behind.is_some_and(|first| first < index) {
                self.record(*index, UnitOutcome::Behind);
            } else if self.roots(*index).any(|root| self.locked.contains(&root)) {
                self.record(*index, UnitOutcome::Locked);
            } else {
                return true;
            }
            false
        });
    }

    /// A part met another's lock. True if it is about one root alone, which has then been found.
    pub(super) fn lock_found(&mut self, part: &[usize]) -> bool {
        // One that is about none met a lock on its offset.
        if part.iter().any(|index| self.units[*index].commands.is_empty()) {
            return false;
        }
        let mut roots = part.iter().flat_map(|index| self.roots(*index));
        let Some(found) = roots.next() else { return false };
        let alone = roots.all(|root| root == found);
        if alone {
            self.locked.insert(found);
        }
        alone
    }

    /// What became of each unit.
    pub(super) fn outcomes(self) -> Vec<UnitOutcome<S>> {
        self.outcomes.into_iter().map(|outcome| outcome.unwrap_or(UnitOutcome::Unavailable)).collect()
    }

    fn roots(&self, index: usize) -> impl Iterator<Item = Uuid> + use<'a, S> {
        let units = self.units;
        units[index].commands.iter().map(|envelope| S::root(&envelope.command))
    }
}
