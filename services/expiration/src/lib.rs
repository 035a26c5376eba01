//! Expiration: the timers of orders. Each fires when its order was not paid in time.
//!
//! The rooms: `domain` decides, `store` keeps, `events` and `grpc` translate, `config` reads the settings. Everything
//! else is the engine's, which this plugs them into.

pub mod config;
pub mod domain;
pub mod events;
pub mod grpc;
mod schema;
mod store;

use contracts::expiration::v1::expiration_service_server::{ExpirationServiceServer, SERVICE_NAME};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use shared::{
    engine::{Engine, Plan, RunError},
    grpc::MAX_MESSAGE_BYTES,
    inbox::Subscription,
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use config::Config;
use domain::Expirations;

/// The service's name.
pub const NAME: &str = "expiration";

const PLAN: Plan<Expirations> = Plan {
    name: NAME,
    topic: "expiration",
    subscriptions: &[Subscription { group: "expiration-orders", topic: "orders", react: events::react_to_orders }],
    services: &[SERVICE_NAME],
    descriptors: contracts::DESCRIPTORS,
    migrations,
};

/// Serves until it is told to stop.
///
/// # Errors
///
/// A port is taken, or a part of the engine ended by itself.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), RunError> {
    let engine = Engine::open(PLAN, config.common).await?.with_timers("expirations");
    let service = ExpirationServiceServer::new(grpc::Api::new(engine.pool()));
    let routes = Routes::new(service.max_decoding_message_size(MAX_MESSAGE_BYTES));
    engine.run(routes, stop).await
}

/// The service's own tables.
pub fn migrations() -> EmbeddedMigrations {
    const MIGRATIONS: EmbeddedMigrations = embed_migrations!();
    MIGRATIONS
}
