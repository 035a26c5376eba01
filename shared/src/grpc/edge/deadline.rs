//! When a caller stops waiting.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use crate::grpc::{Fault, FieldFault};

/// The longest that a call may take, and how long one takes at most that doesn't say.
pub(super) const MAX: Duration = Duration::from_secs(30);
/// Our answer comes so much before the deadline: tonic keeps the header's deadline too, and its answer has no reason.
const AHEAD: Duration = Duration::from_millis(1);

/// The deadline of a call that has just come, from its `grpc-timeout`.
///
/// # Errors
///
/// `INVALID_ARGUMENT`: the header is malformed. A caller who says when to give up should not be misunderstood.
pub(super) fn deadline(headers: &HeaderMap, now: Instant) -> Result<Instant, Fault> {
    let timeout = match headers.get("grpc-timeout") {
        None => MAX,
        Some(value) => {
            let timeout = value.to_str().ok().and_then(parse);
            timeout.ok_or_else(|| {
                let description = "must be 1 to 8 digits and one of H, M, S, m, u, n";
                Fault::invalid(vec![FieldFault { field: "grpc-timeout".into(), description: description.into() }])
            })?
        }
    };
    Ok(now + if timeout < MAX { timeout.saturating_sub(AHEAD) } else { MAX })
}

/// `TimeoutValue TimeoutUnit` of gRPC's protocol over HTTP/2.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 60 * 60)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_up_to_eight_digits_and_a_unit() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("4m", Some(Duration::from_millis(4))),
            ("5u", Some(Duration::from_micros(5))),
            ("6n", Some(Duration::from_nanos(6))),
            ("0S", Some(Duration::ZERO)),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("100000000n", None),
            ("", None),
            ("S", None),
            ("5", None),
            ("5s", None),
            ("-5S", None),
            ("+5S", None),
            ("5 S", None),
            ("5µ", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_call_takes_thirty_seconds_at_most_whatever_it_asks_for() {
        let now = Instant::now();
        for (header, expected) in [
            (None, Some(30_000)),
            (Some("99999999H"), Some(30_000)),
            (Some("30S"), Some(30_000)),
            (Some("29S"), Some(28_999)),
            (Some("1m"), Some(0)),
            (Some("0n"), Some(0)),
            (Some("soon"), None),
        ] {
            let headers = header.map(|text| (http::HeaderName::from_static("grpc-timeout"), text.parse().unwrap()));
            let deadline = deadline(&headers.into_iter().collect(), now).ok();
            assert_eq!(deadline, expected.map(|millis| now + Duration::from_millis(millis)), "{header:?}");
        }
    }
}
