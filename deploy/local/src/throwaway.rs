//! One Postgres and one Kafka for as long as they are needed, then gone without a trace. In: nothing. Out: two servers on free ports, in
//! a temporary folder. They share nothing with `make run` or with other throwaway servers.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::kafka::{Kafka, KafkaConfig};
use crate::ports::Port;
use crate::postgres::{Postgres, PostgresConfig};
use crate::tools::Tools;

const PREFIX: &str = "ticketing-servers-";
const LOCK: &str = "lock";

/// A Postgres and a Kafka, both ready.
#[derive(Debug)]
pub struct Throwaway {
    // In the order in which they are dropped: the servers before their folder.
    /// The Postgres server.
    pub postgres: Postgres,
    /// The Kafka broker.
    pub kafka: Kafka,
    dir: TempDir,
    _lock: File,
}

impl Throwaway {
    /// Starts both, at the same time, and waits until both are ready: about 4 s.
    ///
    /// # Errors
    /// When one of them can't be had or started.
    pub async fn start(tools: &Tools, fsync: bool) -> Result<Self> {
        sweep();
        let mut builder = tempfile::Builder::new();
        // Postgres runs as another user when we are root, and must find its way to its own folder in here.
        let dir = builder.prefix(PREFIX).permissions(Permissions::from_mode(0o755)).tempdir()?;
        let lock = File::create(dir.path().join(LOCK))?;
        lock.lock().context("locking the temporary folder")?;

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
        Ok(Self { postgres, kafka, dir, _lock: lock })
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
        let removed = self.dir.close().context("removing the temporary folder");
        kafka.and(postgres).and(removed)
    }
}

/// Removes the folders of runs that were killed: those whose lock nobody holds.
fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        // One that has no lock file yet is just being made.
        let abandoned = || File::open(path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        if ours && abandoned() {
            // Another run may be at it, too, or it is another user's.
            let _ = fs::remove_dir_all(&path);
        }
    }
}
