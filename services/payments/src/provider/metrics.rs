//! What this room tells of itself.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};
use shared::ops::{Metrics, seconds};

use super::{Fault, Why, breaker::Position};

/// What is asked of a provider, by the names that metrics and spans have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Charge,
    VoidCharge,
    Refund,
    FindCharge,
    FindRefund,
}

impl Operation {
    const ALL: [Self; 5] = [Self::Charge, Self::VoidCharge, Self::Refund, Self::FindCharge, Self::FindRefund];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::VoidCharge => "void_charge",
            Self::Refund => "refund",
            Self::FindCharge => "find_charge",
            Self::FindRefund => "find_refund",
        }
    }

    pub(super) const fn span_name(self) -> &'static str {
        match self {
            Self::Charge => "provider charge",
            Self::VoidCharge => "provider void_charge",
            Self::Refund => "provider refund",
            Self::FindCharge => "provider find_charge",
            Self::FindRefund => "provider find_refund",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOperation {
    operation: &'static str,
}

/// Counters, gauges and histograms of the provider's client.
pub struct ProviderMetrics {
    calls: Family<ByOutcome, Counter>,
    time: Family<ByOperation, Histogram>,
    retries: Family<ByOperation, Counter>,
    in_flight: Gauge,
    breaker: Gauge,
}

/// What a call that went well is counted as.
pub(super) const DEFINITE: [&str; 3] = ["succeeded", "declined", "nothing"];

impl ProviderMetrics {
    /// Registers every family, with every series that there can be.
    pub fn new(metrics: &Metrics) -> Self {
        let these = Self {
            calls: metrics.register("provider_calls", "Calls of the payment provider, by outcome", Family::default()),
            time: metrics.register(
                "provider_call_seconds",
                "From a call to its outcome, with its repetitions",
                Family::new_with_constructor((|| Histogram::new(seconds())) as fn() -> Histogram),
            ),
            retries: metrics.register("provider_retries", "Requests that repeat another", Family::default()),
            in_flight: metrics.gauge("provider_requests_in_flight", "Requests under way"),
            breaker: metrics.gauge("provider_breaker", "0 if the provider is asked, 1 if it is tried, 2 if left alone"),
        };
        let faults = [Fault::BadRequest, Fault::Unauthorized].map(Fault::as_str);
        for operation in Operation::ALL.map(Operation::as_str) {
            drop(these.time.get_or_create(&ByOperation { operation }));
            drop(these.retries.get_or_create(&ByOperation { operation }));
            for outcome in DEFINITE.into_iter().chain(Why::ALL.map(Why::as_str)).chain(faults) {
                drop(these.calls.get_or_create(&ByOutcome { operation, outcome }));
            }
        }
        these
    }

    pub(super) fn called(&self, operation: Operation, outcome: &'static str, time: Duration) {
        let operation = operation.as_str();
        self.calls.get_or_create(&ByOutcome { operation, outcome }).inc();
        self.time.get_or_create(&ByOperation { operation }).observe(time.as_secs_f64());
    }

    pub(super) fn retried(&self, operation: Operation) {
        self.retries.get_or_create(&ByOperation { operation: operation.as_str() }).inc();
    }

    /// A request is under way until this is dropped.
    pub(super) fn in_flight(&self) -> InFlight<'_> {
        self.in_flight.inc();
        InFlight(&self.in_flight)
    }

    pub(super) fn breaker(&self, position: Position) {
        self.breaker.set(position as i64);
    }
}

pub(super) struct InFlight<'a>(&'a Gauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
