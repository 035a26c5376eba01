//! What an operator sees of the work: traces and logs.

mod context;

pub use context::TraceContext;
