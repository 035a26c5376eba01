//! The sandbox: a payment provider of our own. It speaks the part of Stripe's HTTP API that the payments service needs, so that
//! the same client works against Stripe, and keeps its money in a ledger on disk. It is a provider like any other: nothing
//! here knows the platform, and nothing in the platform knows that it isn't Stripe.
//!
//! - [`stripe`] is what Stripe's API says: requests, objects, errors, test methods; pure, it does no I/O;
//! - [`ledger`] is what has happened: intents, refunds, movements of money, and the answers kept by idempotency key;
//! - [`faults`] are the switches that make it misbehave;
//! - [`http`] is the server: limits, authorization, routes.
//!
//! **An answer is sent only when its effects are on disk.** The effects of a request and the kept answer of its key are one
//! transaction, which carries as many requests as are waiting: one writer, one fsync for all of them. The database is
//! `redb`: embedded, in Rust, crash-safe by copy-on-write, with snapshots that readers hold without stopping the writer.
//!
//! What differs from Stripe: keys never expire (Stripe prunes them after 24 hours at the least); search sees everything at
//! once (Stripe's lags by up to a minute); the least that may be charged is known of five currencies; an intent that isn't
//! confirmed when it is made never is.

pub mod config;
pub mod faults;
pub mod http;
pub mod ledger;
pub mod stripe;

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use config::Config;
use faults::Faults;
use ledger::{Ledger, LedgerError};

/// The program's name.
pub const NAME: &str = "sandbox";

/// Why the sandbox ended, or never began.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its port can't be opened.
    #[error("SANDBOX_ADDR: {0} can't be opened: {1}")]
    Bind(SocketAddr, io::Error),
    /// Its ledger can't be opened, read or written.
    #[error("SANDBOX_LEDGER: {0}")]
    Ledger(#[from] LedgerError),
}

/// Serves until it is told to stop.
///
/// # Errors
///
/// The port is taken, or the ledger can't be opened, or not be written any more: then nobody is answered whose effects may not
/// be on disk, and a restart shows what is.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), RunError> {
    let listener = TcpListener::bind(config.address).await.map_err(|error| RunError::Bind(config.address, error))?;
    // Of which address an operator is told, should the port have been 0.
    let address = listener.local_addr().map_err(|error| RunError::Bind(config.address, error))?;
    let (ledger, writer) = Ledger::open(&config.ledger, config.slow)?;
    tracing::info!(%address, ledger = %config.ledger.display(), slow = ?config.slow, "serving");

    // Connections end before the writer does, so that whoever is still waiting for it is answered.
    let (connections_stop, writer_stop) = (stop.child_token(), CancellationToken::new());
    let serving = http::serve(listener, ledger, Faults::default(), connections_stop.clone());
    let serving = async {
        serving.await;
        writer_stop.cancel();
    };
    let writing = async {
        let ended = writer.run(writer_stop.clone()).await;
        connections_stop.cancel();
        ended
    };
    let ((), ended) = tokio::join!(serving, writing);
    tracing::info!("ended");
    Ok(ended?)
}
