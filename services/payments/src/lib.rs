//! Payments: what orders are paid with. Each is charged once at the provider, and given back if its order doesn't come
//! to be.
//!
//! The rooms: `domain` decides, `store` keeps, `events` and `grpc` translate, `config` reads the settings, `jobs` asks
//! the `provider`, `metrics` shows what that owes. Everything else is the engine's, which this plugs them into.

pub mod config;
pub mod domain;
pub mod events;
pub mod grpc;
mod jobs;
mod metrics;
pub mod provider;
mod schema;
mod store;

use contracts::payments::v1::payment_service_server::{PaymentServiceServer, SERVICE_NAME};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use shared::{
    engine::{Engine, Plan, RunError},
    grpc::MAX_MESSAGE_BYTES,
    inbox::Subscription,
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use config::Config;
use domain::Payments;
use jobs::Asker;
use metrics::Unsettled;
use provider::{ProviderMetrics, Stripe};

/// The service's name.
pub const NAME: &str = "payments";
/// What the provider is called.
const PROVIDER: &str = "stripe";

const PLAN: Plan<Payments> = Plan {
    name: NAME,
    topic: "payments",
    subscriptions: &[Subscription { group: "payments-orders", topic: "orders", react: events::react_to_orders }],
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
    let engine = Engine::open(PLAN, config.common).await?;
    let calls = config.provider.calls;
    let unsettled = Unsettled::new(engine.metrics());
    let engine = engine.with_sample(unsettled);
    let provider = Stripe::new(config.provider, ProviderMetrics::new(engine.metrics()))?;
    let (engine, asking) = engine.with_jobs("payments", Asker(provider), calls);
    let service = PaymentServiceServer::new(grpc::Api::new(engine.lane(), engine.pool(), asking, PROVIDER));
    let routes = Routes::new(service.max_decoding_message_size(MAX_MESSAGE_BYTES));
    engine.run(routes, stop).await
}

/// The service's own tables.
pub fn migrations() -> EmbeddedMigrations {
    const MIGRATIONS: EmbeddedMigrations = embed_migrations!();
    MIGRATIONS
}
