//! One Postgres and one Kafka for as long as they are needed, then gone without a trace. In: nothing. Out: two servers on free ports, in
//! a temporary folder. They share nothing with `make run` or with other throwaway servers.

use anyhow::Result;

use crate::kafka::{Kafka, KafkaConfig};
use crate::ports::Port;
use crate::postgres::{Postgres, PostgresConfig};
use crate::scratch::Scratch;
use crate::tools::Tools;

/// A Postgres and a Kafka, both ready.
#[derive(Debug)]
pub struct Throwaway {
    // In the order in which they are dropped: the servers before their folder.
    /// The Postgres server.
    pub postgres: Postgres,
    /// The Kafka broker.
    pub kafka: Kafka,
    dir: Scratch,
}

impl Throwaway {
    /// Starts both, at the same time, and waits until both are ready: about 4 s.
    ///
    /// # Errors
    /// When one of them can't be had or started.
    pub async fn start(tools: &Tools, fsync: bool) -> Result<Self> {
        let dir = Scratch::new()?;
        let postgres = async {
            let place = dir.path().join("postgres");
            let config = PostgresConfig { dir: place, port: Port::free()?, fsync, settings: Vec::new() };
            let postgres = Postgres::create(tools, config).await?;
            postgres.process().start().await.map(|()| postgres)
        };
        let kafka = async {
            let place = dir.path().join("kafka");
            let (port, controller_port) = (Port::free()?, Port::free()?);
            let kafka =
                Kafka::create(tools, KafkaConfig { dir: place, port, controller_port, settings: Vec::new() }).await?;
            kafka.process().start().await.map(|()| kafka)
        };
        let (postgres, kafka) = tokio::try_join!(postgres, kafka)?;
        Ok(Self { postgres, kafka, dir })
    }

    /// What the tests of all crates read: `TEST_POSTGRES_URL`, a superuser's, and `TEST_KAFKA_BROKERS`.
    pub fn env(&self) -> [(&'static str, String); 2] {
        [("TEST_POSTGRES_URL", self.postgres.url("postgres")), ("TEST_KAFKA_BROKERS", self.kafka.brokers())]
    }

    /// Stops both and removes what they wrote.
    ///
    /// # Errors
    /// When one doesn't end by itself, or the folder can't be removed; the rest is done all the same.
    pub async fn stop(self) -> Result<()> {
        let (kafka, postgres) = tokio::join!(self.kafka.process().terminate(), self.postgres.process().terminate());
        let removed = self.dir.remove();
        kafka.and(postgres).and(removed)
    }
}
