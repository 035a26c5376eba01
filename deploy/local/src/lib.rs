//! The local stack: real servers and the services as real processes, without Docker. `make run`, the tests and whatever measures or
//! breaks the system start their servers here.
//!
//! - [`stack`] is a whole system: servers, services, keys; [`service`] has the list of the services;
//! - [`postgres`] and [`kafka`] are the two servers, [`throwaway`] both of them for a test run;
//! - [`sandbox`] is the payment provider of our own, [`gateway`] the edge, [`jaeger`] where traces go, [`prometheus`] metrics;
//! - [`process`] is any of these as a child process, of which nothing is left when this process ends; [`spawn`] begins one;
//! - [`session`] is a connection to a Postgres; [`progress`] is what whoever waits at a terminal is told;
//! - [`keys`] signs tokens that the services accept, and others;
//! - [`tools`] finds the programs, and fetches what is missing;
//! - [`ports`] gives ports that nobody else has, [`disk`] says where there is too little room;
//! - [`wait`] waits for conditions, [`ready`] asks servers for theirs;
//! - [`run`], [`with_servers`] and [`checkout`] are what the command `local` is made of.
//!
//! Nothing in here knows what a service does: only its name, its ports and its variables.

pub mod checkout;
pub mod disk;
pub mod gateway;
pub mod jaeger;
pub mod kafka;
pub mod keys;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod progress;
pub mod prometheus;
pub mod ready;
pub mod run;
pub mod sandbox;
mod scratch;
pub mod service;
pub mod session;
pub mod spawn;
pub mod stack;
mod supervise;
pub mod throwaway;
pub mod tools;
mod tree;
pub mod wait;
pub mod with_servers;
