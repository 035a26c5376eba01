//! How much of the outbox is still to be published, by the cursor that its database keeps.

use std::sync::Arc;

use diesel::{
    OptionalExtension, QueryResult,
    sql_types::{BigInt, Double, Nullable, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::{FutureExt as _, future::BoxFuture};

use super::OutboxMetrics;
use crate::{
    db::{Fixed, Prepared},
    ops::Sample,
};

/// Shows how many events wait, and for how long.
pub(crate) struct OutboxLag(pub(crate) Arc<OutboxMetrics>);

/// More than this are not counted: it is bad enough, and counting costs.
const COUNTED: i64 = 100_000;

struct Cursor;
impl Fixed for Cursor {
    const SQL: &'static str = "SELECT published::text, published_seq FROM outbox_cursor";
}

#[derive(diesel::QueryableByName)]
struct CursorRow {
    #[diesel(sql_type = Text)]
    published: String,
    // Only while a large difference is worked off.
    #[diesel(sql_type = Nullable<BigInt>)]
    published_seq: Option<i64>,
}

struct Fresh;
impl Fixed for Fresh {
    // As the relay reads it; by the index of ids of transactions, of which the oldest waiting come first.
    const SQL: &'static str = "\
        SELECT count(*) AS events, \
            coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 AS seconds \
        FROM ((SELECT created_at FROM outbox WHERE xid >= pg_snapshot_xmax($1::pg_snapshot) ORDER BY xid LIMIT $2) \
            UNION ALL \
            (SELECT created_at FROM outbox WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::pg_snapshot))) \
                LIMIT $2)) AS waiting";
}

struct Rest;
impl Fixed for Rest {
    // Within a large difference everything is published in the order of its sequence.
    const SQL: &'static str = "\
        SELECT count(*) AS events, \
            coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 AS seconds \
        FROM (SELECT created_at FROM outbox WHERE seq > $1 ORDER BY seq LIMIT $2) AS waiting";
}

#[derive(diesel::QueryableByName)]
struct Waiting {
    #[diesel(sql_type = BigInt)]
    events: i64,
    #[diesel(sql_type = Double)]
    seconds: f64,
}

impl Sample for OutboxLag {
    fn take<'a>(&'a self, conn: &'a AsyncPgConnection) -> BoxFuture<'a, QueryResult<()>> {
        async {
            let cursor =
                Prepared::<Cursor, _>::with(|sql| sql).get_result::<CursorRow>(&mut &*conn).await.optional()?;
            let Some(CursorRow { published, published_seq }) = cursor else { return Ok(()) };
            let waiting: Waiting = match published_seq {
                // At the beginning of a large difference there is no place within it yet.
                None | Some(0) => {
                    Prepared::<Fresh, _>::with(|sql| sql.bind::<Text, _>(&published).bind::<BigInt, _>(COUNTED))
                        .get_result(&mut &*conn)
                        .await?
                }
                Some(seq) => {
                    Prepared::<Rest, _>::with(|sql| sql.bind::<BigInt, _>(seq).bind::<BigInt, _>(COUNTED))
                        .get_result(&mut &*conn)
                        .await?
                }
            };
            self.0.waiting(waiting.events, waiting.seconds);
            Ok(())
        }
        .boxed()
    }
}
