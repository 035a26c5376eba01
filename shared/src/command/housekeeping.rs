//! What the write path leaves behind, cleared away: request ids of which nobody will ask again, and the rows of
//! writers that are long gone.

use std::time::Duration;

use diesel::QueryResult;
use diesel_async::RunQueryDsl;
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    db::{Conn, ConnectError, Database, Fixed, Prepared},
};

const EVERY: Duration = Duration::from_secs(600);
/// Rows a statement, so that none is long: the `LIMIT` below.
const CHUNK: usize = 10_000;

struct ForgetRequests;
impl Fixed for ForgetRequests {
    // Twice as long as promised. A chunk is found by the block range index, and deleted by place.
    const SQL: &'static str = "\
        DELETE FROM request_ids WHERE ctid = ANY (ARRAY( \
            SELECT ctid FROM request_ids WHERE created_at < now() - interval '48 hours' LIMIT 10000))";
}

struct ForgetWriters;
impl Fixed for ForgetWriters {
    // A writer that idled for so long and wakes finds its row gone and takes a new one.
    const SQL: &'static str = "DELETE FROM writers WHERE moved_at < now() - interval '7 days'";
}

/// Clears away until it is told to stop.
pub(crate) async fn keep_house(database: Database, stop: CancellationToken) {
    let mut backoff = Backoff::new();
    while !stop.is_cancelled() {
        match clear(&database, &stop).await {
            Ok(()) => {
                backoff = Backoff::new();
                let _ = tokio::time::timeout(EVERY, stop.cancelled()).await;
            }
            Err(error) => {
                tracing::warn!(%error, "will try again to clear away old request ids and writers");
                backoff.wait(&stop).await;
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ClearError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Query(#[from] diesel::result::Error),
}

async fn clear(database: &Database, stop: &CancellationToken) -> Result<(), ClearError> {
    let conn = database.connect().await?;
    delete::<ForgetWriters>(&conn).await?;
    while delete::<ForgetRequests>(&conn).await? == CHUNK && !stop.is_cancelled() {}
    Ok(())
}

async fn delete<T: Fixed>(conn: &Conn) -> QueryResult<usize> {
    Prepared::<T, _>::with(|sql| sql).execute(&mut &**conn).await
}
