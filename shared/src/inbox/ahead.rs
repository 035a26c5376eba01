//! What was polled and is not handled yet: read ahead of the transactions, so that two writers may be at them at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::poller::Decoded;

/// Messages that wait, by partition and in its order.
pub(super) struct Ahead<C> {
    partitions: BTreeMap<i32, Queue<C>>,
    turns: u64,
}

struct Queue<C> {
    messages: VecDeque<Decoded<C>>,
    /// The last turn that took some, or in which the first came.
    turn: u64,
}

/// What is done now.
pub(super) struct Turn<C> {
    /// In each partition's order.
    pub(super) messages: Vec<Decoded<C>>,
    /// The partitions whose messages a second writer does, beside the first; none if one transaction takes all.
    pub(super) second_takes: BTreeSet<i32>,
}

impl<C> Ahead<C> {
    pub(super) fn new() -> Self {
        Self { partitions: BTreeMap::new(), turns: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.partitions.values().map(|queue| queue.messages.len()).sum()
    }

    /// A partition of which nothing waits is not here.
    pub(super) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    pub(super) fn extend(&mut self, messages: Vec<Decoded<C>>) {
        for message in messages {
            let Some(at) = message.at() else { continue };
            let new = || Queue { messages: VecDeque::new(), turn: self.turns };
            self.partitions.entry(at.partition).or_insert_with(new).messages.push_back(message);
        }
    }

    /// Takes what is done next: all that waits, if that is no more than one transaction takes, `batch`; else as much as each of two
    /// writers does, `most`, neither of which has a partition of the other's. A partition that has waited for longest goes first.
    pub(super) fn turn(&mut self, batch: usize, most: usize) -> Turn<C> {
        self.turns += 1;
        let len = self.len();
        let mut room = if len <= batch { [len, 0] } else { [most; 2] };
        let mut turn = Turn { messages: Vec::with_capacity(len.min(2 * most)), second_takes: BTreeSet::new() };
        let mut waiting: Vec<_> = self.partitions.iter_mut().collect();
        waiting.sort_by_key(|(_, queue)| queue.turn);
        for (partition, queue) in waiting {
            let second = room[1] > room[0];
            let room = &mut room[usize::from(second)];
            let taken = queue.messages.len().min(*room);
            if taken == 0 {
                continue;
            }
            *room -= taken;
            turn.messages.extend(queue.messages.drain(..taken));
            queue.turn = self.turns;
            if second {
                turn.second_takes.insert(*partition);
            }
        }
        self.partitions.retain(|_, queue| !queue.messages.is_empty());
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_writers_share_out_the_partitions_once_a_transaction_is_full() {
        type Of = &'static [(i32, usize)];
        // What comes, and what each writer then takes, of ten messages at most, of which a transaction takes five.
        let turns: [(Of, Of, Of); 8] = [
            (&[(0, 3), (1, 2)], &[(0, 3), (1, 2)], &[]),
            (&[(0, 9)], &[(0, 9)], &[]),
            (&[(1, 3), (2, 9)], &[(1, 3)], &[(2, 9)]),
            (&[(0, 25)], &[(0, 10)], &[]),
            (&[(3, 1)], &[(0, 10)], &[(3, 1)]),
            (&[], &[(0, 5)], &[]),
            (&[(0, 15), (1, 15), (2, 1)], &[(0, 10)], &[(1, 10)]),
            (&[], &[(2, 1), (1, 5)], &[(0, 5)]),
        ];
        let (mut ahead, mut offsets) = (Ahead::new(), BTreeMap::<i32, i64>::new());
        let mut next = BTreeMap::<i32, i64>::new();
        for (number, (come, first, second)) in turns.into_iter().enumerate() {
            for (partition, times) in come {
                let offset = offsets.entry(*partition).or_default();
                let messages = (*offset..).take(*times).map(|offset| Decoded::nothing(*partition, offset));
                ahead.extend(messages.collect());
                *offset += i64::try_from(*times).unwrap();
            }
            let turn = ahead.turn(5, 10);
            let mut taken = [BTreeMap::<i32, usize>::new(), BTreeMap::new()];
            for at in turn.messages.iter().filter_map(Decoded::at) {
                let expected = next.entry(at.partition).or_default();
                assert_eq!(at.offset, *expected, "turn {number}: partition {} is in order", at.partition);
                *expected += 1;
                *taken[usize::from(turn.second_takes.contains(&at.partition))].entry(at.partition).or_default() += 1;
            }
            let expected = [first, second].map(|of| of.iter().copied().collect::<BTreeMap<_, _>>());
            assert_eq!(taken, expected, "turn {number}");
        }
    }
}
