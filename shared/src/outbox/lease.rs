//! One relay at a time: a lease on the database's clock. Its epoch grows with every holder, and the cursor's own UPDATE
//! checks it, so that a relay that was paused and wakes can't move the cursor any more.

use std::time::Duration;

use diesel::{
    OptionalExtension, QueryResult,
    sql_types::{BigInt, Double, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::cursor::Place;
use crate::db::{Fixed, Prepared};

/// How long a lease lasts unless it is renewed: what a relay's death costs at most before another takes over.
pub(super) const LASTS: Duration = Duration::from_secs(3);
/// How often it is renewed at least.
pub(super) const RENEWED_EVERY: Duration = Duration::from_secs(1);

/// The right to publish, as long as it lasts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub(super) holder: Uuid,
    pub(super) epoch: i64,
}

struct Take;
impl Fixed for Take {
    const SQL: &'static str = "\
        UPDATE outbox_cursor \
        SET holder = $1, epoch = epoch + 1, expires_at = clock_timestamp() + make_interval(secs => $2) \
        WHERE expires_at < clock_timestamp() OR holder = $1 \
        RETURNING epoch, published::text AS published, target::text AS target, published_seq";
}

struct Renew;
impl Fixed for Renew {
    const SQL: &'static str = "\
        UPDATE outbox_cursor SET expires_at = clock_timestamp() + make_interval(secs => $3) \
        WHERE holder = $1 AND epoch = $2";
}

struct Release;
impl Fixed for Release {
    const SQL: &'static str = "\
        UPDATE outbox_cursor SET holder = NULL, expires_at = '-infinity' WHERE holder = $1 AND epoch = $2";
}

#[derive(diesel::QueryableByName)]
struct Taken {
    #[diesel(sql_type = BigInt)]
    epoch: i64,
    #[diesel(sql_type = Text)]
    published: String,
    #[diesel(sql_type = Nullable<Text>)]
    target: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    published_seq: Option<i64>,
}

/// Takes the lease if nobody holds it, and learns how far its last holder came.
pub(super) async fn take(conn: &AsyncPgConnection, holder: Uuid) -> QueryResult<Option<(Lease, Place)>> {
    let taken = Prepared::<Take, _>::with(|sql| sql.bind::<SqlUuid, _>(holder).bind::<Double, _>(LASTS.as_secs_f64()))
        .get_result::<Taken>(&mut &*conn)
        .await
        .optional()?;
    Ok(taken.map(|row| {
        let place = Place { published: row.published, target: row.target, published_seq: row.published_seq };
        (Lease { holder, epoch: row.epoch }, place)
    }))
}

/// Renews it, so that it lasts from now; false if it is somebody else's by now.
pub(super) async fn renew(conn: &AsyncPgConnection, lease: Lease) -> QueryResult<bool> {
    let renewed = Prepared::<Renew, _>::with(|sql| {
        sql.bind::<SqlUuid, _>(lease.holder).bind::<BigInt, _>(lease.epoch).bind::<Double, _>(LASTS.as_secs_f64())
    })
    .execute(&mut &*conn)
    .await?;
    Ok(renewed == 1)
}

/// Gives it back, so that another need not wait for it to run out.
pub(super) async fn release(conn: &AsyncPgConnection, lease: Lease) -> QueryResult<()> {
    Prepared::<Release, _>::with(|sql| sql.bind::<SqlUuid, _>(lease.holder).bind::<BigInt, _>(lease.epoch))
        .execute(&mut &*conn)
        .await?;
    Ok(())
}
