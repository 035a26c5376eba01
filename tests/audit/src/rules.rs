//! What must hold, as pure functions: of an order, of a ticket, of the money, of what topics tell. In: what was seen. Out:
//! every violation.

pub mod money;
mod orders;
mod tickets;
mod told;

use crate::{Violation, case::Seen};

/// Every violation, in order.
pub fn all(seen: &Seen) -> Vec<Violation> {
    let mut violations = seen.violations.clone();
    for (id, case) in &seen.orders {
        match &case.order {
            Some(order) => {
                violations.extend(orders::all(*id, order, case));
                violations.extend(money::all(*id, order, case, seen.ledger));
            }
            None => violations.extend(orders::no_such(*id, case)),
        }
    }
    for (id, case) in &seen.tickets {
        violations.extend(tickets::all(*id, case));
    }
    violations.extend(told::all(seen));
    violations.sort_by_key(|violation| (violation.rule, violation.about));
    violations
}
