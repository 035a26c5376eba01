//! What operators ask a process over HTTP: whether it lives, whether it is ready, and its metrics.
//!
//! It only tells. It changes nothing, and shows no setting, no secret and no user's data.

mod metrics;
mod sampler;
mod server;

pub use metrics::{Metrics, seconds};
pub use sampler::Sample;
pub(crate) use sampler::Sampler;
pub use server::serve;
