//! What a person at the terminal is told. In: lines. Out: news on standard error, so that what a command answers, on standard
//! output, stays clean. Nothing else in this crate prints.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Result;

/// After this long without news, a step says that it is still at it.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Tells one line.
pub fn say(line: impl std::fmt::Display) {
    // A terminal that has gone away is no reason to fail.
    let _ = writeln!(std::io::stderr(), "local: {line}");
}

/// Answers one line: what a command was asked for.
pub fn answer(line: impl std::fmt::Display) {
    // As above.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Tells what begins, that it still goes on, and how long it took.
///
/// # Errors
/// Those of `work`.
pub async fn step<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    say(format_args!("{what} …"));
    let begun = Instant::now();
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            outcome = &mut work => {
                let verdict = if outcome.is_ok() { "done" } else { "failed" };
                say(format_args!("{what}: {verdict} after {:.1} s", begun.elapsed().as_secs_f32()));
                return outcome;
            }
            () = tokio::time::sleep(HEARTBEAT) => say(format_args!("{what}: {} s so far", begun.elapsed().as_secs())),
        }
    }
}
