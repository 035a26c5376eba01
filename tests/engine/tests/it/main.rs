//! The engine's own tests, on a real Postgres and a real Kafka, with a tiny service of its own: `local with-servers --
//! cargo test -p engine-tests`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../edge_support/mod.rs"]
mod edge_support;

mod edge_auth;
mod edge_calls;
mod feed;
mod inbox;
mod inbox_fence;
mod inbox_held;
mod inbox_processes;
mod migrations;
mod outbox;
mod outbox_leases;
mod reads;
mod shutdown;
mod support;
mod timers;
mod write_batches;
mod write_faults;
mod write_rejections;
mod write_request_ids;
