//! What work costs: CPU by process, memory, the write-ahead log, requests to the broker. In: a system. Out: readings, and the
//! difference of two; and what services tell of themselves.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use anyhow::Result;
use futures_util::future::try_join_all;
use local::{service::Service, session::Session};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};

use crate::rig::System;

/// How often a backlog is looked at: whoever looks takes a part of what is measured.
pub(crate) const LOOKS: Duration = Duration::from_millis(50);

/// A reading.
#[derive(Debug)]
pub(crate) struct Meter {
    cpu: Vec<(String, Duration)>,
    log: LogUse,
    memory: u64,
}

/// What a run took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cost {
    /// Milliseconds of CPU an order, by process; the client's too.
    pub cpu: BTreeMap<String, f64>,
    /// Bytes of the write-ahead log an order.
    pub wal: f64,
    /// Its flushes an order.
    pub syncs: f64,
    /// The largest service's memory at the end, in bytes.
    pub memory: u64,
}

impl Cost {
    /// Milliseconds of CPU an order, of all processes but the client.
    pub(crate) fn cpu_together(&self) -> f64 {
        self.cpu.iter().filter(|(name, _)| *name != CLIENT).map(|(_, spent)| spent).sum()
    }
}

/// This process, which orders and pays.
const CLIENT: &str = "client";

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
        let own = getrusage(UsageWho::RUSAGE_SELF)?;
        let own = [own.user_time(), own.system_time()]
            .map(|time| Duration::from_micros(time.num_microseconds().unsigned_abs()));
        let processes = system.processes().map(|process| (process.name(), process.cpu_time()));
        Ok(Self {
            cpu: processes.chain([(CLIENT.to_owned(), own.into_iter().sum())]).collect(),
            log: LogUse::of(&system.postgres().url("postgres")).await?,
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
            memory: later.memory,
        }
    }
}

/// How often a client of Kafka tells how many requests it has sent: `TOLD_EVERY_MS` in `shared/src/kafka/statistics.rs`.
const TOLD_EVERY: Duration = Duration::from_secs(5);
/// Of a load whose requests are counted, the least time that it has to last.
pub(crate) const COUNTING: Duration = Duration::from_secs(16);

/// Requests of all clients to the broker a second, under a load that begins now. Clients tell of theirs seldom, each by a clock
/// of its own: so it is looked once all have told since the load began, and again a multiple of that later, and of each it is
/// as much time that was counted.
///
/// # Errors
///
/// A service can't be asked.
pub(crate) async fn requests_a_second(system: &System<'_>) -> Result<f64> {
    const LASTS: Duration = TOLD_EVERY.saturating_mul(2);
    tokio::time::sleep(TOLD_EVERY).await;
    let mut later = tokio::time::interval(LASTS);
    later.tick().await;
    let before = sum_of_all(system, "kafka_requests_total").await?;
    later.tick().await;
    Ok((sum_of_all(system, "kafka_requests_total").await? - before) / LASTS.as_secs_f64())
}

/// Spans that services made and could not pass on, so far.
///
/// # Errors
///
/// A service can't be asked.
pub(crate) async fn lost_spans(system: &System<'_>) -> Result<f64> {
    sum_of_all(system, "trace_spans_lost_total").await
}

/// The sum of a metric over all services and its labels.
async fn sum_of_all(system: &System<'_>, metric: &str) -> Result<f64> {
    let sums = system.stack.services().iter().map(|service| sum(service, metric));
    Ok(try_join_all(sums).await?.into_iter().sum())
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
