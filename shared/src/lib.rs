//! The engine of every service. It knows no service: what a service is, it is told through traits.

pub mod clock;
pub mod config;
pub mod grpc;
pub mod id;
pub mod money;
pub mod ops;
pub mod telemetry;
pub mod user;
pub mod version;
