//! How many requests our clients send to brokers, by what librdkafka counts itself.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use serde::Deserialize;

use crate::ops::Metrics;

/// How often librdkafka tells its statistics, to a client that is polled.
pub(super) const TOLD_EVERY_MS: &str = "5000";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByClient {
    client: &'static str,
}

/// Requests to brokers, by the client that sent them. Cheap to clone: all clones are one.
#[derive(Clone, Debug, Default)]
pub struct KafkaMetrics(Family<ByClient, Counter>);

impl KafkaMetrics {
    /// Registers the family.
    pub fn new(metrics: &Metrics) -> Self {
        let help = "Requests sent to brokers, as librdkafka counts them";
        Self(metrics.register("kafka_requests", help, Family::default()))
    }

    /// A client's own counter, at 0 if it is new.
    pub(crate) fn client(&self, client: &'static str) -> Requests {
        Requests { counter: self.0.get_or_create_owned(&ByClient { client }), told: AtomicU64::new(0) }
    }
}

/// The requests of one client, from its beginning to its end.
#[derive(Debug)]
pub(crate) struct Requests {
    /// That of all clients of this name, one after the other.
    counter: Counter,
    /// What the statistics said last.
    told: AtomicU64,
}

/// What of librdkafka's statistics is wanted.
#[derive(Deserialize)]
struct Statistics {
    /// By name; the brokers that it has to do with, and its logical ones.
    brokers: std::collections::HashMap<String, Broker>,
}

#[derive(Deserialize)]
struct Broker {
    /// Requests sent.
    tx: u64,
}

impl Requests {
    /// Takes the statistics in.
    pub(crate) fn count(&self, statistics: &[u8]) {
        match serde_json::from_slice::<Statistics>(statistics) {
            Ok(Statistics { brokers }) => {
                let all = brokers.values().map(|broker| broker.tx).sum();
                // A broker that was forgotten takes its count along: nothing was sent by that.
                self.counter.inc_by(all - self.told.swap(all, Relaxed).min(all));
            }
            Err(error) => tracing::debug!(%error, "statistics of librdkafka can't be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_over_brokers_that_come_and_go_and_over_clients_that_follow_each_other() {
        let metrics = Metrics::new();
        let kafka = KafkaMetrics::new(&metrics);
        let first = kafka.client("producer");
        let shown = |expected: u64| {
            let page = metrics.encode();
            assert!(page.contains(&format!("kafka_requests_total{{client=\"producer\"}} {expected}\n")), "{page}");
        };
        shown(0);
        for (statistics, expected) in [
            (r#"{"name":"x","brokers":{"a:1/0":{"tx":5,"rx":4},"GroupCoordinator":{"tx":2}}}"#, 7),
            (r#"{"brokers":{"a:1/0":{"tx":6},"GroupCoordinator":{"tx":2}}}"#, 8),
            (r#"{"brokers":{"a:1/0":{"tx":6}}}"#, 8),
            (r#"{"brokers":{"a:1/0":{"tx":9}}}"#, 11),
            ("no JSON", 11),
        ] {
            first.count(statistics.as_bytes());
            shown(expected);
        }
        kafka.client("producer").count(br#"{"brokers":{"a:1/0":{"tx":3}}}"#);
        shown(14);
    }
}
