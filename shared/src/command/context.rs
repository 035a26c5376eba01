//! What all writers of a service have in common.

use std::sync::Arc;

use tokio::sync::Notify;

use super::CommandMetrics;
use crate::db::Database;

/// What all writers of a service have in common: what they write to, and who hears of it. Cheap to clone.
#[derive(Clone)]
pub struct WriteContext {
    /// The topic that the service's events go to.
    pub publishes: &'static str,
    /// The service's own.
    pub database: Database,
    /// What writers count.
    pub metrics: Arc<CommandMetrics>,
    /// Wakes this process's relay.
    pub wake_relay: Arc<Notify>,
}
