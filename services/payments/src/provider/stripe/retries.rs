//! When a request is repeated: as Stripe's own clients do, <https://docs.stripe.com/error-low-level#retries>.

use std::time::Duration;

/// The first pause, and the longest that isn't asked for.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// How long to wait after the `attempt`th failure, counted from 0: twice as long each time, less up to half of it by `jitter`
/// (0 to 1) so that callers who failed together don't come again together; never less than was asked for.
pub(super) fn pause(attempt: u32, retry_after: Option<Duration>, jitter: f64) -> Duration {
    let (first, longest) = PAUSES;
    let full = first.saturating_mul(2_u32.saturating_pow(attempt)).min(longest);
    let pause = full.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0);
    pause.max(retry_after.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_are_never_shorter_than_was_asked_for() {
        let millis = Duration::from_millis;
        for (attempt, retry_after, jitter, expected) in [
            (0, None, 0.0, millis(500)),
            (0, None, 1.0, millis(250)),
            (1, None, 0.0, millis(1000)),
            (2, None, 0.5, millis(1500)),
            (9, None, 0.0, millis(5000)),
            (u32::MAX, None, 1.0, millis(2500)),
            (0, Some(millis(1000)), 0.0, millis(1000)),
            (0, Some(millis(9000)), 1.0, millis(9000)),
            (4, Some(millis(1000)), 0.0, millis(5000)),
        ] {
            assert_eq!(pause(attempt, retry_after, jitter), expected, "{attempt} {retry_after:?} {jitter}");
        }
    }
}
