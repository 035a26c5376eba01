//! The engine of every service. It knows no service: what a service is, it is told through traits.

pub mod clock;
pub mod id;
pub mod money;
pub mod telemetry;
pub mod version;
