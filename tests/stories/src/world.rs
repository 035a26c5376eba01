//! A whole system. In: what is special about it. Out: processes that are ready, and users who call them. It is ended by
//! the story, or else its logs are kept.

use std::{collections::HashMap, fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use local::{
    gateway::Gateway,
    process::Process,
    progress::say,
    ready,
    service::Service,
    stack::{SharedServers, Stack, StackBuilder},
    tools::Tools,
    wait,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{SOON, User, Visitor, groups};

/// The services that take part.
pub const SERVICES: [&str; 4] = ["tickets", "orders", "payments", "expiration"];

/// A whole system of its own, on shared servers.
pub struct World {
    stack: Stack,
    /// One line to each replica, by the service and its number. All users share it, as they do behind a gateway.
    lines: HashMap<(&'static str, usize), Channel>,
    ended: bool,
}

impl World {
    /// One replica of each service.
    ///
    /// # Errors
    ///
    /// A service doesn't become ready.
    pub async fn start() -> Result<Self> {
        Self::with(Ok).await
    }

    /// Two replicas of each service, and one provider.
    ///
    /// # Errors
    ///
    /// A service doesn't become ready.
    pub async fn twofold() -> Result<Self> {
        Self::with(|stack| SERVICES.iter().try_fold(stack, |stack, service| stack.service(service))).await
    }

    /// One replica of each service, and whatever else is asked for.
    ///
    /// # Errors
    ///
    /// A service doesn't become ready.
    pub async fn with(ask: impl FnOnce(StackBuilder) -> Result<StackBuilder>) -> Result<Self> {
        let world = Self::unborn(|stack| ask(stack.on(SharedServers::from_env()?))).await?;
        world.stack.start().await?;
        groups::awaits_all(&world).await?;
        Ok(world)
    }

    /// One replica of each service, and whatever else is asked for, with nothing started yet; without `.on`, Postgres
    /// and Kafka are its own.
    ///
    /// # Errors
    ///
    /// A binary is missing, or the servers' data can't be made.
    pub async fn unborn(ask: impl FnOnce(StackBuilder) -> Result<StackBuilder>) -> Result<Self> {
        let stack = SERVICES.iter().try_fold(Stack::builder(), |stack, service| stack.service(service))?;
        let stack = stack
            // A world that ends need not tell anybody first.
            .env_for_all("SHUTDOWN_GRACE", "0s")
            // Nor is it a story's matter how long an event may take on a machine that does much else.
            .env_for_all("HEARING_TIMEOUT", "20s");
        let stack = ask(stack)?.create(&Tools::from_env()?).await?;
        let mut lines = HashMap::new();
        for name in SERVICES {
            for (replica, service) in stack.replicas(name).enumerate() {
                let line = Endpoint::from_shared(format!("http://{}", service.grpc()))?.connect_lazy();
                lines.insert((name, replica), line);
            }
        }
        Ok(Self { stack, lines, ended: false })
    }

    /// The processes.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// The `replica`th replica of a service, counted from 0.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn replica(&self, service: &str, replica: usize) -> Result<&Service> {
        let mut replicas = self.stack.services().iter().filter(|found| found.name() == service);
        replicas.nth(replica).with_context(|| format!("no replica {replica} of {service}"))
    }

    /// The payment provider.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn provider(&self) -> Result<&Process> {
        Ok(self.stack.sandbox().context("a world with payments has a sandbox")?.process())
    }

    /// Somebody who calls the first replica of each service.
    ///
    /// # Errors
    ///
    /// No token can be signed.
    pub fn user(&self, name: &str) -> Result<User> {
        User::new(self, name, &[], 0)
    }

    /// Somebody who calls the `replica`th of each service, modulo how many there are.
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
        self.operator_at(0)
    }

    /// The same, who calls the `replica`th of each service, modulo how many there are.
    ///
    /// # Errors
    ///
    /// No token can be signed.
    pub fn operator_at(&self, replica: usize) -> Result<User> {
        User::new(self, "olga", &["operator"], replica)
    }

    /// The gateway, in a world that asked for one.
    ///
    /// # Errors
    ///
    /// It has none.
    pub fn gateway(&self) -> Result<&Gateway> {
        self.stack.gateway().context("a world without a gateway")
    }

    /// Somebody who calls through the gateway.
    ///
    /// # Errors
    ///
    /// There is no gateway, or no token can be signed.
    pub fn user_outside(&self, name: &str) -> Result<User> {
        let edge = Endpoint::from_shared(self.gateway()?.url())?.connect_lazy();
        User::through(self, name, &[], [0; 4].map(|_| edge.clone()))
    }

    /// Somebody who calls through the gateway, and knows HTTP and JSON alone.
    ///
    /// # Errors
    ///
    /// There is no gateway, or no token can be signed.
    pub fn visitor(&self, name: &str, roles: &[&str]) -> Result<Visitor> {
        let token = self.stack.signer().token(name, roles)?;
        Ok(Visitor::new(self.gateway()?.url())?.with_token(&token))
    }

    pub(crate) fn line(&self, service: &'static str, replica: usize) -> Result<Channel> {
        let replicas = self.stack.replicas(service).count().max(1);
        self.lines.get(&(service, replica % replicas)).cloned().with_context(|| format!("there is no {service}"))
    }

    /// Whether a service says that it serves (`grpc.health.v1`).
    ///
    /// # Errors
    ///
    /// It can't be asked.
    pub async fn serves(&self, service: &'static str) -> Result<bool> {
        let mut health = HealthClient::new(self.line(service, 0)?);
        let answer = health.check(HealthCheckRequest::default()).await?.into_inner();
        Ok(answer.status() == ServingStatus::Serving)
    }

    /// Waits until a service says that it serves, or that it doesn't.
    ///
    /// # Errors
    ///
    /// It doesn't in time.
    pub async fn awaits_serving(&self, service: &'static str, serving: bool) -> Result<()> {
        wait::until(&format!("{service} to serve: {serving}"), SOON, || async {
            ensure!(self.serves(service).await? == serving, "it says the contrary");
            Ok(())
        })
        .await
    }

    /// Whether a service is ready by what `/readyz` says.
    ///
    /// # Errors
    ///
    /// It can't be asked.
    pub async fn is_ready(&self, service: &str) -> Result<bool> {
        Ok(ready::http_status(self.replica(service, 0)?.ops(), "/readyz").await? == 200)
    }

    /// What `/readyz` says, word for word: status line, headers, and a reason a line.
    ///
    /// # Errors
    ///
    /// It can't be asked.
    pub async fn readiness(&self, service: &str) -> Result<String> {
        let addr = self.replica(service, 0)?.ops();
        let mut stream = TcpStream::connect(addr).await?;
        let request = format!("GET /readyz HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// Ends all, and fails if a service had to be killed, or ended with another status than 0.
    ///
    /// # Errors
    ///
    /// A service did not end by itself, or not well.
    pub async fn end(mut self) -> Result<()> {
        self.stack.stop().await?;
        let services = self.stack.services().iter().map(Service::process);
        for process in services.chain(self.stack.gateway().map(Gateway::process)) {
            let status = process.exit_status();
            // Never started, or killed by the story itself: that is as it should be.
            let well = status.is_none_or(|status| status.success() || status.code().is_none());
            ensure!(well, "{} ended with {status:?}\n{}", process.name(), process.log_tail());
        }
        self.ended = true;
        Ok(())
    }

    fn keep_logs(&self) -> Result<PathBuf> {
        let kept = tempfile::Builder::new().prefix("ticketing-story-").tempdir()?.keep();
        for log in fs::read_dir(self.stack.dir().join("logs"))? {
            let log = log?;
            fs::copy(log.path(), kept.join(log.file_name()))?;
        }
        Ok(kept)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !self.ended
            && let Ok(kept) = self.keep_logs()
        {
            say(format_args!("a story failed; its services' logs are kept in {}", kept.display()));
        }
    }
}
