//! What only a query can tell, asked every few seconds by one task, so that a scrape asks nobody and costs nothing.
//!
//! It has a connection of its own, reads alone, and waits for nothing: a statement that takes too long is given up, and
//! what it would have told stays what it was. By when it last told anything, everybody sees how old that is.

use std::{sync::atomic::AtomicU64, time::Duration};

use diesel::QueryResult;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use futures_util::future::BoxFuture;
use prometheus_client::metrics::gauge::Gauge;
use tokio_util::sync::CancellationToken;

use super::Metrics;
use crate::{
    clock,
    db::{Conn, ConnectError, Database},
    telemetry::Spell,
};

/// What is told by a database, and shown as gauges.
pub trait Sample: Send + Sync + 'static {
    /// Asks, by few statements of which each reads a bounded number of rows, and sets the gauges.
    fn take<'a>(&'a self, conn: &'a AsyncPgConnection) -> BoxFuture<'a, QueryResult<()>>;
}

/// Takes all samples of a process, every now and then.
pub(crate) struct Sampler {
    database: Database,
    every: Duration,
    samples: Vec<Box<dyn Sample>>,
    taken: Gauge<f64, AtomicU64>,
}

/// How long all samples together may take, and a connection for them.
const LIMIT: Duration = Duration::from_secs(5);
/// What this session is set to besides.
const SESSION: &str = "SET statement_timeout = '2s'; SET default_transaction_read_only = on";

#[derive(Debug, thiserror::Error)]
enum SampleError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Query(#[from] diesel::result::Error),
    #[error("no answer within {LIMIT:?}")]
    Late(#[from] tokio::time::error::Elapsed),
}

impl Sampler {
    pub(crate) fn new(database: Database, every: Duration, metrics: &Metrics) -> Self {
        let help = "When the database last answered what the gauges that are read from it show";
        let taken = metrics.register("sampled_timestamp_seconds", help, Gauge::default());
        Self { database, every, samples: Vec::new(), taken }
    }

    pub(crate) fn add(&mut self, sample: impl Sample) {
        self.samples.push(Box::new(sample));
    }

    /// Takes samples until it is told to stop.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let (failing, mut conn) = (Spell::default(), None);
        while !stop.is_cancelled() {
            let round = tokio::time::timeout(LIMIT, self.round(&mut conn));
            // A round that is cut short by the end leaves a connection that nobody uses any more.
            let Some(round) = stop.run_until_cancelled(round).await else { return };
            let now = std::time::Instant::now();
            match round.map_err(SampleError::from).flatten() {
                Ok(()) => {
                    #[allow(clippy::cast_precision_loss, reason = "microseconds of an epoch fit to the microsecond")]
                    self.taken.set(clock::now().timestamp_micros() as f64 / 1e6);
                    if let Some(over) = failing.over(now) {
                        tracing::info!(times = over.times, lasted = ?over.lasted, "what metrics show is read again");
                    }
                }
                Err(error) => {
                    conn = None;
                    if let Some(left_out) = failing.happens(now) {
                        tracing::warn!(%error, left_out, "what metrics show can't be read: it stays what it was");
                    }
                }
            }
            let _ = tokio::time::timeout(self.every, stop.cancelled()).await;
        }
    }

    async fn round(&self, kept: &mut Option<Conn>) -> Result<(), SampleError> {
        // Taken, so that what is cut short leaves no connection that still waits for its answer.
        let conn = match kept.take() {
            Some(conn) => conn,
            None => {
                // By indexes, as the write path: what is asked must not read whole tables once they have grown.
                let mut conn = self.database.connect_prepared().await?;
                conn.batch_execute(SESSION).await?;
                conn
            }
        };
        for sample in &self.samples {
            sample.take(&conn).await?;
        }
        *kept = Some(conn);
        Ok(())
    }
}
