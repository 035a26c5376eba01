//! What an operator sees of the work: traces and logs.
//!
//! A piece of work always has a [`TraceContext`], exported or not, and hands it on to what it causes; a [`Span`] is that
//! piece of work while it runs. Nothing here decides or waits: a collector that is slow or gone costs spans, not time.

mod context;
mod current;
mod export;
#[cfg(feature = "jaeger-agent")]
mod jaeger_agent;
mod later;
mod log;
mod sampling;
mod setup;
mod span;
mod spell;
mod uber;

pub use context::TraceContext;
pub use current::{InSpan, current};
pub(crate) use export::register;
#[cfg(feature = "jaeger-agent")]
pub use jaeger_agent::AgentError;
pub(crate) use later::Later;
pub use setup::{SetupError, Telemetry, init};
pub use span::{Record, Span};
pub(crate) use spell::Spell;

/// Taken by tests that have a subscriber of their own: what one is interested in is remembered for the whole process, so that
/// of two at once each would be asked for what only the other wants.
#[cfg(test)]
static ONE_SUBSCRIBER: std::sync::Mutex<()> = std::sync::Mutex::new(());
