//! A plain session of Postgres. In: a URL. Out: a client that can run what nobody prepares: copies, settings, statistics.

use std::ops::Deref;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::SinkExt;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

/// A session; it ends when it is dropped.
pub(crate) struct Session {
    client: Client,
    _connection: JoinSet<()>,
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// Connects.
///
/// # Errors
///
/// There is no such server or database.
pub(crate) async fn connect(url: &str) -> Result<Session> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.with_context(|| format!("at {url}"))?;
    let mut tasks = JoinSet::new();
    // Its error is the client's, too.
    tasks.spawn(async { drop(connection.await) });
    Ok(Session { client, _connection: tasks })
}

/// Copies lines in, in the text format; `into` is a table and its columns.
///
/// # Errors
///
/// A line isn't such a row.
pub(crate) async fn copy(session: &Session, into: &str, lines: impl Iterator<Item = String>) -> Result<u64> {
    const CHUNK: usize = 1 << 20;
    let mut sink = std::pin::pin!(session.copy_in::<_, Bytes>(&format!("COPY {into} FROM STDIN")).await?);
    let mut chunk = String::with_capacity(2 * CHUNK);
    for line in lines {
        chunk.push_str(&line);
        chunk.push('\n');
        if chunk.len() > CHUNK {
            sink.send(Bytes::from(std::mem::take(&mut chunk))).await?;
        }
    }
    sink.send(Bytes::from(chunk)).await?;
    Ok(sink.finish().await?)
}
