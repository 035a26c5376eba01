//! Asking the provider: what an account says is to be asked, and what its answer means. Decides nothing, and takes no
//! silence for an answer.

use std::time::Duration;

use shared::{
    clock::{self, Timestamp},
    jobs::{Jobs, Worker},
    telemetry::TraceContext,
};
use tokio::time::Instant;

use crate::{
    domain::{Account, Answer, Command, Inquiry, OrderId, OrderStatus, Payment, PaymentId, Payments, Status},
    provider::{Call, Charge, Fault, Outcome, Provider, Refund, Refunded, Trouble, Why},
};

/// How long the provider may take to answer, however often it has to be asked for that: less than
/// [`LEASE`](crate::domain::LEASE), so that nobody else asks meanwhile.
const LIMIT: Duration = Duration::from_secs(15);

/// A question for the provider.
#[derive(Debug)]
pub struct Question {
    order: OrderId,
    payment: PaymentId,
    /// With which of the payment's keys.
    key: u32,
    about: About,
    /// As in [`Inquiry`].
    looking_since: Option<Timestamp>,
}

#[derive(Debug)]
enum About {
    Charge(Charge),
    /// Of an order that has ended: nobody wants its money any more.
    Void(Charge),
    Refund(Refund),
}

/// The code of a charge that the provider has definitely never made.
const NEVER_CHARGED: &str = "never_charged";

impl Jobs for Payments {
    type Job = Question;

    fn job(state: &Option<Account>, command: &Command) -> Option<Question> {
        let account = state.as_ref()?;
        let payment = account.payment(command.payment()?)?;
        let (order, payment_id) = (account.order.id.uuid(), payment.id.uuid());
        let about = match payment.status {
            Status::Pending => {
                let charge = Charge {
                    key: key("charge", payment),
                    order_id: order,
                    payment_id,
                    amount: account.order.total,
                    method: payment.method.clone(),
                };
                match account.order.status {
                    OrderStatus::Cancelled => About::Void(charge),
                    OrderStatus::Created | OrderStatus::AwaitingPayment | OrderStatus::Completed => {
                        About::Charge(charge)
                    }
                }
            }
            Status::RefundPending => About::Refund(Refund {
                key: key("refund", payment),
                order_id: order,
                payment_id,
                charge: payment.reference.clone()?,
                amount: account.order.total,
            }),
            Status::Succeeded | Status::Failed(_) | Status::Refunded => return None,
        };
        let Inquiry { key_number, looking_since, .. } = payment.inquiry;
        Some(Question { order: account.order.id, payment: payment.id, key: key_number, about, looking_since })
    }
}

/// By which a provider does something once.
fn key(operation: &str, payment: &Payment) -> String {
    format!("{operation}-{}-{}", payment.id, payment.inquiry.key_number)
}

/// Puts questions to a provider.
pub(crate) struct Asker<P>(pub(crate) P);

impl<P: Provider> Worker<Payments> for Asker<P> {
    async fn work(&self, question: Question, trace: &TraceContext) -> Command {
        let call = Call { deadline: Instant::now() + LIMIT, trace: trace.clone() };
        let Self(provider) = self;
        let nothing = || Answer::Declined { reason: NEVER_CHARGED.to_owned() };
        let answer = match (&question.about, question.looking_since) {
            (About::Charge(charge), None) => provider.charge(charge, &call).await.map_or_else(unclear, outcome),
            (About::Void(charge), None) => {
                let charged = provider.void_charge(charge, &call).await;
                charged.map_or_else(unclear, |charged| charged.map_or_else(nothing, outcome))
            }
            (About::Charge(charge) | About::Void(charge), Some(since)) => {
                let age = (clock::now() - since).to_std().unwrap_or_default();
                let found = provider.find_charge(charge, age, &call).await;
                found.map_or_else(unclear, |found| found.map_or_else(nothing, outcome))
            }
            (About::Refund(refund), None) => provider.refund(refund, &call).await.map_or_else(unclear, refunded),
            (About::Refund(refund), Some(_)) => {
                let found = provider.find_refund(refund, &call).await;
                found.map_or_else(unclear, |found| found.map_or(Answer::KeySpent, refunded))
            }
        };
        Command::Heard { order: question.order, payment: question.payment, key: question.key, answer }
    }
}

fn outcome(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Succeeded { reference } => Answer::Charged { reference },
        Outcome::Declined { code } => Answer::Declined { reason: code },
    }
}

fn refunded(_: Refunded) -> Answer {
    Answer::Refunded
}

fn unclear(trouble: Trouble) -> Answer {
    match trouble {
        Trouble::Unclear { why: Why::AnswerKept, .. } => Answer::Stuck,
        // Asked again with the same words it says the same again: what it has done, if anything, is looked for.
        Trouble::Broken { fault: Fault::BadRequest, .. } => Answer::Stuck,
        Trouble::Unclear { retry_after, .. } => Answer::Unsettled { retry_after },
        Trouble::Broken { .. } => Answer::Unsettled { retry_after: None },
    }
}

#[cfg(test)]
mod tests {
    use shared::{
        money::{Currency, Money},
        user::UserId,
        version::Version,
    };

    use super::*;
    use crate::domain::Order;

    #[test]
    fn the_charge_of_an_order_that_has_ended_is_voided() {
        let now = clock::now();
        let about = |status| {
            let order = Order {
                id: OrderId::new(),
                user: UserId::from_stored("bob"),
                total: Money::new(Currency::USD, 29900),
                status,
                version: Version::FIRST,
                trace: TraceContext::root(),
            };
            let payment = Payment {
                id: PaymentId::new(),
                method: "pm_card_visa".to_owned(),
                status: Status::Pending,
                provider: "stripe".to_owned(),
                reference: None,
                inquiry: Inquiry { tries: 1, key_number: 1, keyed_at: now, looking_since: None, next_try_at: now },
                version: Version::FIRST,
                created_at: now,
                updated_at: now,
            };
            let ask = Command::Ask { order: order.id, payment: payment.id };
            Payments::job(&Some(Account { order, payments: vec![payment] }), &ask).unwrap().about
        };
        assert!(matches!(about(OrderStatus::AwaitingPayment), About::Charge(_)));
        assert!(matches!(about(OrderStatus::Cancelled), About::Void(_)));
    }

    #[test]
    fn no_trouble_is_an_outcome_and_what_would_only_be_said_again_is_looked_for() {
        let unclear_now = |why| Trouble::Unclear { why, retry_after: None };
        let broken = |fault| Trouble::Broken { fault, status: 400, code: None, message: String::new() };
        let unsettled = |retry_after| Answer::Unsettled { retry_after };
        let second = Some(Duration::from_secs(1));
        for (trouble, answer) in [
            (unclear_now(Why::TimedOut), unsettled(None)),
            (Trouble::Unclear { why: Why::RateLimited, retry_after: second }, unsettled(second)),
            (unclear_now(Why::AnswerKept), Answer::Stuck),
            (broken(Fault::BadRequest), Answer::Stuck),
            (broken(Fault::Unauthorized), unsettled(None)),
        ] {
            assert_eq!(unclear(trouble.clone()), answer, "{trouble}");
        }
    }
}
