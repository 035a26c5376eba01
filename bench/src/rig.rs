//! What is measured on: a Postgres with fsync on and a Kafka, started once, and on them system after system, each with
//! databases and topics of its own that go when it ends. In: what is to run. Out: a running system, audited when it
//! stops. It measures nothing.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use audit::{Databases, Sources};
use futures_util::future::try_join_all;
use local::{
    kafka::Kafka,
    postgres::Postgres,
    process::Process,
    progress::say,
    sandbox::Sandbox,
    session::Session,
    stack::{SharedServers, Stack, StackBuilder},
    throwaway::Throwaway,
    tools::Tools,
};
use uuid::Uuid;

use crate::{scale::Scale, topics};

/// The four.
pub(crate) const SERVICES: [&str; 4] = ["tickets", "orders", "payments", "expiration"];

/// Partitions of a topic: as many as there are cores. A producer sends a request for each.
pub(crate) const PARTITIONS: &str = "2";

/// Everything that measurements need.
pub(crate) struct Rig {
    /// Sizes and times.
    pub scale: Scale,
    /// Where programs are.
    pub tools: Tools,
    /// The folder of Postgres's programs.
    pub programs: PathBuf,
    /// The servers.
    pub servers: Throwaway,
}

/// What a system is made of, and how it differs from the usual one.
#[derive(Clone, Debug)]
pub(crate) struct Variant {
    /// Which services.
    pub services: Vec<&'static str>,
    /// How many of each.
    pub replicas: usize,
    /// Whether a gateway stands before them.
    pub gateway: bool,
    /// Settings for all of them.
    pub settings: Vec<(String, String)>,
}

impl Default for Variant {
    fn default() -> Self {
        Self { services: SERVICES.to_vec(), replicas: 1, gateway: false, settings: Vec::new() }
    }
}

impl Variant {
    /// With a setting for all services.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A system that runs.
pub(crate) struct System<'r> {
    rig: &'r Rig,
    /// Its processes.
    pub stack: Stack,
    postgres: &'r Postgres,
    /// All that it makes has a later id.
    since: Uuid,
}

impl Rig {
    /// Starts the servers.
    ///
    /// # Errors
    ///
    /// One of them can't be had or started.
    pub(crate) async fn start(scale: Scale) -> Result<Self> {
        let tools = Tools::from_env()?;
        let programs = tools.postgres().await?;
        let servers = Throwaway::start(&tools, true).await?;
        Ok(Self { scale, tools, programs, servers })
    }

    /// Ends them.
    ///
    /// # Errors
    ///
    /// One doesn't end by itself.
    pub(crate) async fn stop(self) -> Result<()> {
        self.servers.stop().await
    }

    /// The superuser's URL of a database of the rig's own Postgres.
    pub(crate) fn postgres_url(&self, database: &str) -> String {
        self.servers.postgres.url(database)
    }

    /// Has all that is dirty written to disk, by Postgres and by the kernel: what a load has left would be written half a minute
    /// later, and commits would wait for that in the middle of what is measured next.
    ///
    /// # Errors
    ///
    /// The server can't be reached.
    pub(crate) async fn write_out(&self) -> Result<()> {
        Session::connect(&self.postgres_url("postgres")).await?.batch_execute("CHECKPOINT").await?;
        Ok(tokio::task::spawn_blocking(nix::unistd::sync).await?)
    }

    /// The broker's address.
    pub(crate) fn brokers(&self) -> String {
        self.servers.kafka.brokers()
    }

    /// A fresh system of this kind, ready.
    ///
    /// # Errors
    ///
    /// It can't be started.
    pub(crate) async fn system(&self, variant: &Variant) -> Result<System<'_>> {
        let system = self.prepare(variant, &self.servers.postgres).await?;
        system.stack.start().await?;
        Ok(system)
    }

    /// The same on this Postgres, and not started yet.
    ///
    /// # Errors
    ///
    /// Something that it needs is missing.
    pub(crate) async fn prepare<'r>(&'r self, variant: &Variant, postgres: &'r Postgres) -> Result<System<'r>> {
        let servers = SharedServers { postgres_url: postgres.url("postgres"), kafka_brokers: self.brokers() };
        // No order expires while it is measured.
        let mut builder = Stack::builder().on(servers).env("orders", "ORDER_TTL", "1h");
        for service in &variant.services {
            builder = builder.replicas(service, variant.replicas)?;
        }
        builder = usual(builder);
        for (name, value) in &variant.settings {
            builder = builder.env_for_all(name, value);
        }
        if variant.gateway {
            builder = builder.gateway();
        }
        let stack = builder.create(&self.tools).await?;
        Ok(System { rig: self, stack, postgres, since: Uuid::now_v7() })
    }
}

/// What all systems are set to beside their defaults.
fn usual(builder: StackBuilder) -> StackBuilder {
    builder.env_for_all("KAFKA_TOPIC_PARTITIONS", PARTITIONS).env_for_all("RUST_LOG", "warn")
}

impl System<'_> {
    /// The Postgres that it is on.
    pub(crate) fn postgres(&self) -> &Postgres {
        self.postgres
    }

    /// All that work for it, the servers among them.
    pub(crate) fn processes(&self) -> impl Iterator<Item = &Process> {
        let kafka: &Kafka = &self.rig.servers.kafka;
        [self.postgres.process(), kafka.process()].into_iter().chain(self.stack.processes())
    }

    /// The superuser's URL of a service's database.
    pub(crate) fn database_url(&self, service: &str) -> Result<String> {
        Ok(self.postgres.url(&self.database(service)?))
    }

    /// The name of a service's database.
    pub(crate) fn database(&self, service: &str) -> Result<String> {
        let url = self.stack.service(service)?.database_url();
        Ok(url.rsplit_once('/').context("a URL of a database")?.1.to_owned())
    }

    /// A topic's name on the broker.
    pub(crate) fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.stack.topic_prefix())
    }

    /// Audits what became of it, ends it, and removes what it wrote.
    ///
    /// # Errors
    ///
    /// Something is not as it must be: what was measured is worth nothing.
    pub(crate) async fn stop(self) -> Result<()> {
        let audited = self.audit().await;
        let stopped = self.stack.stop().await;
        let removed = self.remove().await;
        audited.and(stopped).and(removed)
    }

    /// The same without an audit, for a system of which a part alone ran.
    ///
    /// # Errors
    ///
    /// It doesn't end.
    pub(crate) async fn abandon(self) -> Result<()> {
        let stopped = self.stack.stop().await;
        let removed = self.remove().await;
        stopped.and(removed)
    }

    /// Looks at all that it did, from outside.
    ///
    /// # Errors
    ///
    /// Something is not as it must be, or can't be looked at.
    pub(crate) async fn audit(&self) -> Result<()> {
        let url = |service| self.database_url(service);
        let sources = Sources {
            databases: Databases {
                tickets: url("tickets")?,
                orders: url("orders")?,
                payments: url("payments")?,
                expiration: url("expiration")?,
            },
            kafka_brokers: self.rig.brokers(),
            topic_prefix: self.stack.topic_prefix(),
            ledger: self.stack.sandbox().map(Sandbox::url),
            since: Some(self.since),
        };
        let report = audit::audit(&sources, audit::PATIENCE).await?;
        report.violations.iter().for_each(say);
        ensure!(
            report.violations.is_empty(),
            "{} violations: what was measured counts for nothing",
            report.violations.len()
        );
        ensure!(report.counts.orders() > 0, "there is nothing to audit");
        Ok(())
    }

    async fn remove(&self) -> Result<()> {
        let admin = Session::connect(&self.postgres.url("postgres")).await?;
        let services = self.stack.services().iter().map(|service| service.name());
        let mut names: Vec<_> = services.collect();
        names.dedup();
        for name in &names {
            let database = self.database(name)?;
            admin.batch_execute(&format!("DROP DATABASE \"{database}\" WITH (FORCE)")).await?;
            admin.batch_execute(&format!("DROP ROLE \"{database}\"")).await?;
        }
        let topics: Vec<_> = names.iter().map(|name| self.topic(name)).collect();
        let topics: Vec<_> = topics.iter().map(String::as_str).collect();
        topics::remove(&self.rig.brokers(), &topics).await
    }
}

/// Ends processes side by side.
///
/// # Errors
///
/// One had to be killed.
pub(crate) async fn terminate(processes: impl IntoIterator<Item = &Process>) -> Result<()> {
    let ends = try_join_all(processes.into_iter().map(Process::terminate)).await?;
    ensure!(ends.iter().flatten().all(|end| end.success()), "one ended badly: {ends:?}");
    Ok(())
}
