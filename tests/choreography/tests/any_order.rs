//! Whatever happens in whatever order, however often it is told: stock is conserved, every order is decided, money and
//! ticket end on the same side.

use choreography::{Group, System};
use orders::domain::{OrderId, Reason, Status};
use proptest::prelude::*;
use shared::money::{Currency, Money};
use tickets::domain::{Edit, TicketId};

/// Something that happens next. Numbers choose among what there is, modulo how many there are.
#[derive(Clone, Debug)]
enum Step {
    List {
        quantity: i32,
    },
    Reprice {
        ticket: usize,
        price: i64,
    },
    Resize {
        ticket: usize,
        quantity: i32,
    },
    Withdraw {
        ticket: usize,
    },
    Place {
        ticket: usize,
        quantity: i32,
    },
    Cancel {
        order: usize,
    },
    Pay {
        order: usize,
    },
    Fire {
        order: usize,
    },
    /// Any message of the group's topic, the latest more likely, seen before or not.
    Deliver {
        group: usize,
        back: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (1..5_i32).prop_map(|quantity| Step::List { quantity }),
        1 => (any::<usize>(), 1..3_i64).prop_map(|(ticket, price)| Step::Reprice { ticket, price }),
        1 => (any::<usize>(), 1..6_i32).prop_map(|(ticket, quantity)| Step::Resize { ticket, quantity }),
        1 => any::<usize>().prop_map(|ticket| Step::Withdraw { ticket }),
        6 => (any::<usize>(), 1..4_i32).prop_map(|(ticket, quantity)| Step::Place { ticket, quantity }),
        2 => any::<usize>().prop_map(|order| Step::Cancel { order }),
        4 => any::<usize>().prop_map(|order| Step::Pay { order }),
        2 => any::<usize>().prop_map(|order| Step::Fire { order }),
        24 => (any::<usize>(), 0..12_usize).prop_map(|(group, back)| Step::Deliver { group, back }),
    ]
}

fn pick<T: Copy>(of: &[T], at: usize) -> Option<T> {
    (!of.is_empty()).then(|| of[at % of.len()])
}

fn usd(cents: i64) -> Money {
    Money::new(Currency::USD, cents)
}

/// Refusals are answers like any other here: what matters is what the system is like afterwards.
fn take(
    system: &mut System,
    tickets: &mut Vec<TicketId>,
    orders: &mut Vec<OrderId>,
    step: &Step,
) -> Result<(), String> {
    match *step {
        Step::List { quantity } => tickets.extend(system.list(usd(1), quantity)),
        Step::Reprice { ticket, price } => {
            if let Some(id) = pick(tickets, ticket) {
                let _ = system.edit(id, Edit { price: Some(usd(price)), ..Edit::default() });
            }
        }
        Step::Resize { ticket, quantity } => {
            if let Some(id) = pick(tickets, ticket) {
                let _ = system.edit(id, Edit { quantity: Some(quantity), ..Edit::default() });
            }
        }
        Step::Withdraw { ticket } => {
            if let Some(id) = pick(tickets, ticket) {
                let _ = system.withdraw(id);
            }
        }
        Step::Place { ticket, quantity } => {
            if let Some(id) = pick(tickets, ticket) {
                orders.extend(system.place(id, quantity));
            }
        }
        Step::Cancel { order } => {
            if let Some(id) = pick(orders, order) {
                let _ = system.cancel(id);
            }
        }
        Step::Pay { order } => {
            if let Some(id) = pick(orders, order) {
                system.pay(id);
            }
        }
        Step::Fire { order } => {
            if let Some(id) = pick(orders, order) {
                system.fire(id);
            }
        }
        Step::Deliver { group, back } => {
            let group = Group::ALL[group % Group::ALL.len()];
            let messages = system.deliverable(group);
            if let Some(index) = messages.iter().rev().nth(back.min(messages.len().saturating_sub(1))) {
                system.deliver(group, *index)?;
            }
        }
    }
    Ok(())
}

fn check_stock(system: &System) -> Result<(), TestCaseError> {
    for ticket in system.tickets() {
        prop_assert!(ticket.available() >= 0 && ticket.reserved >= 0 && ticket.sold >= 0, "oversold: {ticket:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn stock_is_conserved_and_every_order_is_decided(steps in prop::collection::vec(step(), 1..150)) {
        let (mut system, mut tickets, mut orders) = (System::default(), Vec::new(), Vec::new());
        for step in &steps {
            take(&mut system, &mut tickets, &mut orders, step).map_err(TestCaseError::fail)?;
            check_stock(&system)?;
        }
        // Everything is heard of in the end, timers run out, and that is heard of too.
        system.settle().map_err(TestCaseError::fail)?;
        system.fire_all();
        system.settle().map_err(TestCaseError::fail)?;
        check_stock(&system)?;

        for ticket in system.tickets() {
            let own = |order: &&orders::domain::Order| order.ticket.uuid() == ticket.id.uuid();
            let sold: i32 = system
                .orders()
                .filter(own)
                .filter(|order| order.status == Status::Completed)
                .map(|order| order.quantity)
                .sum();
            prop_assert_eq!((ticket.reserved, ticket.sold), (0, sold), "stock is where the orders say");
            prop_assert_eq!(system.stale_copy(ticket), None);
        }
        for order in system.orders() {
            let decided = matches!(order.status, Status::Completed | Status::Cancelled(_));
            prop_assert!(decided, "undecided: {order:?}");
            prop_assert!(order.status != Status::Cancelled(Reason::UnknownTicket), "everyone knew the ticket: {order:?}");
        }
        let keys = system.orders().map(|order| order.id.to_string());
        for key in keys.chain(system.tickets().map(|ticket| ticket.id.to_string())) {
            let versions = system.versions(&key);
            let expected: Vec<i64> = (1..).take(versions.len()).collect();
            prop_assert_eq!(versions, expected, "versions of {} have no gap", key);
        }
    }
}
