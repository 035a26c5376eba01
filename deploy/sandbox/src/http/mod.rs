//! The server: HTTP/1.1 with keep-alive, and a bound on everything. In: bytes from anybody. Out: answers of Stripe's API and of the
//! sandbox's own. It decides nothing about money.

mod answer;
mod auth;
mod connection;
mod operators;
mod routes;
mod stripe_api;
mod tap;

use std::{sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{faults::Faults, ledger::Ledger};

/// Connections at once; more wait in the listener's backlog.
const CONNECTIONS: usize = 4096;
/// How long requests that have begun may take once the server stops. Those that hang are cut at once; slow charges, which go on
/// without their callers, half-way.
const DRAIN: Duration = Duration::from_secs(3);
/// Accepting fails when descriptors run out; this is how long until it is tried again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What every request is given.
struct Context {
    ledger: Ledger,
    faults: Faults,
    stop: CancellationToken,
}

/// Serves until it is told to stop, and then lets what has begun come to its end, within bounds.
pub async fn serve(listener: TcpListener, ledger: Ledger, faults: Faults, stop: CancellationToken) {
    let context = Arc::new(Context { ledger, faults, stop: stop.clone() });
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    let accepting = async {
        loop {
            // Never closed, so there is always a place some time.
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let served = connection::serve(stream, context.clone());
                    connections.spawn(async move {
                        served.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    // Ends only by being told to.
    let _ = stop.run_until_cancelled(accepting).await;
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!(open = connections.len(), "connections are given up");
    }
}
