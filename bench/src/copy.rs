//! Rows by the hundred thousand. In: a session of Postgres, and lines. Out: rows of a table.

use anyhow::Result;
use bytes::Bytes;
use futures_util::SinkExt;
use local::session::Session;

/// Copies lines in, in the text format; `into` is a table and its columns.
///
/// # Errors
///
/// A line isn't such a row.
pub(crate) async fn lines_into(session: &Session, into: &str, lines: impl Iterator<Item = String>) -> Result<u64> {
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
