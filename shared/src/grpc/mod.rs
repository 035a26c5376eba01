//! The gRPC edge of a service: what every call passes before a handler sees it, and what every answer looks like.
//!
//! In come requests; out go [`Call`]s with checked [`Fields`], and [`Fault`]s as statuses. It decides nothing about the
//! business and touches no database.

mod auth;
mod call;
mod edge;
mod fault;
mod fields;
mod health;
mod page;
mod server;

pub use auth::Verifier;
pub use call::{Call, Caller};
pub use fault::{DOMAIN, Fault, FieldFault};
pub use fields::Fields;
pub use health::{Health, Readiness};
pub use page::{Listing, Page};
pub use server::{BindError, MAX_MESSAGE_BYTES, ServeError, Server, bind};
