//! What every call passes, but those for health and reflection: its trace, its deadline, its caller, its count.

mod answer;
mod deadline;
mod layer;
mod methods;

pub(super) use layer::EdgeLayer;
pub(super) use methods::Methods;
