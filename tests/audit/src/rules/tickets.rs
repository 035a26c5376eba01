//! A ticket, its reservations, and orders' copy of it.

use uuid::Uuid;

use crate::{
    About, Rule, Violation,
    case::{Copied, Ticket, TicketCase},
};

/// All rules of a ticket, whether it exists or not.
pub(super) fn all(id: Uuid, case: &TicketCase) -> impl Iterator<Item = Violation> {
    let about = About::Ticket(id);
    let (stock, oversold) = match &case.ticket {
        Some(ticket) => (stock(ticket, case), oversold(ticket)),
        None => (held_of_nothing(case), None),
    };
    let found = [(Rule::Stock, stock), (Rule::Oversold, oversold)];
    let found = found.into_iter().filter_map(move |(rule, what)| Some(Violation::new(rule, about, what?)));
    found.chain(copy(about, case))
}

fn stock(ticket: &Ticket, case: &TicketCase) -> Option<String> {
    let (reserved, sold) = (i64::from(ticket.reserved), i64::from(ticket.sold));
    ((reserved, sold) != (case.held, case.sold)).then(|| {
        format!("{reserved} reserved and {sold} sold, and its reservations hold {} and bought {}", case.held, case.sold)
    })
}

fn held_of_nothing(case: &TicketCase) -> Option<String> {
    let TicketCase { held, sold, .. } = case;
    ((*held, *sold) != (0, 0))
        .then(|| format!("there is no such ticket, and reservations hold {held} and bought {sold}"))
}

fn oversold(ticket: &Ticket) -> Option<String> {
    let Ticket { quantity, reserved, sold, .. } = ticket;
    let taken = i64::from(*reserved) + i64::from(*sold);
    let sound = *reserved >= 0 && *sold >= 0 && taken <= i64::from(*quantity);
    (!sound).then(|| format!("there are {quantity}, {reserved} reserved and {sold} sold"))
}

fn copy(about: About, case: &TicketCase) -> Option<Violation> {
    let new = |what: &str| Some(Violation::new(Rule::TicketCopy, about, what));
    match (&case.ticket, &case.copy) {
        (Some(_), None) => new("orders hasn't heard of it"),
        (None, Some(_)) => new("there is no such ticket, and orders has a copy of it"),
        (Some(Ticket { shown, .. }), Some(copy)) if shown.version != copy.version => {
            let what = format!("at version {}, and orders' copy at {}", shown.version, copy.version);
            Some(Violation::lagging(Rule::TicketCopy, about, [shown.version, copy.version], what))
        }
        (Some(Ticket { shown, .. }), Some(copy)) if shown != copy => new(&format!(
            "orders' copy of version {} differs in {}",
            shown.version,
            differences(shown, copy).join(", ")
        )),
        _ => None,
    }
}

fn differences(one: &Copied, other: &Copied) -> Vec<&'static str> {
    let all = [
        (one.title == other.title, "title"),
        (one.currency == other.currency, "currency"),
        (one.price == other.price, "price"),
        (one.available == other.available, "available"),
        (one.withdrawn == other.withdrawn, "withdrawn"),
    ];
    all.into_iter().filter_map(|(same, what)| (!same).then_some(what)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Currency, Print};

    /// A ticket with 3 held and 2 sold, as all have it when everything is at rest.
    fn at_rest() -> TicketCase {
        let shown = Copied {
            title: Print::of("Concert"),
            currency: Currency::of("USD"),
            price: 29900,
            available: 5,
            withdrawn: false,
            version: 8,
        };
        let ticket = Ticket { quantity: 10, reserved: 3, sold: 2, shown: shown.clone() };
        TicketCase { ticket: Some(ticket), copy: Some(shown), held: 3, sold: 2 }
    }

    fn its_ticket(case: &mut TicketCase) -> &mut Ticket {
        case.ticket.as_mut().unwrap()
    }

    fn its_copy(case: &mut TicketCase) -> &mut Copied {
        case.copy.as_mut().unwrap()
    }

    fn broken(case: &TicketCase) -> Vec<Violation> {
        all(Uuid::nil(), case).collect()
    }

    #[test]
    fn a_ticket_that_all_have_alike_breaks_no_rule() {
        assert_eq!(broken(&at_rest()), []);
        assert_eq!(broken(&TicketCase::default()), []);
    }

    #[test]
    fn whoever_has_it_otherwise_breaks_one_rule() {
        type Break = fn(&mut TicketCase);
        let table: &[(Break, Rule)] = &[
            (|case| case.held += 1, Rule::Stock),
            (|case| case.sold -= 1, Rule::Stock),
            (|case| *case = TicketCase { sold: 1, ..TicketCase::default() }, Rule::Stock),
            (|case| its_ticket(case).quantity = 4, Rule::Oversold),
            (|case| case.copy = None, Rule::TicketCopy),
            (|case| its_copy(case).title = Print::of("Opera"), Rule::TicketCopy),
            (|case| its_copy(case).currency = Currency::of("EUR"), Rule::TicketCopy),
            (|case| its_copy(case).price = 1, Rule::TicketCopy),
            (|case| its_copy(case).available = 4, Rule::TicketCopy),
            (|case| its_copy(case).withdrawn = true, Rule::TicketCopy),
            (|case| its_copy(case).version = 7, Rule::TicketCopy),
        ];
        for (row, (broke, rule)) in table.iter().enumerate() {
            let mut case = at_rest();
            broke(&mut case);
            let rules: Vec<_> = broken(&case).into_iter().map(|violation| violation.rule).collect();
            assert_eq!(rules, [*rule], "row {row}");
        }
    }

    #[test]
    fn a_copy_that_lags_says_how_far_it_has_come() {
        let mut case = at_rest();
        case.copy.as_mut().unwrap().version = 7;
        let [lags] = &broken(&case)[..] else { panic!("one violation") };
        case.copy.as_mut().unwrap().version = 8;
        case.ticket.as_mut().unwrap().shown.version = 9;
        let [lags_later] = &broken(&case)[..] else { panic!("one violation") };
        assert!(lags.is_still(lags), "it stands still");
        assert!(!lags.is_still(lags_later), "it follows");
    }
}
