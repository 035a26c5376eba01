//! What a story needs: a world of real processes, and users who do things in it, through gRPC alone.

mod errors;
mod user;

use std::time::Duration;

use anyhow::Result;
use local::{
    service::Service,
    stack::{SharedServers, Stack, StackBuilder},
    tools::Tools,
};

pub use errors::Refused;
pub use user::User;

/// How long anything that the system should do soon may take: generous, for tests share two cores.
pub const SOON: Duration = Duration::from_secs(30);

/// A whole system of its own, on shared servers.
pub struct World {
    stack: Stack,
}

impl World {
    /// One replica of each service.
    ///
    /// # Errors
    ///
    /// A service doesn't become ready.
    pub async fn start() -> Result<Self> {
        Self::with(|stack| stack).await
    }

    /// One replica of each service, and whatever else is asked for.
    ///
    /// # Errors
    ///
    /// A service doesn't become ready.
    pub async fn with(ask: impl FnOnce(StackBuilder) -> StackBuilder) -> Result<Self> {
        let mut stack = Stack::builder().on(SharedServers::from_env()?);
        for service in ["tickets", "orders", "expiration"] {
            stack = stack.service(service)?;
        }
        // A world that ends need not tell anybody first.
        let stack = ask(stack.env_for_all("SHUTDOWN_GRACE", "0s"));
        Ok(Self { stack: stack.start(&Tools::from_env()?).await? })
    }

    /// The processes.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Somebody who calls the first replica of each service.
    ///
    /// # Errors
    ///
    /// No token can be signed.
    pub fn user(&self, name: &str) -> Result<User> {
        User::new(self, name, &[], 0)
    }

    /// Somebody who calls the `replica`th of each service that has so many, else the last.
    ///
    /// # Errors
    ///
    /// No token can be signed.
    pub fn user_at(&self, name: &str, replica: usize) -> Result<User> {
        User::new(self, name, &[], replica)
    }

    /// Somebody who sees all and changes nothing.
    ///
    /// # Errors
    ///
    /// No token can be signed.
    pub fn operator(&self) -> Result<User> {
        User::new(self, "olga", &["operator"], 0)
    }

    fn replica<'a>(&'a self, name: &'a str, replica: usize) -> Option<&'a Service> {
        self.stack.replicas(name).take(replica + 1).last()
    }

    /// Ends all, and fails if a service had to be killed.
    ///
    /// # Errors
    ///
    /// A service did not end by itself.
    pub async fn end(self) -> Result<()> {
        self.stack.stop().await
    }
}
