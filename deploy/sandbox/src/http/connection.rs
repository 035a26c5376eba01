//! One connection, from its first byte to its last.

use std::{pin::pin, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::{
    Context, routes,
    tap::{Tap, Trick},
};

/// A request's line and headers.
const HEADER_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;
/// How long they may take, and so how long a connection may stand idle.
const HEADER_TIME: Duration = Duration::from_secs(60);

/// Why a connection is cut without an answer.
#[derive(Debug, thiserror::Error)]
#[error("cut")]
pub(super) struct Cut;

/// Serves a connection to its end.
pub(super) async fn serve(stream: TcpStream, context: Arc<Context>) {
    // Small answers are to leave at once. If it fails, they only leave later.
    let _ = stream.set_nodelay(true);
    let trick = Trick::default();
    let io = TokioIo::new(Tap::new(stream, trick.clone()));
    let stop = context.stop.clone();
    let service = service_fn(move |request| {
        let (context, trick) = (context.clone(), trick.clone());
        async move { routes::answer(&context, &trick, request).await }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_headers(HEADERS)
        .max_header_size(HEADER_BYTES)
        .max_buf_size(2 * HEADER_BYTES)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // Clients hang up, and some connections are cut on purpose: no news to anybody.
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}
