//! The outbox's partitions, a day each, made days ahead.

use std::time::Duration;

use chrono::{Days, NaiveDate};
use diesel::{QueryResult, sql_query, sql_types::Bool, sql_types::Date, sql_types::Text};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    db::{ConnectError, Database},
};

/// How many days beyond today there is a partition for: as long as this may fail before anybody is held up. The relay
/// looks into each of them.
const AHEAD: u64 = 2;
/// Often, for what a day is the database says, and its clock may be set, or go on while this process stands still.
const CHECKED_EVERY: Duration = Duration::from_secs(60);

#[derive(diesel::QueryableByName)]
struct Today {
    #[diesel(sql_type = Date)]
    today: NaiveDate,
}

#[derive(diesel::QueryableByName)]
struct Attached {
    #[diesel(sql_type = Bool)]
    attached: bool,
}

/// Why the partitions could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A statement failed: a lock that was not to be had within 50 ms, for one.
    #[error("making the outbox's partitions: {0}")]
    Query(#[from] diesel::result::Error),
}

/// Makes what is missing of today's partition and those of the days to come.
///
/// # Errors
///
/// The database can't be reached, or a lock was not to be had at once; what was made stays.
pub async fn ensure_partitions(database: &Database) -> Result<(), PartitionError> {
    let mut conn = database.connect().await?;
    // ATTACH waits for no reader and no writer, but for whoever changes or vacuums the parent, and what asks for stronger locks
    // would wait behind it: better to come back later.
    conn.batch_execute("SET lock_timeout = '50ms'").await?;
    let Today { today } = sql_query("SELECT (now() AT TIME ZONE 'UTC')::date AS today").get_result(&mut *conn).await?;
    for ahead in 0..=AHEAD {
        let Some(day) = today.checked_add_days(Days::new(ahead)) else { break };
        ensure(&mut conn, day).await?;
    }
    Ok(())
}

async fn ensure(conn: &mut diesel_async::AsyncPgConnection, day: NaiveDate) -> QueryResult<()> {
    let name = format!("outbox_{}", day.format("%Y%m%d"));
    let Attached { attached } =
        sql_query("SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass($1)) AS attached")
            .bind::<Text, _>(&name)
            .get_result(conn)
            .await?;
    if attached {
        return Ok(());
    }
    let next = day.checked_add_days(Days::new(1)).unwrap_or(day);
    // Made apart and attached: CREATE … PARTITION OF would lock the parent against writers, ATTACH doesn't. Two
    // replicas that do this at once collide on the name, and one comes back later.
    conn.batch_execute(&format!(
        "BEGIN; \
         CREATE TABLE IF NOT EXISTS {name} (LIKE outbox INCLUDING DEFAULTS INCLUDING INDEXES); \
         ALTER TABLE outbox ATTACH PARTITION {name} FOR VALUES FROM ('{day} 00:00:00+00') TO ('{next} 00:00:00+00'); \
         COMMIT"
    ))
    .await
}

/// Keeps making partitions until it is told to stop.
pub async fn keep_partitions(database: Database, stop: CancellationToken) {
    let mut backoff = Backoff::new();
    while !stop.is_cancelled() {
        match ensure_partitions(&database).await {
            Ok(()) => {
                backoff = Backoff::new();
                let _ = tokio::time::timeout(CHECKED_EVERY, stop.cancelled()).await;
            }
            Err(error) => {
                tracing::warn!(%error, "will try again to make the outbox's partitions");
                backoff.wait(&stop).await;
            }
        }
    }
}
