//! A whole system: servers, services, keys. In: which services, how many of each, on which servers and ports. Out: all of them as
//! processes, each of which can be stopped, killed, paused and started again. It restarts nothing by itself (`supervise.rs` does).

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use tempfile::TempDir;

use crate::kafka::{Kafka, KafkaConfig};
use crate::keys::{self, Signer};
use crate::ports::{self, Port};
use crate::postgres::{self, Postgres, PostgresConfig};
use crate::process::{Process, Spec};
use crate::progress::say;
use crate::ready::Readiness;
use crate::service::{Service, ServiceSpec};
use crate::tools::Tools;

/// What Postgres listens on in `make run`, before the offset.
pub const POSTGRES_PORT: u16 = 5433;
/// What Kafka listens on in `make run`, before the offset.
pub const KAFKA_PORT: u16 = 9092;
const KAFKA_CONTROLLER_PORT: u16 = 9093;

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
    pub fn from_env() -> Result<Self> {
        let var = |name| {
            std::env::var(name).with_context(|| {
                format!("{name} is not set; run it beside servers: cargo run -p local -- with-servers -- cargo test …")
            })
        };
        Ok(Self { postgres_url: var("TEST_POSTGRES_URL")?, kafka_brokers: var("TEST_KAFKA_BROKERS")? })
    }
}

/// Says what a [`Stack`] is made of. Without more it is one for tests: the services' environment is empty but for what they are given
/// here, ports are free ones, and what it writes goes to a temporary folder.
#[derive(Debug)]
pub struct StackBuilder {
    services: Vec<(&'static ServiceSpec, usize)>,
    env: Vec<(Option<String>, String, String)>,
    inherit_env: bool,
    binaries: Option<PathBuf>,
    fixed_ports: Option<u16>,
    shared: Option<SharedServers>,
    state: Option<(PathBuf, PathBuf)>,
}

impl StackBuilder {
    /// Adds one replica of the service of this name.
    ///
    /// # Errors
    /// When there is no such service.
    pub fn service(self, name: &str) -> Result<Self> {
        self.replicas(name, 1)
    }

    /// Adds so many replicas of the service of this name.
    ///
    /// # Errors
    /// When there is no such service.
    pub fn replicas(mut self, name: &str, count: usize) -> Result<Self> {
        let spec = ServiceSpec::named(name).with_context(|| format!("there is no service {name}"))?;
        self.services.push((spec, count));
        Ok(self)
    }

    /// A variable for all replicas of a service; it wins over what the stack sets.
    pub fn env(mut self, service: &str, name: &str, value: &str) -> Self {
        self.env.push((Some(service.to_owned()), name.to_owned(), value.to_owned()));
        self
    }

    /// A variable for all services; it wins over what the stack sets.
    pub fn env_for_all(mut self, name: &str, value: &str) -> Self {
        self.env.push((None, name.to_owned(), value.to_owned()));
        self
    }

    /// Exports spans to this OTLP endpoint.
    pub fn otlp(self, endpoint: &str) -> Self {
        self.env_for_all("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    }

    /// The services see this process's environment.
    pub fn inherit_env(mut self) -> Self {
        self.inherit_env = true;
        self
    }

    /// Where the services' binaries are; else beside this process's own (`target/debug`, or `target/release`).
    pub fn binaries(mut self, dir: impl Into<PathBuf>) -> Self {
        self.binaries = Some(dir.into());
        self
    }

    /// The ports of `make run`, moved by `offset`. Replicas after the first have free ones.
    pub fn fixed_ports(mut self, offset: u16) -> Self {
        self.fixed_ports = Some(offset);
        self
    }

    /// Uses these servers, with databases and topics under a prefix of its own; else the stack has servers of its own.
    pub fn on(mut self, servers: SharedServers) -> Self {
        self.shared = Some(servers);
        self
    }

    /// Keeps its state in `dir`, and its keys in `keys`, from run to run.
    pub fn state(mut self, dir: impl Into<PathBuf>, keys: impl Into<PathBuf>) -> Self {
        self.state = Some((dir.into(), keys.into()));
        self
    }

    /// Whether the fixed ports are free.
    ///
    /// # Errors
    /// Names every one that is in use, and what wants it.
    pub fn check_ports(&self) -> Result<()> {
        let Some(offset) = self.fixed_ports else { return Ok(()) };
        let mut wanted = Vec::new();
        if self.shared.is_none() {
            wanted.extend([(POSTGRES_PORT, "Postgres"), (KAFKA_PORT, "Kafka"), (KAFKA_CONTROLLER_PORT, "Kafka")]);
        }
        wanted.extend(
            self.services.iter().flat_map(|(spec, _)| [spec.grpc_port, spec.ops_port].map(|port| (port, spec.name))),
        );
        let moved = wanted.into_iter().map(|(port, what)| Ok((moved(port, offset)?, what)));
        ports::check(&moved.collect::<Result<Vec<_>>>()?)
    }

    /// The port for what has `base` in `make run`.
    fn port(&self, base: u16) -> Result<Port> {
        match self.fixed_ports {
            Some(offset) => Ok(Port::fixed(moved(base, offset)?)),
            None => Port::free(),
        }
    }

    /// Makes what has to be there before the start: folders, keys, the servers' data. Starts nothing that stays.
    ///
    /// # Errors
    /// When a fixed port is in use (it names all that are), a binary is missing, or the servers' data can't be made.
    pub async fn create(self, tools: &Tools) -> Result<Stack> {
        self.check_ports()?;
        let (temporary, dir, keys) = match &self.state {
            Some((dir, keys)) => (None, std::path::absolute(dir)?, std::path::absolute(keys)?),
            None => {
                let temporary = temporary_dir()?;
                let dir = temporary.path().to_owned();
                (Some(temporary), dir.clone(), dir.join("keys"))
            }
        };
        let signer = Signer::load_or_create(&keys)?;
        let (own, servers, prefix) = match self.shared.clone() {
            Some(shared) => (None, shared, format!("t{}", &uuid::Uuid::new_v4().simple().to_string()[..10])),
            None => {
                let (postgres, kafka) = self.create_servers(tools, &dir).await?;
                let servers = SharedServers { postgres_url: postgres.url("postgres"), kafka_brokers: kafka.brokers() };
                (Some((postgres, kafka)), servers, String::new())
            }
        };
        let services = self.create_services(&servers, &prefix, &dir, &keys)?;
        let (postgres, kafka) = own.unzip();
        Ok(Stack { services, kafka, postgres, servers, signer, prefix, dir, temporary })
    }

    async fn create_servers(&self, tools: &Tools, dir: &Path) -> Result<(Postgres, Kafka)> {
        let postgres = PostgresConfig {
            dir: dir.join("postgres"),
            port: self.port(POSTGRES_PORT)?,
            fsync: true,
            settings: Vec::new(),
        };
        let kafka = KafkaConfig {
            dir: dir.join("kafka"),
            port: self.port(KAFKA_PORT)?,
            controller_port: self.port(KAFKA_CONTROLLER_PORT)?,
            settings: Vec::new(),
        };
        tokio::try_join!(Postgres::create(tools, postgres), Kafka::create(tools, kafka))
    }

    fn create_services(&self, servers: &SharedServers, prefix: &str, dir: &Path, keys: &Path) -> Result<Vec<Service>> {
        let binaries = match &self.binaries {
            Some(dir) => dir.clone(),
            None => beside_this_process()?,
        };
        let mut services: Vec<Service> = Vec::new();
        for spec in self.services.iter().flat_map(|(spec, count)| std::iter::repeat_n(*spec, *count)) {
            let nth = 1 + services.iter().filter(|service| service.spec == spec).count();
            let (name, ports) = if nth == 1 {
                (spec.name.to_owned(), [self.port(spec.grpc_port)?, self.port(spec.ops_port)?])
            } else {
                (format!("{}-{nth}", spec.name), [Port::free()?, Port::free()?])
            };
            let [grpc, ops] = ports.each_ref().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port.number())));
            let program = binaries.join(spec.name);
            ensure!(program.exists(), "{} is missing: cargo build -p {}", program.display(), spec.name);

            let database_url = postgres::database_url(&servers.postgres_url, &database_name(prefix, spec.name))?;
            let mut process = Spec::new(&name, program, dir.join("logs").join(format!("{name}.log")));
            process.readiness = Readiness::Http { addr: ops, path: "/readyz".to_owned() };
            process.start_limit = Duration::from_secs(60);
            process.inherit_env = self.inherit_env;
            let stack = [
                ("KAFKA_BROKERS", servers.kafka_brokers.clone()),
                ("DATABASE_URL", database_url.clone()),
                ("GRPC_ADDR", grpc.to_string()),
                ("OPS_ADDR", ops.to_string()),
                ("JWKS", keys::jwks_path(keys).display().to_string()),
                ("JWT_ISSUER", keys::ISSUER.to_owned()),
                ("JWT_AUDIENCE", keys::AUDIENCE.to_owned()),
            ];
            process.env.extend(stack.map(|(name, value)| (name.to_owned(), value)));
            if !prefix.is_empty() {
                process.env.push(("KAFKA_TOPIC_PREFIX".to_owned(), topic_prefix(prefix)));
            }
            let concerned = |service: &Option<String>| service.as_ref().is_none_or(|service| service == spec.name);
            let asked = self.env.iter().filter(|(service, ..)| concerned(service));
            process.env.extend(asked.map(|(_, name, value)| (name.clone(), value.clone())));

            let process = Process::new(process)?;
            services.push(Service { spec, process, grpc, ops, database_url, _ports: ports });
        }
        Ok(services)
    }

    /// [`StackBuilder::create`], and then [`Stack::start`].
    ///
    /// # Errors
    /// Those of both.
    pub async fn start(self, tools: &Tools) -> Result<Stack> {
        let stack = self.create(tools).await?;
        stack.start().await?;
        Ok(stack)
    }
}

/// A whole system. Dropped, it is killed; what it wrote to a temporary folder goes with it, unless a test failed.
#[derive(Debug)]
pub struct Stack {
    // In the order in which they are dropped.
    services: Vec<Service>,
    kafka: Option<Kafka>,
    postgres: Option<Postgres>,
    servers: SharedServers,
    signer: Signer,
    prefix: String,
    dir: PathBuf,
    temporary: Option<TempDir>,
}

impl Stack {
    /// Begins to describe one.
    pub fn builder() -> StackBuilder {
        StackBuilder {
            services: Vec::new(),
            env: Vec::new(),
            inherit_env: false,
            binaries: None,
            fixed_ports: None,
            shared: None,
            state: None,
        }
    }

    /// Starts all, and returns when all are ready: Postgres and Kafka at the same time; then the databases; then all services at the
    /// same time.
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
        tokio::try_join!(postgres, kafka)?;
        for service in &self.services {
            service.process().spawn()?;
        }
        for service in &self.services {
            service.process().ready().await?;
        }
        Ok(())
    }

    /// Ends all cleanly: the services at the same time, then Kafka and Postgres.
    ///
    /// # Errors
    /// When one had to be killed; the others have been ended all the same.
    pub async fn stop(&self) -> Result<()> {
        let services: Vec<_> = self.services.iter().map(Service::process).collect();
        let servers: Vec<_> = self.servers().collect();
        let first = terminate_all(&services).await;
        let then = terminate_all(&servers).await;
        first.and(then)
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

    /// All its processes: its own servers, then the services.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.servers().chain(self.services.iter().map(Service::process))
    }

    fn servers(&self) -> impl Iterator<Item = &Process> {
        self.postgres.iter().map(Postgres::process).chain(self.kafka.iter().map(Kafka::process))
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

/// The port that has `base` in `make run`, moved.
fn moved(base: u16, offset: u16) -> Result<u16> {
    base.checked_add(offset).with_context(|| format!("there is no port {base} + {offset}"))
}

fn database_name(prefix: &str, service: &str) -> String {
    if prefix.is_empty() { service.to_owned() } else { format!("{prefix}_{service}") }
}

fn topic_prefix(prefix: &str) -> String {
    if prefix.is_empty() { String::new() } else { format!("{prefix}-") }
}

fn temporary_dir() -> Result<TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let mut builder = tempfile::Builder::new();
    // Postgres runs as another user when we are root, and must find its way to its own folder in here.
    builder.prefix("ticketing-stack-").permissions(std::fs::Permissions::from_mode(0o755));
    builder.tempdir().context("making a temporary folder")
}

/// `target/debug`, for `target/debug/local` and for the tests in `target/debug/deps`.
fn beside_this_process() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let dir = program.parent().context("this program is in no folder")?;
    Ok(if dir.ends_with("deps") { dir.parent().unwrap_or(dir) } else { dir }.to_owned())
}
