//! Keeping a service from hearing of something. In: a ticket. Out: orders' copy of it stays as it is until the delay
//! ends, whatever tickets says meanwhile. It changes nothing.
//!
//! How: a transaction that is left open in orders' database holds the copy's row locked, as a forgotten session of an
//! operator would. Placing an order reads copies without locking them, so that goes on.

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::World;

/// What keeps orders from hearing of a ticket, until it is dropped or ended.
pub struct Delay {
    client: Client,
    _connection: JoinSet<()>,
}

impl Delay {
    /// Orders hears no more of this ticket. It must have heard of it.
    ///
    /// # Errors
    ///
    /// It hasn't, or its database can't be reached.
    pub async fn of_ticket(world: &World, id: &str) -> Result<Self> {
        let (client, connection) = tokio_postgres::connect(world.replica("orders", 0)?.database_url(), NoTls).await?;
        let mut tasks = JoinSet::new();
        // Its error is the client's, too.
        tasks.spawn(async { drop(connection.await) });
        client.batch_execute("BEGIN").await?;
        let id: Uuid = id.parse().context("a ticket's id")?;
        let locked = client.execute(&format!("SELECT FROM tickets WHERE id = '{id}' FOR UPDATE"), &[]).await?;
        ensure!(locked == 1, "orders hasn't heard of ticket {id}");
        Ok(Self { client, _connection: tasks })
    }

    /// It hears of everything.
    ///
    /// # Errors
    ///
    /// The database has gone.
    pub async fn ends(self) -> Result<()> {
        Ok(self.client.batch_execute("ROLLBACK").await?)
    }
}
