//! A bounded pool of connections for reading. The write path has connections of its own.

use std::{fmt, time::Duration};

use ::deadpool::Status;
use diesel_async::{
    AsyncPgConnection,
    pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod, deadpool},
};
use futures_util::FutureExt;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use super::Database;
use crate::ops::Metrics;

/// How long opening a connection may take before the database counts as out of reach. For one that others use a read waits
/// its turn, until its call's deadline: that says nothing of the database.
const OPENING: Duration = Duration::from_secs(2);

/// Connections for reading, opened when needed and kept.
#[derive(Clone)]
pub struct Pool(deadpool::Pool<AsyncPgConnection>);

/// No connection was to be had.
#[derive(Debug, thiserror::Error)]
#[error("no connection to the database: {0}")]
pub struct PoolError(#[from] deadpool::PoolError);

impl Pool {
    /// At most `size` connections, at least 1. Opens none yet.
    pub fn new(database: Database, size: usize) -> Self {
        let mut config = ManagerConfig::default();
        config.recycling_method = RecyclingMethod::Fast;
        config.custom_setup = Box::new(move |_| {
            let database = database.clone();
            async move {
                let connected = database.connect_reader().await;
                connected
                    .map(super::Conn::into_inner)
                    .map_err(|error| diesel::ConnectionError::BadConnection(error.to_string()))
            }
            .boxed()
        });
        // The URL is the closure's business; the manager only hands it through.
        let manager = AsyncDieselConnectionManager::new_with_config("", config);
        let pool = deadpool::Pool::builder(manager)
            .max_size(size.max(1))
            .create_timeout(Some(OPENING))
            .recycle_timeout(Some(OPENING))
            .runtime(::deadpool::Runtime::Tokio1)
            .build();
        #[allow(clippy::expect_used, reason = "building fails only if timeouts are set without a runtime")]
        Self(pool.expect("a runtime is set"))
    }

    /// A connection, for as long as it is held. While all are used this waits, however long that takes.
    ///
    /// # Errors
    ///
    /// None could be opened within 2 s.
    pub async fn get(&self) -> Result<deadpool::Object<AsyncPgConnection>, PoolError> {
        Ok(self.0.get().await?)
    }

    /// Shows how it is used, at the moment that metrics are asked for.
    pub fn show(&self, metrics: &Metrics) {
        metrics.collector(Usage(self.clone()));
    }

    /// Closes all connections; later calls fail.
    pub fn close(&self) {
        self.0.close();
    }
}

/// How a pool is used.
struct Usage(Pool);

impl fmt::Debug for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Usage")
    }
}

impl Collector for Usage {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Status { size, available, waiting, .. } = self.0.0.status();
        let gauge = |count: usize| ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
        let help = "Connections for reading that are open, by what they do";
        let mut connections = encoder.encode_descriptor("db_pool_connections", help, None, MetricType::Gauge)?;
        for (state, count) in [("in_use", size.saturating_sub(available)), ("idle", available)] {
            gauge(count).encode(connections.encode_family(&[("state", state)])?)?;
        }
        let help = "Reads that wait for a connection";
        let encoder = encoder.encode_descriptor("db_pool_waiting", help, None, MetricType::Gauge)?;
        gauge(waiting).encode(encoder)
    }
}
