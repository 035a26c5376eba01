//! What became visible between two snapshots: the only reading of an outbox that neither loses nor reorders.
//!
//! Sequence numbers are drawn before the commit, so that a reader of `seq > last` passes over what commits late, for
//! good. A reader of `(xid, seq)` behind the oldest running transaction loses none, but puts a key's events out of
//! order, as ids of transactions are not drawn in the order of their locks, and any long transaction in the cluster
//! stalls it. A transaction that became visible since the previous snapshot either began after it (`xid >= xmax`) or
//! was running in it (`xid` in `xip`): both are few rows of an index, whoever else holds a transaction open.

use diesel::{
    QueryResult, QueryableByName,
    sql_types::{Array, BigInt, Binary, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    db::{Fixed, Prepared},
};

/// An event as it lies in the outbox.
#[derive(Debug, QueryableByName)]
pub(super) struct Row {
    #[diesel(sql_type = BigInt)]
    pub(super) seq: i64,
    #[diesel(sql_type = Timestamptz)]
    pub(super) created_at: Timestamp,
    #[diesel(sql_type = SqlUuid)]
    pub(super) event_id: Uuid,
    #[diesel(sql_type = Text)]
    pub(super) event_type: String,
    #[diesel(sql_type = Text)]
    pub(super) key: String,
    #[diesel(sql_type = Text)]
    pub(super) traceparent: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) tracestate: Option<String>,
    #[diesel(sql_type = Binary)]
    pub(super) payload: Vec<u8>,
}

/// What a [`Row`] is read from. A macro, for `concat!` takes literals alone.
macro_rules! columns {
    () => {
        "seq, created_at, event_id, event_type, key, traceparent, tracestate, payload"
    };
}

/// What became visible since a snapshot.
pub(super) enum Fresh {
    /// All of it, in order, and the snapshot in which all of it was visible.
    Few { rows: Vec<Row>, snapshot: String },
    /// More than was asked for at once.
    Many,
}

struct Few;
impl Fixed for Few {
    // Materialized, lest the planner walk the whole table in the order of `seq` for the LIMIT's sake. The snapshot is
    // this statement's own: what it sees is what is visible in it.
    const SQL: &'static str = concat!(
        "WITH fresh AS MATERIALIZED ((SELECT ",
        columns!(),
        " FROM outbox WHERE xid >= pg_snapshot_xmax($1::pg_snapshot) LIMIT $2) UNION ALL (SELECT ",
        columns!(),
        " FROM outbox WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::pg_snapshot))) LIMIT $2)) \
        SELECT *, pg_current_snapshot()::text AS snapshot FROM fresh ORDER BY seq",
    );
}

struct FewAfter;
impl Fixed for FewAfter {
    // The same where nothing was running in the snapshot: half the indexes to look into.
    const SQL: &'static str = concat!(
        "WITH fresh AS MATERIALIZED (SELECT ",
        columns!(),
        " FROM outbox WHERE xid >= pg_snapshot_xmax($1::pg_snapshot) LIMIT $2) \
        SELECT *, pg_current_snapshot()::text AS snapshot FROM fresh ORDER BY seq",
    );
}

#[derive(QueryableByName)]
struct FewRow {
    #[diesel(embed)]
    event: Row,
    #[diesel(sql_type = Text)]
    snapshot: String,
}

/// What became visible since `published`, if that is at most `limit` rows.
pub(super) async fn few(conn: &AsyncPgConnection, published: &str, limit: usize) -> QueryResult<Fresh> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // A snapshot's text ends with what was running in it: `xmin:xmax:xip,...`.
    let found = if published.ends_with(':') {
        few_rows::<FewAfter>(conn, published, limit + 1).await?
    } else {
        few_rows::<Few>(conn, published, limit + 1).await?
    };
    if i64::try_from(found.len()).unwrap_or(i64::MAX) > limit {
        return Ok(Fresh::Many);
    }
    // No rows: nothing is new, and the place stays what it was.
    let snapshot = found.as_slice().first().map_or_else(|| published.to_owned(), |first| first.snapshot.clone());
    Ok(Fresh::Few { rows: found.into_iter().map(|found| found.event).collect(), snapshot })
}

async fn few_rows<T: Fixed>(conn: &AsyncPgConnection, published: &str, limit: i64) -> QueryResult<Vec<FewRow>> {
    Prepared::<T, _>::with(|sql| sql.bind::<Text, _>(published).bind::<BigInt, _>(limit)).load(&mut &*conn).await
}

struct Now;
impl Fixed for Now {
    const SQL: &'static str = "SELECT pg_current_snapshot()::text AS snapshot";
}

#[derive(QueryableByName)]
struct Snapshot {
    #[diesel(sql_type = Text)]
    snapshot: String,
}

/// The present snapshot.
pub(super) async fn now(conn: &AsyncPgConnection) -> QueryResult<String> {
    Ok(Prepared::<Now, _>::with(|sql| sql).get_result::<Snapshot>(&mut &*conn).await?.snapshot)
}

struct Listed;
impl Fixed for Listed {
    const SQL: &'static str = "\
        WITH fresh AS MATERIALIZED ( \
            SELECT seq, xid FROM outbox WHERE xid >= pg_snapshot_xmax($1::pg_snapshot) \
            UNION ALL \
            SELECT seq, xid FROM outbox WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::pg_snapshot)))) \
        SELECT seq FROM fresh WHERE pg_visible_in_snapshot(xid, $2::pg_snapshot) AND seq > $3 ORDER BY seq LIMIT $4";
}

#[derive(QueryableByName)]
struct Seq {
    #[diesel(sql_type = BigInt)]
    seq: i64,
}

/// The first `limit` sequence numbers above `after` of what became visible between two snapshots.
pub(super) async fn list(
    conn: &AsyncPgConnection,
    published: &str,
    target: &str,
    after: i64,
    limit: i64,
) -> QueryResult<Vec<i64>> {
    let rows = Prepared::<Listed, _>::with(|sql| {
        sql.bind::<Text, _>(published).bind::<Text, _>(target).bind::<BigInt, _>(after).bind::<BigInt, _>(limit)
    })
    .load::<Seq>(&mut &*conn)
    .await?;
    Ok(rows.into_iter().map(|row| row.seq).collect())
}

struct Fetch;
impl Fixed for Fetch {
    const SQL: &'static str = concat!("SELECT ", columns!(), " FROM outbox WHERE seq = ANY ($1) ORDER BY seq");
}

struct FetchRange;
impl Fixed for FetchRange {
    const SQL: &'static str = concat!("SELECT ", columns!(), " FROM outbox WHERE seq BETWEEN $1 AND $2 ORDER BY seq");
}

/// The rows of these sequence numbers, in order, which is how they are to be given.
pub(super) async fn fetch(conn: &AsyncPgConnection, seqs: &[i64]) -> QueryResult<Vec<Row>> {
    let (Some(first), Some(last)) = (seqs.first(), seqs.last()) else { return Ok(Vec::new()) };
    let spread = usize::try_from(last - first).unwrap_or(usize::MAX);
    if spread >= seqs.len().saturating_mul(2) {
        return Prepared::<Fetch, _>::with(|sql| sql.bind::<Array<BigInt>, _>(seqs)).load::<Row>(&mut &*conn).await;
    }
    // Close together, a walk costs less than a search for each; what lies between is of other differences.
    let mut rows = Prepared::<FetchRange, _>::with(|sql| sql.bind::<BigInt, _>(*first).bind::<BigInt, _>(*last))
        .load::<Row>(&mut &*conn)
        .await?;
    rows.retain(|row| seqs.binary_search(&row.seq).is_ok());
    Ok(rows)
}
