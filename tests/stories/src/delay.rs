//! Keeping a service from hearing of something, or from recording it. In: a ticket, or an order. Out: orders' copy of the
//! one, or payments' account of the other, stays as it is until the delay ends. It changes nothing.
//!
//! How: a transaction that is left open in the service's database holds the row locked, as a forgotten session of an
//! operator would. Reading it goes on.

use anyhow::{Context, Result, ensure};
use local::session::Session;
use uuid::Uuid;

use crate::World;

/// What keeps a service from changing a row, until it is dropped or ended.
pub struct Delay {
    session: Session,
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
        let session = connect(world, service).await?;
        session.batch_execute("BEGIN; SELECT FROM outbox_cursor FOR UPDATE").await?;
        Ok(Self { session })
    }

    async fn of_row(world: &World, service: &str, table: &str, key: &str, id: &str) -> Result<Self> {
        let session = connect(world, service).await?;
        session.batch_execute("BEGIN").await?;
        let id: Uuid = id.parse().context("an id")?;
        let locked = session.execute(&format!("SELECT FROM {table} WHERE {key} = '{id}' FOR UPDATE"), &[]).await?;
        ensure!(locked == 1, "{service} hasn't heard of {id}");
        Ok(Self { session })
    }

    /// It hears of everything.
    ///
    /// # Errors
    ///
    /// The database has gone.
    pub async fn ends(self) -> Result<()> {
        Ok(self.session.batch_execute("ROLLBACK").await?)
    }
}

/// How often payments has begun to ask the provider about this order's payments: what no client is told, for it is no
/// change of any payment.
///
/// # Errors
///
/// Its database can't be reached.
pub async fn times_asked(world: &World, order_id: &str) -> Result<i64> {
    let session = connect(world, "payments").await?;
    let id: Uuid = order_id.parse().context("an id")?;
    let row = session.query_one(&format!("SELECT sum(tries) FROM payments WHERE order_id = '{id}'"), &[]).await?;
    Ok(row.get::<_, Option<i64>>(0).unwrap_or_default())
}

/// A session of the superuser's, in no service's database.
///
/// # Errors
///
/// The server can't be reached.
pub async fn superuser(world: &World) -> Result<Session> {
    Session::connect(&world.stack().shared_servers().postgres_url).await
}

/// A session in a service's database.
///
/// # Errors
///
/// It can't be reached.
pub async fn connect(world: &World, service: &str) -> Result<Session> {
    Session::connect(world.replica(service, 0)?.database_url()).await
}
