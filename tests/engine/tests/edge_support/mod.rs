//! What the tests of the engine's edge share: issuers of tokens, and a real server with a counter's handlers behind it.
#![allow(dead_code, unused_imports, reason = "every test binary uses its own part of this")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unreachable_pub, missing_docs, reason = "nobody sees this but the tests beside it")]

mod counters;
mod edge;
mod issuer;

pub use counters::Counters;
pub use edge::{Edge, authorized, raw, reason};
pub use issuer::{AUDIENCE, ISSUER, Key, claims, jwks, unix_now};

use std::time::Duration;

/// How long a test waits for what should come at once, on a machine that does much else.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long a server that stops waits for calls.
pub const DRAIN: Duration = Duration::from_millis(500);

/// Waits for something, or fails saying for what.
pub async fn awaited<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}
