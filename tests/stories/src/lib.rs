//! What a story needs: a world of real processes, users who do things in it through gRPC alone, and eyes for what others
//! see of it, in Kafka and in a collector of traces.
//!
//! - [`World`] is a whole system of its own; [`User`] is somebody in it, [`Refused`] how a call can fail;
//! - [`Visitor`] is somebody who comes through the gateway with HTTP and JSON alone, [`grpc_web`] what browsers speak there;
//! - [`stranger`] sends anything at all, sound or not, by every way in, and [`footprint`] is all that such a one could have
//!   left behind;
//! - [`history`] reads topics as any client of Kafka could, and [`record`] holds them to what the contract says of them;
//! - [`Ledger`] is what the payment provider has to say of the money, and how it is made to misbehave;
//! - [`groups`] are the consumers, as tools see them that watch lag;
//! - [`duplicator`] delivers every event twice; [`delay`] keeps a service from hearing of something, or from recording it;
//!   [`tampering`] changes facts behind the services' backs;
//! - [`killing`] kills services while orders are placed, and [`audit`] says what must hold afterwards;
//! - [`collector`] is where traces go, [`jaeger`] where they may be looked at, and [`useless_collector`] are those that take
//!   nothing; [`metrics`] is what services show of themselves, and what Prometheus makes of it; [`program`] runs a service by hand.

pub mod audit;
pub mod collector;
pub mod delay;
pub mod duplicator;
mod errors;
pub mod footprint;
pub mod groups;
pub mod grpc_web;
pub mod history;
pub mod jaeger;
pub mod killing;
pub mod ledger;
pub mod metrics;
pub mod program;
pub mod record;
pub mod stranger;
pub mod tampering;
pub mod useless_collector;
mod user;
mod visitor;
mod world;

use std::time::Duration;

pub use errors::Refused;
pub use ledger::Ledger;
pub use user::User;
pub use visitor::{Answer, Visitor};
pub use world::{SERVICES, World};

/// How long anything that the system should do soon may take: generous, for tests share two cores.
pub const SOON: Duration = Duration::from_secs(90);

/// How long it may take until money has come to rest, whatever was killed: payments asks again once a lease of 20 s is
/// over, and then with pauses that grow.
pub const SETTLED: Duration = Duration::from_secs(180);
