//! How far the relay has come, kept in the outbox's own database.

use diesel::{
    QueryResult,
    sql_types::{BigInt, Double, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::lease::{self, Lease};
use crate::db::{Fixed, Prepared};

/// A place in the outbox: all that is visible in the snapshot `published` has been published, and of what became
/// visible between it and `target` everything up to `published_seq`. Snapshots are in Postgres' own text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) published: String,
    /// While a large difference is worked off.
    pub(super) target: Option<String>,
    pub(super) published_seq: Option<i64>,
}

impl Place {
    /// Everything visible in that snapshot is published.
    pub(super) fn at(snapshot: String) -> Self {
        Self { published: snapshot, target: None, published_seq: None }
    }
}

struct Advance;
impl Fixed for Advance {
    const SQL: &'static str = "\
        UPDATE outbox_cursor \
        SET published = $3::pg_snapshot, target = $4::pg_snapshot, published_seq = $5, \
            expires_at = clock_timestamp() + make_interval(secs => $6) \
        WHERE holder = $1 AND epoch = $2";
}

/// Moves the cursor and renews the lease; false if the lease is somebody else's by now.
pub(super) async fn advance(conn: &AsyncPgConnection, lease: Lease, place: &Place) -> QueryResult<bool> {
    let moved = Prepared::<Advance, _>::with(|sql| {
        sql.bind::<SqlUuid, _>(lease.holder)
            .bind::<BigInt, _>(lease.epoch)
            .bind::<Text, _>(&place.published)
            .bind::<Nullable<Text>, _>(&place.target)
            .bind::<Nullable<BigInt>, _>(place.published_seq)
            .bind::<Double, _>(lease::LASTS.as_secs_f64())
    })
    .execute(&mut &*conn)
    .await?;
    Ok(moved == 1)
}
