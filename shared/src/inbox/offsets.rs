//! Offsets as the database keeps them.

use diesel::{
    QueryResult,
    sql_types::{Array, BigInt, Integer, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::{Fixed, Prepared};

struct Find;
impl Fixed for Find {
    const SQL: &'static str = "\
        SELECT partition, next_offset FROM inbox_offsets \
        WHERE consumer_group = $1 AND topic = $2 AND partition = ANY ($3)";
}

struct Begin;
impl Fixed for Begin {
    const SQL: &'static str = "\
        INSERT INTO inbox_offsets (consumer_group, topic, partition, next_offset) VALUES ($1, $2, $3, $4) \
        ON CONFLICT DO NOTHING";
}

#[derive(diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = Integer)]
    partition: i32,
    #[diesel(sql_type = BigInt)]
    next_offset: i64,
}

/// The next offsets of those partitions that the group has ever read.
pub(super) async fn find(
    conn: &AsyncPgConnection,
    group: &str,
    topic: &str,
    partitions: &[i32],
) -> QueryResult<Vec<(i32, i64)>> {
    let rows = Prepared::<Find, _>::with(|sql| {
        sql.bind::<Text, _>(group).bind::<Text, _>(topic).bind::<Array<Integer>, _>(partitions)
    })
    .load::<Row>(&mut &*conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.partition, row.next_offset)).collect())
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
