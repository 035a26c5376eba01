//! The local stack: real servers and the services as real processes, without Docker. `make run`, the tests and whatever measures or
//! breaks the system start their servers here.
//!
//! - [`tools`] finds the programs, and fetches what is missing;
//! - [`process`] is a server as a child process, of which nothing is left when this process ends;
//! - [`postgres`] and [`kafka`] are the two servers, [`throwaway`] both of them for a test run;
//! - [`ports`] gives ports that nobody else has; [`wait`] waits for conditions, [`ready`] asks servers for theirs.
//!
//! Nothing in here knows what a service does: only its name, its ports and its variables.

pub mod kafka;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod progress;
pub mod ready;
pub mod spawn;
pub mod throwaway;
pub mod tools;
mod tree;
pub mod wait;
pub mod with_servers;
