//! A bounded pool of connections for reading. The write path has connections of its own.

use std::time::Duration;

use diesel_async::{
    AsyncPgConnection,
    pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod, deadpool},
};
use futures_util::FutureExt;

use super::Database;

/// How long a read waits for a free connection before the database counts as out of reach.
const WAIT: Duration = Duration::from_secs(2);

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
                let connected = database.connect().await;
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
            .wait_timeout(Some(WAIT))
            .create_timeout(Some(WAIT))
            .recycle_timeout(Some(WAIT))
            .runtime(::deadpool::Runtime::Tokio1)
            .build();
        #[allow(clippy::expect_used, reason = "building fails only if timeouts are set without a runtime")]
        Self(pool.expect("a runtime is set"))
    }

    /// A connection, for as long as it is held.
    ///
    /// # Errors
    ///
    /// None was free or could be opened within 2 s.
    pub async fn get(&self) -> Result<deadpool::Object<AsyncPgConnection>, PoolError> {
        Ok(self.0.get().await?)
    }

    /// How many connections are open, and how many of them are idle.
    pub fn usage(&self) -> (usize, usize) {
        let status = self.0.status();
        (status.size, status.available)
    }

    /// Closes all connections; later calls fail.
    pub fn close(&self) {
        self.0.close();
    }
}
