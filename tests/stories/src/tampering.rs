//! Changing facts behind the services' backs: what an auditor is there to notice. In: a world. Out: a service's tables with
//! something else in them, until that is undone; a record that no service has written.

use anyhow::{Context, Result};
use local::session::Session;

use crate::{
    World, delay, duplicator,
    history::{self, Event},
};

/// A service's tables, and a copy of them as they were.
pub struct Tables {
    session: Session,
    undo: String,
}

impl Tables {
    /// Keeps a copy of a service's tables. The service should be stopped, lest it change them itself.
    ///
    /// # Errors
    ///
    /// Its database can't be reached, or has no such tables.
    pub async fn keep(world: &World, service: &str) -> Result<Self> {
        let names: &[&str] = match service {
            "tickets" => &["tickets", "reservations"],
            "orders" => &["orders", "tickets"],
            "payments" => &["accounts", "payments"],
            "expiration" => &["expirations"],
            _ => anyhow::bail!("there is no {service}"),
        };
        let session = delay::connect(world, service).await?;
        for name in names {
            session.batch_execute(&format!("CREATE TABLE kept_{name} AS TABLE {name}")).await?;
        }
        let back: String = names.iter().map(|name| format!("INSERT INTO {name} TABLE kept_{name};")).collect();
        let undo = format!("BEGIN; TRUNCATE {}; {back} COMMIT", names.join(", "));
        Ok(Self { session, undo })
    }

    /// Does this to them.
    ///
    /// # Errors
    ///
    /// It can't be done.
    pub async fn tamper(&self, statements: &str) -> Result<()> {
        self.session.batch_execute(statements).await.with_context(|| statements.to_owned())
    }

    /// Puts everything back.
    ///
    /// # Errors
    ///
    /// The database has gone.
    pub async fn undo(&self) -> Result<()> {
        Ok(self.session.batch_execute(&self.undo).await?)
    }
}

/// Puts a record into a topic, as if its service had.
///
/// # Errors
///
/// It can't be written.
pub async fn tell(world: &World, topic: &str, event: Event) -> Result<()> {
    let (config, topic) = (history::client(world), history::full_name(world, topic));
    tokio::task::spawn_blocking(move || duplicator::send_alone(config, &topic, &event)).await?
}
