//! What the topics tell, beside what the databases have: no less, no more.

use uuid::Uuid;

use crate::{
    About, Rule, Violation,
    case::{Hold, Seen, Tale, TimerStatus, Topic},
};

/// All topics.
pub(super) fn all(seen: &Seen) -> Vec<Violation> {
    let tickets = |id: &Uuid| seen.tickets.get(id)?.ticket.as_ref().map(|ticket| ticket.shown.version);
    let orders = |id: &Uuid| seen.orders.get(id)?.order.as_ref().map(|order| order.shown.version);
    let payments = |id: &Uuid| {
        let case = seen.orders.get(id)?;
        case.account?;
        // They count the changes of all payments of an order.
        Some(case.payments.iter().map(|payment| payment.version).max().unwrap_or(0))
    };
    // A timer that fired has changed once.
    let timers = |id: &Uuid| {
        let timer = seen.orders.get(id)?.timer.as_ref()?;
        Some(i64::from(timer.status == TimerStatus::Expired))
    };
    let topics = &seen.topics;
    let mut violations = Vec::new();
    violations.extend(differing("tickets", &topics.tickets, seen.tickets.keys(), About::Ticket, tickets));
    violations.extend(differing("orders", &topics.orders, seen.orders.keys(), About::Order, orders));
    violations.extend(differing("payments", &topics.payments, seen.orders.keys(), About::Order, payments));
    violations.extend(differing("expiration", &topics.expiration, seen.orders.keys(), About::Order, timers));
    violations.extend(rejections(seen));
    violations
}

/// An order that was refused its stock is told that once, and no other is: by versions, which no rejection changes, it would not
/// be missed.
fn rejections(seen: &Seen) -> impl Iterator<Item = Violation> {
    let topic = &seen.topics.tickets;
    let of_none = topic.rejections.keys().filter(|id| **id >= seen.since && !seen.orders.contains_key(id));
    seen.orders.keys().chain(of_none).filter_map(|id| {
        let told = topic.rejections.get(id).map_or(0, Vec::len);
        let reservation = seen.orders.get(id).and_then(|case| case.reservation);
        let refused = reservation.filter(|reservation| reservation.status == Hold::Refused);
        // What was told where the topic is cut, or of an earlier ticket, can't be known.
        let missing = refused.is_some_and(|refused| told == 0 && !topic.cut && refused.ticket >= seen.since);
        let wrong = missing || told > usize::from(refused.is_some());
        wrong.then(|| {
            let status =
                reservation.map_or_else(|| "none".to_owned(), |reservation| format!("{:?}", reservation.status));
            let what = format!("topic tickets tells {told} rejections of it, and its reservation is {status}");
            Violation::new(Rule::Told, About::Order(*id), what)
        })
    })
}

/// Where a topic and its database are not at the same version. What a database doesn't have is at version 0.
fn differing<'s>(
    name: &'static str,
    topic: &'s Topic,
    rows: impl Iterator<Item = &'s Uuid> + 's,
    about: fn(Uuid) -> About,
    version: impl Fn(&Uuid) -> Option<i64> + Copy + 's,
) -> impl Iterator<Item = Violation> + 's {
    let of_rows = rows.filter_map(move |id| {
        let tale = topic.tales.get(id);
        // What was told where the topic is cut can't be known.
        let known = tale.is_some() || !topic.cut;
        known.then(|| (id, version(id).unwrap_or(0), tale.map_or(0, Tale::last)))
    });
    let of_none = topic.tales.iter().filter(move |(id, _)| version(id).is_none());
    let of_none = of_none.map(|(id, tale)| (id, 0, tale.last()));
    let differing = of_rows.filter(move |(id, ..)| version(id).is_some()).chain(of_none);
    differing.filter(|(_, row, told)| row != told).map(move |(id, row, told)| {
        let what = format!("topic {name} is at version {told}, and the database at {row}");
        Violation::lagging(Rule::Told, about(*id), [row, told], what)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::case::{Fault, OrderCase, Reservation, Topics};

    const ID: Uuid = Uuid::from_u128(1);

    fn tale(versions: &[i64], cut: bool) -> (Tale, Vec<Fault>) {
        let (mut tale, mut faults) = (Tale::default(), Vec::new());
        for version in versions {
            faults.extend(tale.hear(*version, u32::try_from(*version).unwrap(), 0, cut).err());
        }
        (tale, faults)
    }

    #[test]
    fn versions_follow_one_another_and_may_be_repeated() {
        let (gap, after, came) = (|after, came| Fault::Gap { after, came }, 1, 3);
        assert_eq!(tale(&[1, 2, 3], false).1, []);
        assert_eq!(tale(&[1, 2, 1, 2, 3], false).1, [], "as after a relay that was cut off");
        assert_eq!(tale(&[1, 3, 4], false).1, [gap(after, came)], "what follows is no fault of its own");
        assert_eq!(tale(&[2, 3], false).1, [gap(0, 2)]);
        assert_eq!(tale(&[5, 6, 4, 5, 7], true).1, [], "its beginning is gone");
        assert_eq!(tale(&[5, 7], true).1, [gap(5, 7)]);
        assert_eq!(tale(&[1, 2], false).0.last(), 2);
        assert_eq!(Tale::default().last(), 0);
    }

    #[test]
    fn a_repetition_in_other_words_or_elsewhere_is_a_fault() {
        let mut tale = tale(&[1, 2], false).0;
        assert_eq!(tale.hear(1, 99, 0, false), Err(Fault::Reworded { version: 1 }));
        assert_eq!(tale.hear(0, 0, 0, false), Err(Fault::Reworded { version: 0 }));
        assert_eq!(tale.hear(3, 3, 1, false), Err(Fault::Moved));
        assert_eq!(tale.hear(3, 3, 0, false), Ok(()));
    }

    /// What is said where a database is at `row` (or has none), and a topic told `versions`.
    fn said(row: Option<i64>, versions: Option<&[i64]>, cut: bool) -> Option<String> {
        let tales = versions.map(|versions| (ID, tale(versions, cut).0));
        let topic = Topic { cut, tales: tales.into_iter().collect(), ..Topic::default() };
        let rows: HashMap<_, _> = row.map(|row| (ID, row)).into_iter().collect();
        let mut found = differing("orders", &topic, rows.keys(), About::Order, |id| rows.get(id).copied());
        let first = found.next();
        assert_eq!(found.next(), None);
        first.map(|violation| violation.what)
    }

    #[test]
    fn what_a_database_has_its_topic_tells_no_less_and_no_more() {
        let both = |told: i64, row: i64| Some(format!("topic orders is at version {told}, and the database at {row}"));
        assert_eq!(said(Some(2), Some(&[1, 2]), false), None);
        assert_eq!(said(Some(0), None, false), None, "nothing has changed, and nothing was told");
        assert_eq!(said(Some(3), Some(&[1, 2]), false), both(2, 3));
        assert_eq!(said(Some(1), Some(&[1, 2]), false), both(2, 1));
        assert_eq!(said(Some(1), None, false), both(0, 1));
        assert_eq!(said(None, Some(&[1]), false), both(1, 0));
        assert_eq!(said(Some(1), None, true), None, "it was told where the topic is cut");
        assert_eq!(said(Some(3), Some(&[2]), true), both(2, 3));
    }

    /// How many violations there are of an order whose reservation is this, of a ticket whose id is 5, where so many different
    /// rejections were told of it.
    fn broken(hold: Option<Hold>, told: usize, since: u128, cut: bool) -> usize {
        let (since, ticket) = (Uuid::from_u128(since), Uuid::from_u128(5));
        let reservation = hold.map(|status| Reservation { ticket, quantity: 1, status });
        let rejections = (told > 0).then(|| (ID, (0..).take(told).collect())).into_iter().collect();
        let case = OrderCase { reservation, ..OrderCase::default() };
        let topics = Topics { tickets: Topic { cut, rejections, ..Topic::default() }, ..Topics::default() };
        let orders = hold.map(|_| (ID, case)).into_iter().collect();
        super::rejections(&Seen { since, orders, topics, ..Seen::default() }).count()
    }

    #[test]
    fn an_order_that_was_refused_is_told_so_once_and_no_other_is() {
        use Hold::{Ended, Held, Refused, Released, Sold};
        for (row, (hold, told, since, cut, violations)) in [
            (Some(Refused), 1, 0, false, 0),
            (Some(Refused), 0, 0, false, 1),
            (Some(Refused), 2, 0, false, 1),
            (Some(Held), 0, 0, false, 0),
            (Some(Held), 1, 0, false, 1),
            (Some(Sold), 1, 0, false, 1),
            (Some(Released), 1, 0, false, 1),
            (Some(Ended), 0, 0, false, 0),
            (Some(Ended), 1, 0, false, 1),
            // Nobody knows of such an order; or nobody was asked for it.
            (None, 1, 0, false, 1),
            (None, 1, 2, false, 0),
            // Of an earlier ticket no records are read; of a topic that is cut there may be none any more.
            (Some(Refused), 0, 6, false, 0),
            (Some(Refused), 0, 0, true, 0),
            (Some(Refused), 2, 0, true, 1),
            (Some(Held), 1, 0, true, 1),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(broken(hold, told, since, cut), violations, "row {row}");
        }
    }
}
