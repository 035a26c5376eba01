//! Keeping a service from hearing of something, or from recording it. In: a ticket, or an order. Out: orders' copy of the
//! one, or payments' account of the other, stays as it is until the delay ends. It changes nothing.
//!
//! How: a transaction that is left open in the service's database holds the row locked, as a forgotten session of an
//! operator would. Reading it goes on.

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::World;

/// What keeps a service from changing a row, until it is dropped or ended.
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
        Self::of_row(world, "orders", "tickets", "id", id).await
    }

    /// Payments records nothing more of this order. It must have heard of it.
    ///
    /// # Errors
    ///
    /// It hasn't, or its database can't be reached.
    pub async fn of_account(world: &World, order_id: &str) -> Result<Self> {
        Self::of_row(world, "payments", "accounts", "order_id", order_id).await
    }

    /// Expiration does nothing more about the timer of this order. It must have heard of it.
    ///
    /// # Errors
    ///
    /// It hasn't, or its database can't be reached.
    pub async fn of_timer(world: &World, order_id: &str) -> Result<Self> {
        Self::of_row(world, "expiration", "expirations", "order_id", order_id).await
    }

    /// The relay of a service can neither take nor keep its lease.
    ///
    /// # Errors
    ///
    /// The service's database can't be reached.
    pub async fn of_relay(world: &World, service: &str) -> Result<Self> {
        let (client, tasks) = connect(world, service).await?;
        client.batch_execute("BEGIN; SELECT FROM outbox_cursor FOR UPDATE").await?;
        Ok(Self { client, _connection: tasks })
    }

    async fn of_row(world: &World, service: &str, table: &str, key: &str, id: &str) -> Result<Self> {
        let (client, tasks) = connect(world, service).await?;
        client.batch_execute("BEGIN").await?;
        let id: Uuid = id.parse().context("an id")?;
        let locked = client.execute(&format!("SELECT FROM {table} WHERE {key} = '{id}' FOR UPDATE"), &[]).await?;
        ensure!(locked == 1, "{service} hasn't heard of {id}");
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

/// How often payments has begun to ask the provider about this order's payments: what no client is told, for it is no
/// change of any payment.
///
/// # Errors
///
/// Its database can't be reached.
pub async fn times_asked(world: &World, order_id: &str) -> Result<i64> {
    let (client, _connection) = connect(world, "payments").await?;
    let id: Uuid = order_id.parse().context("an id")?;
    let row = client.query_one(&format!("SELECT sum(tries) FROM payments WHERE order_id = '{id}'"), &[]).await?;
    Ok(row.get::<_, Option<i64>>(0).unwrap_or_default())
}

/// A connection of the superuser's, to no service's database.
///
/// # Errors
///
/// The server can't be reached.
pub async fn superuser(world: &World) -> Result<(Client, JoinSet<()>)> {
    open(&world.stack().shared_servers().postgres_url).await
}

/// A connection to a service's database, which lives as long as its task does.
///
/// # Errors
///
/// It can't be reached.
pub async fn connect(world: &World, service: &str) -> Result<(Client, JoinSet<()>)> {
    open(world.replica(service, 0)?.database_url()).await
}

async fn open(url: &str) -> Result<(Client, JoinSet<()>)> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let mut tasks = JoinSet::new();
    // Its error is the client's, too.
    tasks.spawn(async { drop(connection.await) });
    Ok((client, tasks))
}
