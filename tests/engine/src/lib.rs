//! A tiny fifth service, counters, over the engine: it proves that the engine knows none of the other four.
//!
//! It has the rooms that they have: `domain` decides, `store` keeps, `events` and `grpc` translate, `config` reads the
//! settings. Some of its rules are traps, so that tests can see what the engine does about commands that go wrong.

pub mod config;
pub mod domain;
pub mod events;
mod grpc;
mod schema;
pub mod store;

use counter::v1::counter_service_server::{CounterServiceServer, SERVICE_NAME};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use shared::{
    engine::{Engine, Plan, RunError},
    grpc::MAX_MESSAGE_BYTES,
    inbox::Subscription,
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use config::Config;
use domain::{Command, Counters};

/// The encoded `FileDescriptorSet` of the counter's protos.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));

/// Package `counter`.
#[allow(missing_docs)]
pub mod counter {
    pub mod v1 {
        tonic::include_proto!("counter.v1");
    }
}

/// The service's name.
pub const NAME: &str = "counter";
/// Its events' topic.
pub const TOPIC: &str = "counters";
/// What it reads.
pub const COMMANDS: Subscription<Command> =
    Subscription { group: "counter-events", topic: "counter-commands", react: events::react_to_commands };

const PLAN: Plan<Counters> = Plan {
    name: NAME,
    topic: TOPIC,
    subscriptions: &[COMMANDS],
    services: &[SERVICE_NAME],
    descriptors: DESCRIPTORS,
    migrations,
};

/// Serves until it is told to stop.
///
/// # Errors
///
/// A port is taken, or a part of the engine ended by itself.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), RunError> {
    let (engine, feed) = Engine::open(PLAN, config.common).await?.with_timers("resets").with_feed(events::read_own);
    let service = CounterServiceServer::new(grpc::Api::new(engine.lane(), engine.pool(), feed));
    let routes = Routes::new(service.max_decoding_message_size(MAX_MESSAGE_BYTES));
    engine.run(routes, stop).await
}

/// The service's own tables.
pub fn migrations() -> EmbeddedMigrations {
    const MIGRATIONS: EmbeddedMigrations = embed_migrations!();
    MIGRATIONS
}
