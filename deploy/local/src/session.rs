//! A plain session of Postgres, for what no service prepares. In: a URL. Out: a client, connected as long as it is kept.

use std::ops::{Deref, DerefMut};

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

/// A session; it ends when it is dropped.
#[derive(Debug)]
pub struct Session {
    client: Client,
    connection: JoinSet<()>,
}

impl Session {
    /// Connects to the database behind a `postgres://` URL.
    ///
    /// # Errors
    /// There is no such server or database, or it refuses.
    pub async fn connect(url: &str) -> Result<Self> {
        let (client, driven) = tokio_postgres::connect(url, NoTls).await.with_context(|| format!("at {url}"))?;
        let mut connection = JoinSet::new();
        // Its error is the client's, too.
        connection.spawn(async { drop(driven.await) });
        Ok(Self { client, connection })
    }

    /// Waits until the other side has ended it.
    pub async fn ended(mut self) {
        while self.connection.join_next().await.is_some() {}
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}
