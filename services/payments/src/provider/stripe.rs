//! The part of Stripe's API that payments need: <https://docs.stripe.com/api>. Our own sandbox speaks it, too.
//!
//! In: charges and refunds. Out: what an answer definitely says, or trouble. A request is repeated as Stripe asks for it: with the
//! same key, after a growing pause, a few times, within the caller's deadline (`retries`). An answer counts only if it is about
//! what was asked for (`judge`): a connection may hold somebody else's.

mod amount;
mod exchange;
mod judge;
mod objects;
mod requests;
mod retries;

use std::{
    future::Future,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use shared::telemetry::Span;
use tokio::{sync::Semaphore, time::Instant};

use super::{
    Call, Charge, Outcome, Provider, ProviderConfig, ProviderMetrics, Refund, Refunded, SETTLED_AFTER, Trouble,
    UNSUPPORTED_AMOUNT, Why, breaker::Breaker, metrics::Operation,
};
use exchange::{Reply, client};
use judge::{Judged, Voided};
use requests::Request;

/// The version of the API that this was written and tested against: what stripe-mock 0.203.0 validates.
pub const API_VERSION: &str = "2026-08-26.dahlia";

/// A client of Stripe's API.
pub struct Stripe {
    http: reqwest::Client,
    config: ProviderConfig,
    /// Requests that may be under way at once.
    places: Semaphore,
    breaker: Mutex<Breaker>,
    metrics: ProviderMetrics,
}

impl Stripe {
    /// A client that connects when it is first used.
    ///
    /// # Errors
    ///
    /// No HTTP client can be made.
    pub fn new(config: ProviderConfig, metrics: ProviderMetrics) -> Result<Self, reqwest::Error> {
        Ok(Self {
            http: client()?,
            places: Semaphore::new(config.calls),
            breaker: Mutex::new(Breaker::new(config.breaker)),
            config,
            metrics,
        })
    }

    /// A call, as it is seen from outside: one span, counted once, however many requests it takes.
    async fn observed<T>(
        &self,
        operation: Operation,
        call: &Call,
        definite: impl FnOnce(&T) -> &'static str,
        work: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        let span = Span::client(&call.trace, operation.span_name());
        span.attribute("server.address", self.config.base.host_str().unwrap_or_default().to_owned());
        let begun = Instant::now();
        let result = span.run(work).await;
        let outcome = result.as_ref().map_or_else(Trouble::as_str, definite);
        span.attribute("ticketing.outcome", outcome);
        if let Err(trouble) = &result {
            span.error(outcome);
            span.within(|| match trouble {
                Trouble::Broken { .. } => tracing::error!(operation = operation.as_str(), %trouble, "needs mending"),
                Trouble::Unclear { .. } => {
                    tracing::debug!(operation = operation.as_str(), %trouble, "nothing definite")
                }
            });
        }
        self.metrics.called(operation, outcome, begun.elapsed());
        result
    }

    /// Makes a request until an answer is definite, or further attempts make no sense.
    async fn ask<T>(
        &self,
        operation: Operation,
        request: &Request,
        deadline: Instant,
        judge: impl Fn(&Reply) -> Judged<T>,
    ) -> Result<T, Trouble> {
        let mut attempt = 0;
        loop {
            let judged = match self.exchange(request, deadline).await {
                Ok(reply) => judge::heed_advice(&reply, judge(&reply)),
                Err(stopped) => stopped.into(),
            };
            let (why, retry_after) = match judged {
                Judged::Definite(definite) => return Ok(definite),
                Judged::Stop(trouble) => return Err(trouble),
                Judged::Again(why, retry_after) => (why, retry_after),
            };
            let pause = retries::pause(attempt, retry_after, fastrand::f64());
            let next = Instant::now() + pause;
            if attempt >= self.config.retries || next >= deadline {
                return Err(Trouble::Unclear { why, retry_after });
            }
            tokio::time::sleep_until(next).await;
            attempt += 1;
            self.metrics.retried(operation);
        }
    }

    /// Asks for a charge, or for what became of it if it was asked for under its key before.
    async fn ask_to_charge(
        &self,
        operation: Operation,
        charge: &Charge,
        amount: i64,
        call: &Call,
    ) -> Result<Outcome, Trouble> {
        let request = requests::charge(charge, amount);
        let asked = self.ask(operation, &request, call.deadline, |reply| judge::charge(reply, charge)).await;
        match asked {
            Err(kept @ Trouble::Unclear { why: Why::AnswerKept, .. }) => {
                // As young as can be: only what is found counts.
                let found = self.look_charge_up(operation, charge, Duration::ZERO, call).await;
                found.ok().flatten().ok_or(kept)
            }
            other => other,
        }
    }

    async fn look_charge_up(
        &self,
        operation: Operation,
        charge: &Charge,
        age: Duration,
        call: &Call,
    ) -> Result<Option<Outcome>, Trouble> {
        let found = self.ask(operation, &requests::search(charge), call.deadline, judge::found).await?;
        let mut declined = None;
        for id in &found {
            // What the search shows may be of some time ago.
            let request = requests::retrieve(id);
            match self.ask(operation, &request, call.deadline, |reply| judge::intent(reply, charge)).await? {
                succeeded @ Outcome::Succeeded { .. } => return Ok(Some(succeeded)),
                other => declined = Some(other),
            }
        }
        match declined {
            None if age < SETTLED_AFTER => Err(Trouble::unclear(Why::NotSettled)),
            outcome => Ok(outcome),
        }
    }

    async fn look_refund_up(
        &self,
        operation: Operation,
        refund: &Refund,
        call: &Call,
    ) -> Result<Option<Refunded>, Trouble> {
        self.ask(operation, &requests::refunds(refund), call.deadline, |reply| judge::refunds(reply, refund)).await
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        // Whole at any time: its steps don't panic half-way.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Provider for Stripe {
    async fn charge(&self, charge: &Charge, call: &Call) -> Result<Outcome, Trouble> {
        let operation = Operation::Charge;
        let work = async {
            // Nothing has been asked yet, nor will be.
            let Some(amount) = amount::of(charge.amount) else {
                return Ok(Outcome::Declined { code: UNSUPPORTED_AMOUNT.to_owned() });
            };
            self.ask_to_charge(operation, charge, amount, call).await
        };
        self.observed(operation, call, outcome_name, work).await
    }

    async fn void_charge(&self, charge: &Charge, call: &Call) -> Result<Option<Outcome>, Trouble> {
        let operation = Operation::VoidCharge;
        let work = async {
            // Nothing has been asked yet, nor will be.
            let Some(amount) = amount::of(charge.amount) else { return Ok(None) };
            let request = requests::void(charge, amount);
            match self.ask(operation, &request, call.deadline, |reply| judge::void(reply, charge)).await? {
                Voided::Unused => Ok(None),
                // Known as it is, its key charges nobody anew.
                Voided::Used => self.ask_to_charge(operation, charge, amount, call).await.map(Some),
            }
        };
        self.observed(operation, call, found_name, work).await
    }

    async fn refund(&self, refund: &Refund, call: &Call) -> Result<Refunded, Trouble> {
        let operation = Operation::Refund;
        let work = async {
            let request = requests::refund(refund);
            let asked = self.ask(operation, &request, call.deadline, |reply| judge::refund(reply, refund)).await;
            match asked {
                Ok(Some(refunded)) => Ok(refunded),
                // Somebody has done it already, or some of it: an earlier request, or a person in Stripe's dashboard.
                Ok(None) => {
                    let found = self.look_refund_up(operation, refund, call).await?;
                    found.ok_or(Trouble::unclear(Why::Unreadable))
                }
                Err(kept @ Trouble::Unclear { why: Why::AnswerKept, .. }) => {
                    self.look_refund_up(operation, refund, call).await.ok().flatten().ok_or(kept)
                }
                Err(trouble) => Err(trouble),
            }
        };
        self.observed(operation, call, |_| "succeeded", work).await
    }

    async fn find_charge(&self, charge: &Charge, age: Duration, call: &Call) -> Result<Option<Outcome>, Trouble> {
        let operation = Operation::FindCharge;
        let work = self.look_charge_up(operation, charge, age, call);
        self.observed(operation, call, found_name, work).await
    }

    async fn find_refund(&self, refund: &Refund, call: &Call) -> Result<Option<Refunded>, Trouble> {
        let operation = Operation::FindRefund;
        let work = self.look_refund_up(operation, refund, call);
        self.observed(operation, call, |found| found.as_ref().map_or("nothing", |_| "succeeded"), work).await
    }
}

fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded { .. } => "succeeded",
        Outcome::Declined { .. } => "declined",
    }
}

fn found_name(found: &Option<Outcome>) -> &'static str {
    found.as_ref().map_or("nothing", outcome_name)
}
