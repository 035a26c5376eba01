//! What work costs: CPU by process, memory, the write-ahead log, requests to the broker. In: a system. Out: readings, and the
//! difference of two.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use anyhow::Result;
use local::{service::Service, session::Session};

use crate::rig::System;

/// How often a backlog is looked at: whoever looks takes a part of what is measured.
pub(crate) const LOOKS: Duration = Duration::from_millis(50);

/// A reading.
#[derive(Debug)]
pub(crate) struct Meter {
    cpu: Vec<(String, Duration)>,
    log: LogUse,
    requests: f64,
    memory: u64,
}

/// What a run took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cost {
    /// Milliseconds of CPU an order, by process.
    pub cpu: BTreeMap<String, f64>,
    /// Bytes of the write-ahead log an order.
    pub wal: f64,
    /// Its flushes an order.
    pub syncs: f64,
    /// Requests of all clients to the broker an order.
    pub requests: f64,
    /// The largest service's memory at the end, in bytes.
    pub memory: u64,
}

impl Cost {
    /// Milliseconds of CPU an order, of all processes but the client.
    pub(crate) fn cpu_together(&self) -> f64 {
        self.cpu.values().sum()
    }
}

/// How much of the write-ahead log a server has written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LogUse {
    /// In bytes.
    pub bytes: f64,
    /// How often it was flushed.
    pub syncs: f64,
}

impl LogUse {
    /// What this server has written so far.
    ///
    /// # Errors
    ///
    /// It can't be asked.
    pub(crate) async fn of(url: &str) -> Result<Self> {
        let session = Session::connect(url).await?;
        let version: i32 = session.query_one("SELECT current_setting('server_version_num')::int", &[]).await?.get(0);
        // Since version 18 flushes are counted with all other input and output.
        let syncs = match version {
            ..180_000 => "SELECT wal_sync FROM pg_stat_wal",
            _ => "SELECT sum(fsyncs)::bigint FROM pg_stat_io WHERE object = 'wal'",
        };
        let both = format!("SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::float8, ({syncs})::float8");
        let row = session.query_one(&both, &[]).await?;
        Ok(Self { bytes: row.get(0), syncs: row.get(1) })
    }
}

impl Meter {
    /// How it stands now.
    ///
    /// # Errors
    ///
    /// The system can't be asked.
    pub(crate) async fn read(system: &System<'_>) -> Result<Self> {
        let services = system.stack.services();
        let mut requests = 0.0;
        for service in services {
            requests += sum(service, "kafka_requests_total").await?;
        }
        Ok(Self {
            cpu: system.processes().map(|process| (process.name(), process.cpu_time())).collect(),
            log: LogUse::of(&system.postgres().url("postgres")).await?,
            requests,
            memory: services.iter().filter_map(|service| service.process().memory()).max().unwrap_or_default(),
        })
    }

    /// What was used from this reading to a later one, for so many orders.
    pub(crate) fn until(&self, later: &Self, orders: u64) -> Cost {
        let orders = orders.max(1) as f64;
        let spent = self.cpu.iter().zip(&later.cpu).map(|((name, before), (_, after))| {
            // Replicas under one name.
            let name = name.split_once('-').map_or(name.as_str(), |(service, _)| service);
            (name.to_owned(), after.saturating_sub(*before).as_secs_f64() * 1000.0 / orders)
        });
        let mut cpu = BTreeMap::new();
        spent.for_each(|(name, spent)| *cpu.entry(name).or_default() += spent);
        Cost {
            cpu,
            wal: (later.log.bytes - self.log.bytes) / orders,
            syncs: (later.log.syncs - self.log.syncs) / orders,
            requests: (later.requests - self.requests) / orders,
            memory: later.memory,
        }
    }
}

/// The samples of all metrics that begin so, as a service tells them: each name with its labels, and the value.
///
/// # Errors
///
/// It can't be asked.
pub(crate) async fn told(service: &Service, begins: &str) -> Result<BTreeMap<String, f64>> {
    // One client for all: making one costs more than what it asks.
    static HTTP: LazyLock<reqwest::Client> = LazyLock::new(reqwest::Client::new);
    let page = HTTP.get(format!("http://{}/metrics", service.ops())).send().await?.text().await?;
    let samples = page.lines().filter_map(|line| line.rsplit_once(' '));
    let samples = samples.filter(|(name, _)| name.starts_with(begins));
    Ok(samples.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
}

/// The sum of a metric over its labels.
///
/// # Errors
///
/// The service can't be asked.
pub(crate) async fn sum(service: &Service, metric: &str) -> Result<f64> {
    Ok(told(service, metric).await?.values().sum())
}
