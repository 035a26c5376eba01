//! The sandbox's tests, on the real process over TCP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod api;
mod faults;
mod keys;
mod killing;
mod limits;
mod process;
mod raw;
mod slow;
mod support;
