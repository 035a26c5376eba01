//! Whatever happens in whatever order, however often it is told: stock is conserved, every order is decided, money and
//! ticket end on the same side.

use choreography::{DECLINED, Group, Money, System};
use orders::domain::{OrderId, Reason, Status};
use payments::domain::{PaymentId, Status as PaymentStatus};
use proptest::prelude::*;
use shared::money::{Currency, Money as Price};
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
        declined: bool,
    },
    /// The provider is asked about a payment, and heard so many times.
    Ask {
        payment: usize,
        heard: usize,
    },
    Fire {
        order: usize,
    },
    /// Any message of the group's topic, the latest more likely, seen before or not.
    Deliver {
        group: usize,
        back: usize,
    },
    /// All that has been said is heard, as when nothing is wrong: else hardly any order comes as far as being paid.
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1..5_i32).prop_map(|quantity| Step::List { quantity }),
        1 => (any::<usize>(), 1..3_i64).prop_map(|(ticket, price)| Step::Reprice { ticket, price }),
        1 => (any::<usize>(), 1..6_i32).prop_map(|(ticket, quantity)| Step::Resize { ticket, quantity }),
        1 => any::<usize>().prop_map(|ticket| Step::Withdraw { ticket }),
        6 => (any::<usize>(), 1..4_i32).prop_map(|(ticket, quantity)| Step::Place { ticket, quantity }),
        2 => any::<usize>().prop_map(|order| Step::Cancel { order }),
        5 => (any::<usize>(), prop::bool::weighted(0.3)).prop_map(|(order, declined)| Step::Pay { order, declined }),
        5 => (any::<usize>(), 0..3_usize).prop_map(|(payment, heard)| Step::Ask { payment, heard }),
        2 => any::<usize>().prop_map(|order| Step::Fire { order }),
        24 => (any::<usize>(), 0..12_usize).prop_map(|(group, back)| Step::Deliver { group, back }),
        8 => Just(Step::Settle),
    ]
}

fn pick<T: Copy>(of: &[T], at: usize) -> Option<T> {
    (!of.is_empty()).then(|| of[at % of.len()])
}

fn usd(cents: i64) -> Price {
    Price::new(Currency::USD, cents)
}

/// Refusals are answers like any other here: what matters is what the system is like afterwards.
fn perform(
    system: &mut System,
    tickets: &mut Vec<TicketId>,
    orders: &mut Vec<OrderId>,
    payments: &mut Vec<PaymentId>,
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
        Step::Pay { order, declined } => {
            if let Some(id) = pick(orders, order) {
                payments.extend(system.pay(id, if declined { DECLINED } else { "pm_card_visa" }));
            }
        }
        Step::Ask { payment, heard } => {
            if let Some(id) = pick(payments, payment) {
                system.ask(id, heard).map_err(|refusal| format!("an answer was refused: {refusal:?}"))?;
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
        Step::Settle => system.settle()?,
    }
    Ok(())
}

fn check_stock(system: &System) -> Result<(), TestCaseError> {
    for ticket in system.tickets() {
        prop_assert!(ticket.available() >= 0 && ticket.reserved >= 0 && ticket.sold >= 0, "oversold: {ticket:?}");
    }
    Ok(())
}

/// Money and ticket are on the same side, at the provider as in the accounts.
fn check_money(system: &System) -> Result<(), TestCaseError> {
    for order in system.orders() {
        let account = system.accounts().find(|account| account.order.id.uuid() == order.id.uuid());
        let payments = account.map(|account| account.payments.as_slice()).unwrap_or_default();
        let kept = payments.iter().filter(|payment| system.money(payment.id) == Some(Money::Taken)).count();
        prop_assert_eq!(kept, usize::from(order.status == Status::Completed), "{:?} of {:?}", payments, order);
        for payment in payments {
            let expected = match payment.status {
                PaymentStatus::Succeeded => Money::Taken,
                PaymentStatus::Failed(_) => Money::Declined,
                PaymentStatus::Refunded => Money::Returned,
                PaymentStatus::Pending | PaymentStatus::RefundPending => {
                    return Err(TestCaseError::fail(format!("never settled: {payment:?}")));
                }
            };
            prop_assert_eq!(system.money(payment.id), Some(expected));
        }
    }
    Ok(())
}

/// All stock is where the orders say, and orders' copies say so, too.
fn check_tickets(system: &System) -> Result<(), TestCaseError> {
    for ticket in system.tickets() {
        let own = |order: &&orders::domain::Order| order.ticket.uuid() == ticket.id.uuid();
        let completed = system.orders().filter(own).filter(|order| order.status == Status::Completed);
        let sold: i32 = completed.map(|order| order.quantity).sum();
        prop_assert_eq!((ticket.reserved, ticket.sold), (0, sold), "stock is where the orders say");
        prop_assert_eq!(system.stale_copy(ticket), None);
    }
    Ok(())
}

/// Each is decided, and payments' copies say the same.
fn check_orders(system: &System) -> Result<(), TestCaseError> {
    for order in system.orders() {
        let decided = matches!(order.status, Status::Completed | Status::Cancelled(_));
        prop_assert!(decided, "undecided: {order:?}");
        prop_assert!(order.status != Status::Cancelled(Reason::UnknownTicket), "everyone knew the ticket: {order:?}");
        prop_assert_eq!(system.stale_account(order), None);
    }
    Ok(())
}

/// What is told of each thing is numbered from 1, without a gap, in the order in which it was told.
fn check_versions(system: &System) -> Result<(), TestCaseError> {
    let tickets = system.tickets().map(|ticket| ticket.id.to_string());
    let orders = system.orders().map(|order| order.id.to_string());
    let told = tickets.map(|key| ("ticket", system.versions(&key), key));
    let told = told.chain(orders.flat_map(|key| {
        [("order", system.versions(&key), key.clone()), ("account", system.account_versions(&key), key)]
    }));
    for (what, versions, key) in told {
        let expected: Vec<i64> = (1..).take(versions.len()).collect();
        prop_assert_eq!(versions, expected, "versions of {} {} have no gap", what, key);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn stock_is_conserved_every_order_is_decided_and_money_and_ticket_end_on_the_same_side(
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut system = System::default();
        let (mut tickets, mut orders, mut payments) = (Vec::new(), Vec::new(), Vec::new());
        for step in &steps {
            perform(&mut system, &mut tickets, &mut orders, &mut payments, step).map_err(TestCaseError::fail)?;
            check_stock(&system)?;
        }
        // Everything is heard of in the end, timers run out, the provider answers, and that is heard of too.
        system.settle().map_err(TestCaseError::fail)?;
        system.fire_all();
        for _ in ["charges", "refunds of orders that have ended meanwhile"] {
            system.settle().map_err(TestCaseError::fail)?;
            system.ask_all().map_err(|refusal| TestCaseError::fail(format!("an answer was refused: {refusal:?}")))?;
        }
        system.settle().map_err(TestCaseError::fail)?;
        check_stock(&system)?;
        check_money(&system)?;
        check_tickets(&system)?;
        check_orders(&system)?;
        check_versions(&system)?;
    }
}
