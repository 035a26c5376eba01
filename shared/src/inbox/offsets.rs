//! Offsets as the database keeps them.

use std::collections::HashMap;

use diesel::{
    QueryResult,
    sql_types::{Array, BigInt, Integer, Nullable, Text, Timestamptz},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::{
    clock::Timestamp,
    db::{Fixed, Prepared},
};

struct Find;
impl Fixed for Find {
    const SQL: &'static str = "\
        SELECT partition, next_offset AS next, CASE last_offset WHEN next_offset - 1 THEN last_written END AS written \
        FROM inbox_offsets \
        WHERE consumer_group = $1 AND topic = $2 AND partition = ANY ($3)";
}

struct Begin;
impl Fixed for Begin {
    const SQL: &'static str = "\
        INSERT INTO inbox_offsets (consumer_group, topic, partition, next_offset) VALUES ($1, $2, $3, $4) \
        ON CONFLICT DO NOTHING";
}

/// How far a group has come on a partition.
#[derive(Clone, Copy, Debug, diesel::QueryableByName)]
pub(super) struct StoredOffset {
    #[diesel(sql_type = Integer)]
    partition: i32,
    /// The next offset.
    #[diesel(sql_type = BigInt)]
    pub(super) next: i64,
    /// When the broker wrote the message before that, if it is known to have been handled.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub(super) written: Option<Timestamp>,
}

/// Of those partitions that the group has ever read, by their numbers.
pub(super) async fn find(
    conn: &AsyncPgConnection,
    group: &str,
    topic: &str,
    partitions: &[i32],
) -> QueryResult<HashMap<i32, StoredOffset>> {
    let rows: Vec<StoredOffset> = Prepared::<Find, _>::with(|sql| {
        sql.bind::<Text, _>(group).bind::<Text, _>(topic).bind::<Array<Integer>, _>(partitions)
    })
    .load(&mut &*conn)
    .await?;
    Ok(rows.into_iter().map(|stored| (stored.partition, stored)).collect())
}

/// Where a group begins to read a partition, unless it has before.
pub(super) async fn begin(
    conn: &AsyncPgConnection,
    group: &str,
    topic: &str,
    partition: i32,
    offset: i64,
) -> QueryResult<()> {
    Prepared::<Begin, _>::with(|sql| {
        sql.bind::<Text, _>(group).bind::<Text, _>(topic).bind::<Integer, _>(partition).bind::<BigInt, _>(offset)
    })
    .execute(&mut &*conn)
    .await?;
    Ok(())
}
