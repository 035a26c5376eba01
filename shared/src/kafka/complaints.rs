//! What librdkafka has to say, so that a broker that is away doesn't fill the log.

use std::time::Instant;

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel::{self, Debug, Info, Notice},
    error::{KafkaError, RDKafkaErrorCode},
};

use super::ClientStatistics;
use crate::telemetry::Spell;

/// Where librdkafka tells what it thinks of a client's settings.
const CONFIGURATION: &str = "CONFWARN";

/// A client's complaints: its errors and what it logs as such, which say the same twice, are one thing to be told of.
#[derive(Debug)]
pub(crate) struct Complaints {
    /// Whose they are: a group, or the producer.
    client: &'static str,
    spell: Spell,
}

impl Complaints {
    pub(crate) fn of(client: &'static str) -> Self {
        Self { client, spell: Spell::default() }
    }

    pub(crate) fn error(&self, error: &KafkaError, reason: &str) {
        let Some(left_out) = self.spell.happens(Instant::now()) else { return };
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => {
                tracing::warn!(
                    client = self.client,
                    reason,
                    left_out,
                    "a topic isn't there yet: its own service makes it"
                );
            }
            _ => {
                tracing::warn!(client = self.client, %error, reason, left_out, "Kafka can't be reached as it should");
            }
        }
    }

    pub(crate) fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        match level {
            Debug => tracing::debug!(client = self.client, facility, "librdkafka: {text}"),
            // Settings are the program's, and chosen: what is experimental about one is no news to operators.
            _ if facility == CONFIGURATION => {
                tracing::debug!(client = self.client, facility, "librdkafka: {text}");
            }
            Notice | Info => tracing::info!(client = self.client, facility, "librdkafka: {text}"),
            _ => {
                if let Some(left_out) = self.spell.happens(Instant::now()) {
                    tracing::warn!(client = self.client, facility, left_out, "librdkafka: {text}");
                }
            }
        }
    }

    /// Tells when there have been none for a while. To be called every now and then.
    pub(crate) fn watch(&self) {
        if let Some(over) = self.spell.over(Instant::now()) {
            let client = self.client;
            tracing::info!(client, times = over.times, lasted = ?over.lasted, "Kafka has given no more trouble for a while");
        }
    }
}

/// For a client whose errors are given to whoever asked.
#[derive(Default)]
pub(crate) struct Asking(Option<ClientStatistics>);

impl Asking {
    /// One that lasts, so that metrics show how it is.
    pub(crate) fn shown(statistics: ClientStatistics) -> Self {
        Self(Some(statistics))
    }
}

impl ClientContext for Asking {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, text: &str) {
        tracing::debug!(facility, "librdkafka: {text}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "asking Kafka");
    }

    fn stats_raw(&self, statistics: &[u8]) {
        if let Some(shown) = &self.0 {
            shown.record(statistics);
        }
    }
}

impl rdkafka::consumer::ConsumerContext for Asking {}
