//! Appending, within the write path's transaction.

use diesel::{
    QueryResult,
    sql_types::{Array, Binary, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use crate::{
    command::Outgoing,
    db::{Fixed, write_rows},
};

struct Append;
impl Fixed for Append {
    // The order of the rows is that of their sequence numbers: unnest gives them in it, and nothing sorts.
    const SQL: &'static str = "\
        INSERT INTO outbox (event_id, event_type, key, traceparent, tracestate, payload) \
        SELECT unnest($1), unnest($2), unnest($3), unnest($4), unnest($5), unnest($6)";
}

/// Appends the events of a batch, in their order. The roots that they are of are locked by now: per key, the order of
/// the sequence is that of the versions.
pub(crate) async fn append(conn: &AsyncPgConnection, events: &[Outgoing]) -> QueryResult<()> {
    let messages = || events.iter().map(|event| &event.message);
    write_rows::<Append, _>(conn, events, |sql| {
        sql.bind::<Array<SqlUuid>, _>(events.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(messages().map(|message| message.kind).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(messages().map(|message| &message.key).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(events.iter().map(|event| event.trace.traceparent()).collect::<Vec<_>>())
            .bind::<Array<Nullable<Text>>, _>(events.iter().map(|event| event.trace.tracestate()).collect::<Vec<_>>())
            .bind::<Array<Binary>, _>(messages().map(|message| &message.payload).collect::<Vec<_>>())
    })
    .await
}
