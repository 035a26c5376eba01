//! `uber-trace-id`, by which Jaeger's own clients name the span that they call from: understood, never written.
//!
//! Format: `{trace-id}:{span-id}:{parent-span-id}:{flags}`, in hexadecimal, as
//! <https://www.jaegertracing.io/docs/1.76/architecture/#key> has it.

use super::TraceContext;

/// The bit of the flags that says that somebody records this trace.
const SAMPLED: u8 = 1;
/// The bit that asks for it, whatever any sampler says.
const DEBUG: u8 = 2;

impl TraceContext {
    /// Reads an `uber-trace-id`. `None` if it is malformed.
    ///
    /// Leading zeros may be missing, and a trace's id may have 64 bits, which are the lower ones of 128. The parent's id is
    /// of no use any more, whatever it says. Colons may be percent-encoded, as some clients do.
    pub fn parse_uber(value: &str) -> Option<Self> {
        let value = value.replace("%3A", ":").replace("%3a", ":");
        let mut parts = value.split(':');
        let (trace_id, span_id, _parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let trace_id = number(trace_id, 32)?.to_be_bytes();
        let span_id = u64::try_from(number(span_id, 16)?).ok()?.to_be_bytes();
        let flags = u8::try_from(number(flags, 2)?).ok()?;
        Self::new(trace_id, span_id, flags & (SAMPLED | DEBUG) != 0, None)
    }
}

/// So many hexadecimal digits at most, and one at least.
fn number(digits: &str, most: usize) -> Option<u128> {
    let sound = (1..=most).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if sound { u128::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uber_trace_id_is_a_context_or_it_is_none() {
        const LONG: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        const OF_64_BITS: &str = "00-0000000000000000a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let long = |rest: &str| format!("{LONG}:{rest}");
        for (value, expected) in [
            (long("00f067aa0ba902b7:0:1"), Some(SAMPLED)),
            (long("f067aa0ba902b7:0:1"), Some(SAMPLED)),
            (long("f067aa0ba902b7:0:01"), Some(SAMPLED)),
            (long("F067AA0BA902B7:0:1"), Some(SAMPLED)),
            (long("f067aa0ba902b7:0:0"), Some(UNSAMPLED)),
            // The debug flag, alone and with the sampled one; the firehose flag says nothing of the sort.
            (long("f067aa0ba902b7:0:2"), Some(SAMPLED)),
            (long("f067aa0ba902b7:0:3"), Some(SAMPLED)),
            (long("f067aa0ba902b7:0:8"), Some(UNSAMPLED)),
            (long("f067aa0ba902b7:0:ff"), Some(SAMPLED)),
            // Nobody cares for the parent any more.
            (long("f067aa0ba902b7:b7ad6b7169203331:1"), Some(SAMPLED)),
            (long("f067aa0ba902b7::1"), Some(SAMPLED)),
            // 64 bits, with and without leading zeros.
            ("a3ce929d0e0e4736:f067aa0ba902b7:0:1".to_owned(), Some(OF_64_BITS)),
            ("0000000000000000a3ce929d0e0e4736:f067aa0ba902b7:0:1".to_owned(), Some(OF_64_BITS)),
            ("1:1:0:1".to_owned(), Some("00-00000000000000000000000000000001-0000000000000001-01")),
            // Percent-encoded.
            (format!("{LONG}%3Af067aa0ba902b7%3a0%3A1"), Some(SAMPLED)),
            // Malformed.
            (String::new(), None),
            (":::".to_owned(), None),
            (LONG.to_owned(), None),
            (long("f067aa0ba902b7:0"), None),
            (long("f067aa0ba902b7:0:"), None),
            (long("f067aa0ba902b7:0:1:1"), None),
            (long("f067aa0ba902b7:0:100"), None),
            (long("f067aa0ba902b7:0:x"), None),
            (long("f067aa0ba902b7:0:-1"), None),
            (long("+f067aa0ba902b7:0:1"), None),
            (long(" f067aa0ba902b7:0:1"), None),
            (long("00f067aa0ba902b7a:0:1"), None),
            (long(":0:1"), None),
            (long("0:0:1"), None),
            ("0:f067aa0ba902b7:0:1".to_owned(), None),
            ("g:f067aa0ba902b7:0:1".to_owned(), None),
            (format!("0{LONG}:f067aa0ba902b7:0:1"), None),
            (format!("{LONG}-f067aa0ba902b7-0-1"), None),
            (SAMPLED.to_owned(), None),
        ] {
            let found = TraceContext::parse_uber(&value).map(|context| context.traceparent());
            assert_eq!(found.as_deref(), expected, "{value}");
        }
    }
}
