//! The local stack's own tests, with real servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests end with the first thing that is wrong"
)]

mod common;
mod ports;
mod run;
mod servers;
mod stack;
mod with_servers;
