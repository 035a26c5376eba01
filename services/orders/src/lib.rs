//! Orders: what buyers place. Each holds stock until it is paid, cancelled, or expires.
//!
//! The rooms: `domain` decides, `store` keeps, `events` and `grpc` translate, `config` reads the settings. Everything
//! else is the engine's, which this plugs them into.

pub mod config;
pub mod domain;
pub mod events;
pub mod grpc;
mod schema;
mod store;

use contracts::orders::v1::order_service_server::{OrderServiceServer, SERVICE_NAME};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use shared::{
    engine::{Engine, Plan, RunError},
    grpc::MAX_MESSAGE_BYTES,
    inbox::Subscription,
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use config::Config;
use domain::Orders;

/// The service's name.
pub const NAME: &str = "orders";

const PLAN: Plan<Orders> = Plan {
    name: NAME,
    topic: "orders",
    subscriptions: &[
        Subscription { group: "orders-tickets", topic: "tickets", react: events::react_to_tickets },
        Subscription { group: "orders-payments", topic: "payments", react: events::react_to_payments },
        Subscription { group: "orders-expiration", topic: "expiration", react: events::react_to_expiration },
    ],
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
    let (engine, feed) = Engine::open(PLAN, config.common).await?.with_feed(events::read_own);
    let service = OrderServiceServer::new(grpc::Api::new(engine.lane(), engine.pool(), feed, config.order_ttl));
    let routes = Routes::new(service.max_decoding_message_size(MAX_MESSAGE_BYTES));
    engine.run(routes, stop).await
}

/// The service's own tables.
pub fn migrations() -> EmbeddedMigrations {
    const MIGRATIONS: EmbeddedMigrations = embed_migrations!();
    MIGRATIONS
}
