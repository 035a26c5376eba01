//! Migrations: the engine's tables, then the service's, by one process at a time.

use std::time::Duration;

use diesel::{
    migration::{Migration, MigrationSource},
    pg::Pg,
    sql_types::Bool,
};
use diesel_async::{AsyncMigrationHarness, RunQueryDsl};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{ConnectError, Database};

const ENGINE: EmbeddedMigrations = embed_migrations!("migrations");

/// Any number that nobody else uses within a service's database.
const LOCK: &str = "SELECT pg_try_advisory_lock(7240915082216) AS locked";

const POLL: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a database could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// It could not be connected to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A statement failed.
    #[error("migrating: {0}")]
    Query(#[from] diesel::result::Error),
    /// A migration failed.
    #[error("migrating: {0}")]
    Migration(Box<dyn std::error::Error + Send + Sync>),
    /// Another process is migrating this database.
    #[error("another process is migrating the database")]
    Busy,
}

#[derive(diesel::QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

/// Brings a database up to date: first the engine's tables, then the service's own. Replicas that start together take
/// turns.
///
/// # Errors
///
/// The database can't be reached, another process has been migrating it for a minute, or a migration failed, of which
/// nothing remains.
pub async fn migrate(
    database: &Database,
    service: impl MigrationSource<Pg> + Send + 'static,
) -> Result<(), MigrateError> {
    distinct(&service).map_err(MigrateError::Migration)?;
    let mut conn = database.connect().await?.into_inner();
    // Polled, for a session that waits for a lock would stand in the way of an index built concurrently.
    let mut waited = Duration::ZERO;
    loop {
        let Locked { locked } = diesel::sql_query(LOCK).get_result(&mut conn).await?;
        if locked {
            break;
        }
        if waited >= PATIENCE {
            return Err(MigrateError::Busy);
        }
        tokio::time::sleep(POLL).await;
        waited += POLL;
    }
    // Diesel's harness blocks its thread, and the runtime may have no other.
    let migrating = tokio::task::spawn_blocking(move || {
        let mut harness = AsyncMigrationHarness::new(conn);
        harness.run_pending_migrations(ENGINE)?;
        harness.run_pending_migrations(service)?;
        // The lock goes with the session.
        Ok(())
    });
    migrating.await.unwrap_or_else(|panicked| Err(panicked.into())).map_err(MigrateError::Migration)
}

/// Diesel knows a migration by what stands before the first `_` of its name: were one of the service's known by the
/// name of one of the engine's, it would count as done and be passed over in silence.
fn distinct(service: &impl MigrationSource<Pg>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let engine: Vec<Box<dyn Migration<Pg>>> = ENGINE.migrations()?;
    for migration in service.migrations()? {
        let version = migration.name().version();
        if engine.iter().any(|known| known.name().version() == version) {
            return Err(format!("the migration {} has the version of one of the engine's", migration.name()).into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_that_would_be_passed_over_is_a_fault() {
        assert!(distinct(&ENGINE).is_err());
    }
}
