//! The edge. In: the contracts' descriptor set, and a few settings. Out: Envoy's configuration, and Envoy in this
//! process's place.
//!
//! gRPC, gRPC-Web and JSON come in on one port. Which calls there are, what each is in HTTP, and which service answers
//! it, is read from the descriptors ([`api`]) and written down nowhere else: an RPC that is added to a proto has its
//! routes. Nothing here decides about tickets or orders, and no service trusts what is decided here: each checks the
//! token again.
//!
//! - [`config`] is what the gateway is told;
//! - [`bootstrap`] is Envoy's configuration as a whole, put together of its neighbours: `listener`, `filters`, `routes`,
//!   `clusters`, `replies`, `keys`, `tracing`;
//! - [`openapi`] tells the same calls to those who know no protobuf.

pub mod api;
pub mod bootstrap;
mod clusters;
pub mod config;
mod filters;
mod keys;
mod listener;
pub mod openapi;
mod replies;
mod routes;
mod tracing;

pub use config::Config;

/// The program's name, and its service's in traces.
pub const NAME: &str = "gateway";
