//! The engine of every service. It knows no service: what a service is, it is told through traits.

pub mod backoff;
pub mod clock;
pub mod command;
pub mod config;
pub mod db;
pub mod engine;
pub mod feed;
pub mod grpc;
pub mod id;
pub mod inbox;
pub mod jobs;
pub mod kafka;
pub mod money;
pub mod ops;
pub mod outbox;
pub mod pace;
pub mod program;
pub mod telemetry;
pub mod timers;
pub mod user;
pub mod version;
pub mod wire;

/// Of every program that uses the engine: batches are many small values that live as long as a transaction, made and
/// dropped on different threads. This one gives first what came back last, which the processor's caches still hold.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
