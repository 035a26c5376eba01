//! Waiting for a condition, never for a time. In: a probe and a deadline. Out: the probe's value, or an error that says what
//! was awaited, how long, and why the last probe failed. It never sleeps without asking again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

/// How long between two probes: short beside what is awaited (a server's start), long beside what a probe costs.
const PAUSE: Duration = Duration::from_millis(20);

/// One probe may take this long; a server that accepts and then says nothing must not use up the whole deadline.
const PROBE_LIMIT: Duration = Duration::from_secs(6);

/// Probes until `probe` succeeds, and returns its value.
///
/// # Errors
/// When `deadline` has passed: `waited 30s for …`, with the last probe's own error as the cause.
pub async fn until<T, F>(what: &str, deadline: Duration, mut probe: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let begun = Instant::now();
    loop {
        let error = match tokio::time::timeout(PROBE_LIMIT, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_) => anyhow!("no answer within {PROBE_LIMIT:?}"),
        };
        if begun.elapsed() >= deadline {
            return Err(error).with_context(|| format!("waited {deadline:?} for {what}"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}
