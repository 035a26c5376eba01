//! Where a piece of work stands in a trace: the W3C trace context, as it travels through metadata, rows and headers.

use std::fmt;

use super::sampling;

/// One span of one trace, as others may name it as their parent. Always there, whether anything is exported or not.
///
/// Format: <https://www.w3.org/TR/trace-context/>, version 00.
#[derive(Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
    state: Option<Box<str>>,
}

/// Bytes of a `traceparent` of version 00: two digits, 32, 16 and 2, with a dash between.
const TRACEPARENT_BYTES: usize = 55;
/// Somebody along the way is recording this trace.
const SAMPLED: u8 = 1;
/// What the specification asks every system to carry at least.
const MAX_STATE_BYTES: usize = 512;

impl TraceContext {
    /// A span of a trace. `None` if an id is all zero, which the format forbids.
    pub fn new(trace_id: [u8; 16], span_id: [u8; 8], sampled: bool, state: Option<&str>) -> Option<Self> {
        if trace_id == [0; 16] || span_id == [0; 8] {
            return None;
        }
        let state = state.filter(|text| !text.is_empty() && text.len() <= MAX_STATE_BYTES).map(Box::from);
        Some(Self { trace_id, span_id, flags: u8::from(sampled) * SAMPLED, state })
    }

    /// The first span of a new trace that nobody records.
    pub fn root() -> Self {
        Self { trace_id: sampling::trace_id(), span_id: sampling::span_id(), flags: 0, state: None }
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span_id: sampling::span_id(), ..self.clone() }
    }

    /// The same, recorded by nobody.
    #[must_use]
    pub(super) fn unsampled(self) -> Self {
        Self { flags: 0, ..self }
    }

    /// Reads a `traceparent` and, if there is one, the `tracestate` beside it. `None` if the former is malformed: the
    /// specification asks to begin a new trace then.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        // By place: all that a version may change comes behind these.
        let (known, more) = traceparent.split_at_checked(TRACEPARENT_BYTES)?;
        let [version] = hex(known.get(..2)?)?;
        // Later versions may append fields; version 00 has none, and ff is no version.
        if version == 0xff || !(more.is_empty() || (version != 0 && more.starts_with('-'))) {
            return None;
        }
        let (trace_id, span_id) = (known.get(2..35)?.strip_prefix('-')?, known.get(35..52)?.strip_prefix('-')?);
        let [flags] = hex(known.get(52..)?.strip_prefix('-')?)?;
        Self::new(hex(trace_id)?, hex(span_id)?, flags & SAMPLED != 0, tracestate)
    }

    /// The trace, as the OpenTelemetry libraries want it.
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The span, as the OpenTelemetry libraries want it.
    pub fn span_id(&self) -> [u8; 8] {
        self.span_id
    }

    /// Whether somebody records this trace.
    pub fn sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Whether both are spans of one trace.
    pub fn same_trace(&self, other: &Self) -> bool {
        self.trace_id == other.trace_id
    }

    /// The header `traceparent`: 55 bytes of ASCII.
    pub fn traceparent(&self) -> String {
        const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
        let mut text = String::with_capacity(TRACEPARENT_BYTES);
        text.push_str("00");
        for part in [&self.trace_id[..], &self.span_id, &[self.flags]] {
            text.push('-');
            // By hand: it is written for every event, and the formatter is slow.
            let digits = part.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
            text.extend(digits.map(|digit| DIGITS[usize::from(digit)]));
        }
        text
    }

    /// The header `tracestate`, if there is one; at most 512 bytes.
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.traceparent())
    }
}

/// Lower-case hexadecimal of exactly `N` bytes.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_reads_back_from_its_headers() {
        let context = TraceContext::parse(EXAMPLE, Some("vendor=1")).unwrap();
        assert_eq!(context.traceparent(), EXAMPLE);
        assert_eq!(context.tracestate(), Some("vendor=1"));
        assert!(context.sampled());
    }

    #[test]
    fn a_malformed_traceparent_is_no_context() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7_01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-0",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(text, None), None, "{text}");
        }
        let later = format!("{}-more", EXAMPLE.replacen("00", "01", 1));
        assert!(TraceContext::parse(&later, None).is_some());
    }

    #[test]
    fn a_child_is_another_span_of_the_same_trace() {
        let root = TraceContext::root();
        let child = root.child();
        assert!(root.same_trace(&child));
        assert_ne!(root, child);
        assert_eq!(TraceContext::parse(&child.traceparent(), None), Some(child));
    }
}
