//! What the engine's tests share: databases and topics of their own, the engine's parts as a service starts them, real
//! processes of the counter, and what was really written.
#![allow(unreachable_pub, missing_docs, reason = "nobody sees this but the tests beside it")]

mod database;
mod kafka;
mod parts;
mod process;
mod proxy;
mod random;

pub use database::{Db, lock, own_postgres};
pub use kafka::{Topics, add, adds, first_appearances, own_kafka, unknown, versions_by_key};
pub use parts::{Answer, Consuming, Relaying, Writing, firing, limits, metric};
pub use process::Replica;
pub use proxy::Proxy;
pub use random::Random;

use std::{future::Future, time::Duration};

use engine_tests::domain::{Command, CounterId};
use shared::{command::Envelope, telemetry::TraceContext, user::UserId};

/// How long a test waits for what should come soon, on a machine that does much else.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Shows what the engine logs if RUST_LOG asks for it; which of the tests at work it comes from, nobody knows.
pub fn log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    // Set by another test already, as a rule.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).try_init();
}

/// Waits for something, or fails saying for what.
pub async fn awaited<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}

/// Asks until the answer is yes, or fails saying what for and what the last answer was.
pub async fn until<T: std::fmt::Debug>(what: &str, mut ask: impl AsyncFnMut() -> T, good: impl Fn(&T) -> bool) -> T {
    let begun = std::time::Instant::now();
    loop {
        let answer = ask().await;
        if good(&answer) {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}: {answer:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// So far ahead that no test gets there.
pub fn far() -> std::time::Instant {
    std::time::Instant::now() + PATIENCE
}

pub fn within(time: Duration) -> std::time::Instant {
    std::time::Instant::now() + time
}

pub fn alice() -> UserId {
    UserId::from_stored("alice")
}

/// A command as a caller gives it.
pub fn asked(command: Command) -> Envelope<Command> {
    Envelope::new(command, TraceContext::root())
}

/// Alice's counter, without a limit to speak of.
pub fn create(id: CounterId) -> Envelope<Command> {
    titled(id, "a counter")
}

pub fn titled(id: CounterId, title: &str) -> Envelope<Command> {
    asked(Command::Create { id, owner: alice(), title: title.to_owned(), limit: 1_000_000, resets_at: None })
}

pub fn increment(id: CounterId, by: i32) -> Envelope<Command> {
    asked(Command::Increment { id, caller: alice(), by })
}
