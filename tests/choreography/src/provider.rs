//! A payment provider in memory: what it has done for whom, each once, however often it is asked.

use std::collections::BTreeMap;

use payments::domain::{Answer, Payment, PaymentId, Status};

/// What became of the money of one payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Money {
    /// None was taken, and none will be.
    Declined,
    /// It was taken.
    Taken,
    /// It was taken, and went back.
    Returned,
}

/// The method of a payment that is declined.
pub const DECLINED: &str = "pm_declined";

#[derive(Debug, Default)]
pub(crate) struct Provider(pub(crate) BTreeMap<PaymentId, Money>);

impl Provider {
    /// Does what a payment is waiting for, unless it was done before; `None` if it waits for nothing.
    pub(crate) fn ask(&mut self, payment: &Payment) -> Option<Answer> {
        match payment.status {
            Status::Pending => {
                let first = if payment.method == DECLINED { Money::Declined } else { Money::Taken };
                Some(match self.0.entry(payment.id).or_insert(first) {
                    Money::Declined => Answer::Declined { reason: "card_declined".to_owned() },
                    Money::Taken | Money::Returned => Answer::Charged { reference: format!("pi_{}", payment.id) },
                })
            }
            Status::RefundPending => {
                assert!(payment.reference.is_some(), "asked for the return of what it never took: {payment:?}");
                self.0.insert(payment.id, Money::Returned);
                Some(Answer::Refunded)
            }
            Status::Succeeded | Status::Failed(_) | Status::Refunded => None,
        }
    }
}
