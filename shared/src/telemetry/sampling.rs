//! Which work is exported, decided before anything of its span is made: what nobody will see costs two random numbers.
//!
//! So the SDK's own sampler is told to keep whatever it is given, and its ids come from here: a trace is judged by its
//! id, which is drawn first.

use std::cell::Cell;

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

use super::TraceContext;
use crate::config::SamplerConfig;

thread_local! {
    /// The trace that this thread is about to begin.
    static BEGINNING: Cell<Option<TraceId>> = const { Cell::new(None) };
}

/// Whether work is exported, by its parent, else by those whom it is for, else by its trace's id.
pub(super) fn keeps(
    sampler: &SamplerConfig,
    parent: Option<&TraceContext>,
    links: Option<&[TraceContext]>,
    trace: [u8; 16],
) -> bool {
    match (sampler.parent_based, parent, links) {
        (true, Some(parent), _) => parent.sampled(),
        // Done for many at once, and seen if any of them is; the work itself may be of a trace of its own.
        (true, None, Some(links)) => links.iter().any(TraceContext::sampled),
        _ => within(sampler.ratio, trace),
    }
}

/// Whether a trace is of this share of all, by the lower half of its id. Other SDKs of OpenTelemetry reckon the same, so
/// that they and we keep the same traces.
fn within(ratio: f64, trace: [u8; 16]) -> bool {
    const ALL: f64 = (1_u64 << 63) as f64;
    let lower = u128::from_be_bytes(trace) as u64;
    lower >> 1 < (ratio * ALL) as u64
}

/// The next trace that the SDK begins on this thread has this id.
pub(super) fn begins(trace: [u8; 16]) {
    BEGINNING.set(Some(TraceId::from_bytes(trace)));
}

/// Ids for the SDK.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ids;

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        BEGINNING.take().unwrap_or_else(|| TraceId::from_bytes(trace_id()))
    }

    fn new_span_id(&self) -> SpanId {
        SpanId::from_bytes(span_id())
    }
}

/// A new trace's id. All of it is random, for its lower half decides whether the trace is kept.
pub(super) fn trace_id() -> [u8; 16] {
    match RandomIdGenerator::default().new_trace_id() {
        // Which the format forbids.
        TraceId::INVALID => trace_id(),
        id => id.to_bytes(),
    }
}

/// A new span's id.
pub(super) fn span_id() -> [u8; 8] {
    match RandomIdGenerator::default().new_span_id() {
        SpanId::INVALID => span_id(),
        id => id.to_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::SpanKind;
    use opentelemetry_sdk::trace::{Sampler, SamplingDecision, ShouldSample as _};

    use super::*;

    const RATIO: f64 = 0.25;

    fn context(sampled: bool) -> TraceContext {
        TraceContext::new(trace_id(), span_id(), sampled, None).unwrap()
    }

    #[test]
    fn the_parent_decides_and_without_one_those_whom_the_work_is_for_and_else_the_share() {
        let (seen, unseen) = (context(true), context(false));
        let (both, none) = (vec![unseen.clone(), seen.clone()], vec![unseen.clone()]);
        let (low, high) = ([0; 16], [0xff; 16]);
        for (parent_based, parent, links, trace, expected) in [
            (true, Some(&seen), None, high, true),
            (true, Some(&unseen), None, low, false),
            (true, None, Some(&both), high, true),
            (true, None, Some(&none), low, false),
            (true, None, Some(&vec![]), low, false),
            (true, None, None, low, true),
            (true, None, None, high, false),
            // Whoever isn't asked has no say.
            (false, Some(&seen), None, high, false),
            (false, Some(&unseen), None, low, true),
            (false, None, Some(&both), high, false),
            (false, None, Some(&none), low, true),
        ] {
            let sampler = SamplerConfig { parent_based, ratio: RATIO };
            let kept = keeps(&sampler, parent, links.map(Vec::as_slice), trace);
            assert_eq!(kept, expected, "{parent_based} {parent:?} {links:?} {trace:?}");
        }
    }

    #[test]
    fn a_share_of_traces_is_kept_and_the_same_as_by_the_sdk() {
        const TRACES: usize = 20_000;
        for ratio in [0.0, 0.01, RATIO, 1.0] {
            let sdk = Sampler::TraceIdRatioBased(ratio);
            let kept = std::iter::repeat_with(trace_id).take(TRACES).filter(|trace| {
                let told = sdk.should_sample(None, TraceId::from_bytes(*trace), "", &SpanKind::Internal, &[], &[]);
                let kept = within(ratio, *trace);
                assert_eq!(kept, told.decision == SamplingDecision::RecordAndSample, "{trace:?} at {ratio}");
                kept
            });
            let share = kept.count() as f64 / TRACES as f64;
            // Six standard deviations at the most.
            assert!((share - ratio).abs() < 0.02, "{share} instead of {ratio}");
        }
    }
}
