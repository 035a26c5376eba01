//! One Postgres and one Kafka for as long as they are needed, then gone without a trace. In: nothing. Out: two servers on free ports, in
//! a temporary folder. They share nothing with `make run` or with other throwaway servers.

use anyhow::Result;

use crate::kafka::{Kafka, KafkaConfig};
use crate::ports::Port;
use crate::postgres::{self, Postgres, PostgresConfig};
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

    /// Ends both and removes what they wrote.
    ///
    /// # Errors
    /// When the folder can't be removed.
    pub async fn stop(self) -> Result<()> {
        let Self { postgres, kafka, dir } = self;
        // Not by a clean end: Postgres would first write out all that it has, gigabytes after the tests, for as long as the disk
        // takes, only for that to be removed. Dropping waits.
        let ended = tokio::task::spawn_blocking(move || {
            drop((postgres, kafka));
            postgres::free_shared_memory(&dir.path().join("postgres"));
            dir.remove()
        });
        ended.await?
    }
}
