//! What librdkafka tells of itself, for metrics: how many requests our clients send to brokers, and whether they are connected to any.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use serde::Deserialize;

use crate::ops::Metrics;

/// How often librdkafka tells its statistics, to a client that is polled.
pub(super) const TOLD_EVERY_MS: &str = "5000";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByClient {
    client: &'static str,
}

/// What clients of Kafka tell, by client. Cheap to clone: all clones are one.
#[derive(Clone, Debug, Default)]
pub struct KafkaMetrics {
    requests: Family<ByClient, Counter>,
    connected: Family<ByClient, Gauge>,
}

impl KafkaMetrics {
    /// Registers the families.
    pub fn new(metrics: &Metrics) -> Self {
        let requests = "Requests sent to brokers, as librdkafka counts them";
        let connected = "1 while the client is connected to a broker";
        Self {
            requests: metrics.register("kafka_requests", requests, Family::default()),
            connected: metrics.register("kafka_connected", connected, Family::default()),
        }
    }

    /// A client's own series, at 0 if they are new.
    pub(crate) fn client(&self, client: &'static str) -> ClientStatistics {
        let client = ByClient { client };
        ClientStatistics {
            requests: self.requests.get_or_create_owned(&client),
            connected: self.connected.get_or_create_owned(&client),
            last_total: AtomicU64::new(0),
        }
    }
}

/// What one client tells, from its beginning to its end.
#[derive(Debug)]
pub(crate) struct ClientStatistics {
    /// That of all clients of this name, one after the other.
    requests: Counter,
    /// Of the client of this name that told last.
    connected: Gauge,
    /// How many requests there had been when it told last.
    last_total: AtomicU64,
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
    /// Of its connection; `rd_kafka_broker_state_names` has all of them.
    state: String,
}

impl Broker {
    /// As librdkafka itself has it.
    fn is_up(&self) -> bool {
        matches!(self.state.as_str(), "UP" | "UPDATE")
    }
}

impl ClientStatistics {
    /// Takes in what librdkafka tells, in JSON.
    pub(crate) fn record(&self, statistics: &[u8]) {
        match serde_json::from_slice::<Statistics>(statistics) {
            Ok(Statistics { brokers }) => {
                let all = brokers.values().map(|broker| broker.tx).sum();
                // A broker that was forgotten takes its count along: nothing was sent by that.
                self.requests.inc_by(all - self.last_total.swap(all, Relaxed).min(all));
                self.connected.set(brokers.values().any(Broker::is_up).into());
            }
            Err(error) => tracing::debug!(%error, "statistics of librdkafka can't be read"),
        }
    }
}

impl Drop for ClientStatistics {
    fn drop(&mut self) {
        self.connected.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client shows, with its metrics.
    fn shows(metrics: &Metrics, series: &str, expected: u64) {
        let page = metrics.encode();
        assert!(page.contains(&format!("{series}{{client=\"producer\"}} {expected}\n")), "{page}");
    }

    #[test]
    fn requests_are_counted_over_brokers_that_come_and_go_and_over_clients_that_follow_each_other() {
        let metrics = Metrics::new();
        let kafka = KafkaMetrics::new(&metrics);
        let first = kafka.client("producer");
        let shown = |expected| shows(&metrics, "kafka_requests_total", expected);
        shown(0);
        for (statistics, expected) in [
            (
                r#"{"name":"x","brokers":{"a:1/0":{"tx":5,"rx":4,"state":"UP"},"GroupCoordinator":{"tx":2,"state":"UP"}}}"#,
                7,
            ),
            (r#"{"brokers":{"a:1/0":{"tx":6,"state":"UP"},"GroupCoordinator":{"tx":2,"state":"INIT"}}}"#, 8),
            (r#"{"brokers":{"a:1/0":{"tx":6,"state":"UP"}}}"#, 8),
            (r#"{"brokers":{"a:1/0":{"tx":9,"state":"DOWN"}}}"#, 11),
            ("no JSON", 11),
        ] {
            first.record(statistics.as_bytes());
            shown(expected);
        }
        kafka.client("producer").record(br#"{"brokers":{"a:1/0":{"tx":3,"state":"UP"}}}"#);
        shown(14);
    }

    #[test]
    fn a_client_is_connected_while_any_of_its_brokers_is_up_and_no_more_once_it_is_gone() {
        let metrics = Metrics::new();
        let kafka = KafkaMetrics::new(&metrics);
        let client = kafka.client("producer");
        let shown = |expected| shows(&metrics, "kafka_connected", expected);
        shown(0);
        for (states, expected) in [
            (["INIT", "TRY_CONNECT"], 0),
            (["INIT", "UP"], 1),
            (["UPDATE", "DOWN"], 1),
            (["APIVERSION_QUERY", "DOWN"], 0),
            (["UP", "UP"], 1),
        ] {
            let [first, second] = states.map(|state| format!(r#"{{"tx":1,"state":"{state}"}}"#));
            client.record(format!(r#"{{"brokers":{{"a:1/0":{first},"b:1/1":{second}}}}}"#).as_bytes());
            shown(expected);
        }
        drop(client);
        shown(0);
    }
}
