//! How clients find the brokers, and what all of them have in common.

use rdkafka::ClientConfig;

use super::statistics::{KafkaMetrics, TOLD_EVERY_MS};

/// `host:port` of some brokers, separated by commas.
pub type Brokers = String;

/// Where Kafka is, and how this installation's names begin there.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// The brokers to ask first.
    pub brokers: Brokers,
    /// Put before the names of topics and groups, so that several installations can share a broker. Often empty.
    pub prefix: String,
    /// What brokers see this client as.
    pub client_id: String,
    /// Where its clients tell how they are.
    pub metrics: KafkaMetrics,
}

impl KafkaConfig {
    /// A topic's name on these brokers.
    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A consumer group's name on these brokers.
    pub fn group(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// What every client is set to.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", &self.client_id)
            // A broker that is back is found within a second, not ten.
            .set("reconnect.backoff.max.ms", "1000")
            // And one that is away is noticed again and again, not forgotten.
            .set("socket.connection.setup.timeout.ms", "10000")
            .set("socket.nagle.disable", "true")
            .set("topic.metadata.refresh.interval.ms", "60000")
            // Local brokers may resolve to both families and listen on one.
            .set("broker.address.family", "any")
            .set("statistics.interval.ms", TOLD_EVERY_MS);
        config
    }
}
