//! A whole system: servers, services, keys. In: which services, how many of each, on which servers and ports. Out: all of them as
//! processes, each of which can be stopped, killed, paused and started again. It restarts nothing by itself (`supervise.rs` does).

mod builder;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use futures_util::future::join_all;

pub use self::builder::StackBuilder;
use crate::gateway::Gateway;
use crate::jaeger::Jaeger;
use crate::kafka::Kafka;
use crate::keys::Signer;
use crate::postgres::{self, Postgres};
use crate::process::Process;
use crate::progress::say;
use crate::prometheus::Prometheus;
use crate::sandbox::Sandbox;
use crate::scratch::Scratch;
use crate::service::{Service, ServiceSpec};

/// What Postgres listens on in `make run`, before the offset.
pub const POSTGRES_PORT: u16 = 5433;
/// What Kafka listens on in `make run`, before the offset.
pub const KAFKA_PORT: u16 = 9092;
const KAFKA_CONTROLLER_PORT: u16 = 9093;
/// What the sandbox listens on in `make run`, before the offset.
pub const SANDBOX_PORT: u16 = 12112;
/// What the gateway listens on in `make run`, before the offset.
pub const GATEWAY_PORT: u16 = 8080;
const GATEWAY_ADMIN_PORT: u16 = 9901;

/// Servers that run already, for stacks that share them: each stack has databases and topics of its own there.
#[derive(Debug, Clone)]
pub struct SharedServers {
    /// The URL of a Postgres superuser: `postgres://postgres@127.0.0.1:5433/postgres`.
    pub postgres_url: String,
    /// The broker's address.
    pub kafka_brokers: String,
}

impl SharedServers {
    /// Those that `local with-servers` (and so `make test`) has started.
    ///
    /// # Errors
    /// When it hasn't.
    #[allow(clippy::disallowed_methods, reason = "what `local with-servers` set, for tests; no service's setting")]
    pub fn from_env() -> Result<Self> {
        let var = |name| {
            std::env::var(name).with_context(|| {
                format!("{name} is not set; run it beside servers: cargo run -p local -- with-servers -- cargo test …")
            })
        };
        Ok(Self { postgres_url: var("TEST_POSTGRES_URL")?, kafka_brokers: var("TEST_KAFKA_BROKERS")? })
    }
}

/// Where the servers of a `make run` on this machine are, whether it runs or not: for whoever comes from outside of it.
#[derive(Debug, Clone)]
pub struct Addresses {
    postgres_url: String,
    /// The broker's address.
    pub kafka_brokers: String,
    /// The payment provider's base URL.
    pub sandbox_url: String,
}

impl Addresses {
    /// With every port moved by `offset`.
    ///
    /// # Errors
    /// When there are no such ports.
    pub fn of_make_run(offset: u16) -> Result<Self> {
        let port = |base| builder::moved(base, offset);
        Ok(Self {
            postgres_url: postgres::url(port(POSTGRES_PORT)?, "postgres"),
            kafka_brokers: format!("127.0.0.1:{}", port(KAFKA_PORT)?),
            sandbox_url: format!("http://127.0.0.1:{}", port(SANDBOX_PORT)?),
        })
    }

    /// A service's database, as the service comes to it.
    ///
    /// # Errors
    /// When there is no such service.
    pub fn database_url(&self, service: &str) -> Result<String> {
        let spec = ServiceSpec::named(service).with_context(|| format!("there is no service {service}"))?;
        postgres::database_url(&self.postgres_url, &database_name("", spec.name))
    }
}

/// A whole system. Dropped, it is killed; what it wrote to a temporary folder goes with it, unless a test failed.
#[derive(Debug)]
pub struct Stack {
    // In the order in which they are dropped.
    prometheus: Option<Prometheus>,
    gateway: Option<Gateway>,
    services: Vec<Service>,
    sandbox: Option<Sandbox>,
    jaeger: Option<Jaeger>,
    kafka: Option<Kafka>,
    postgres: Option<Postgres>,
    servers: SharedServers,
    signer: Signer,
    prefix: String,
    dir: PathBuf,
    temporary: Option<Scratch>,
}

impl Stack {
    /// Begins to describe one.
    pub fn builder() -> StackBuilder {
        StackBuilder::default()
    }

    /// Starts all, and returns when all are ready: Postgres, Kafka, the sandbox and Jaeger at the same time; then the databases; then all
    /// services at the same time; then the gateway and Prometheus.
    ///
    /// # Errors
    /// When one doesn't become ready; with the end of its log.
    pub async fn start(&self) -> Result<()> {
        let postgres = async {
            if let Some(postgres) = &self.postgres {
                postgres.process().start().await?;
            }
            for name in self.services.iter().map(Service::name).collect::<BTreeSet<_>>() {
                postgres::create_database(&self.servers.postgres_url, &database_name(&self.prefix, name)).await?;
            }
            anyhow::Ok(())
        };
        let kafka = async {
            match &self.kafka {
                Some(kafka) => kafka.process().start().await,
                None => Ok(()),
            }
        };
        let sandbox = async {
            match &self.sandbox {
                Some(sandbox) => sandbox.process().start().await,
                None => Ok(()),
            }
        };
        let jaeger = async {
            match &self.jaeger {
                Some(jaeger) => jaeger.process().start().await,
                None => Ok(()),
            }
        };
        tokio::try_join!(postgres, kafka, sandbox, jaeger)?;
        for service in &self.services {
            service.process().spawn()?;
        }
        for service in &self.services {
            service.process().ready().await?;
        }
        if let Some(gateway) = &self.gateway {
            gateway.process().start().await?;
        }
        if let Some(prometheus) = &self.prometheus {
            prometheus.process().start().await?;
        }
        Ok(())
    }

    /// Ends all cleanly: the gateway, then the services at the same time, then all servers.
    ///
    /// # Errors
    /// When one had to be killed; the others have been ended all the same.
    pub async fn stop(&self) -> Result<()> {
        let gateway: Vec<_> = self.gateway.iter().map(Gateway::process).collect();
        let services: Vec<_> = self.services.iter().map(Service::process).collect();
        let servers: Vec<_> = self.servers().collect();
        let first = terminate_all(&gateway).await;
        let second = terminate_all(&services).await;
        let last = terminate_all(&servers).await;
        first.and(second).and(last)
    }

    /// The first replica of the service of this name.
    ///
    /// # Errors
    /// When the stack has none.
    pub fn service(&self, name: &str) -> Result<&Service> {
        self.services.iter().find(|service| service.name() == name).with_context(|| format!("the stack has no {name}"))
    }

    /// All replicas of the service of this name.
    pub fn replicas<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Service> {
        self.services.iter().filter(move |service| service.name() == name)
    }

    /// All replicas of all services.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// Its own Postgres, if it has one.
    pub fn postgres(&self) -> Option<&Postgres> {
        self.postgres.as_ref()
    }

    /// Its own Kafka, if it has one.
    pub fn kafka(&self) -> Option<&Kafka> {
        self.kafka.as_ref()
    }

    /// The payment provider, if it has payments.
    pub fn sandbox(&self) -> Option<&Sandbox> {
        self.sandbox.as_ref()
    }

    /// Where its traces go, if it has a Jaeger.
    pub fn jaeger(&self) -> Option<&Jaeger> {
        self.jaeger.as_ref()
    }

    /// What asks its services for their metrics, if anything does.
    pub fn prometheus(&self) -> Option<&Prometheus> {
        self.prometheus.as_ref()
    }

    /// The gateway, if one was asked for.
    pub fn gateway(&self) -> Option<&Gateway> {
        self.gateway.as_ref()
    }

    /// The servers that it uses, its own or shared ones.
    pub fn shared_servers(&self) -> &SharedServers {
        &self.servers
    }

    /// What stands before its topics' names; empty if the servers are its own.
    pub fn topic_prefix(&self) -> String {
        topic_prefix(&self.prefix)
    }

    /// Who signs the tokens that its services accept.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Where its state and its services' logs are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All its processes: its own servers, then the services, then the gateway.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        let services = self.services.iter().map(Service::process);
        self.servers().chain(services).chain(self.gateway.iter().map(Gateway::process))
    }

    fn servers(&self) -> impl Iterator<Item = &Process> {
        let servers = self.postgres.iter().map(Postgres::process).chain(self.kafka.iter().map(Kafka::process));
        let servers = servers.chain(self.sandbox.iter().map(Sandbox::process));
        let servers = servers.chain(self.jaeger.iter().map(Jaeger::process));
        servers.chain(self.prometheus.iter().map(Prometheus::process))
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(dir) = self.temporary.take()
        {
            say(format_args!("the stack's logs are kept in {}", dir.keep().display()));
        }
    }
}

async fn terminate_all(processes: &[&Process]) -> Result<()> {
    let ends = join_all(processes.iter().map(|process| process.terminate())).await;
    ends.into_iter().try_for_each(|end| end.map(drop))
}

fn database_name(prefix: &str, service: &str) -> String {
    if prefix.is_empty() { service.to_owned() } else { format!("{prefix}_{service}") }
}

fn topic_prefix(prefix: &str) -> String {
    if prefix.is_empty() { String::new() } else { format!("{prefix}-") }
}
