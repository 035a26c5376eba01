//! What a stack is made of. In: services, replicas, variables, servers, ports. Out: a [`Stack`] with everything in place to be started.
//! It starts nothing that stays.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{
    GATEWAY_ADMIN_PORT, GATEWAY_PORT, KAFKA_CONTROLLER_PORT, KAFKA_PORT, POSTGRES_PORT, SANDBOX_PORT, SharedServers,
    Stack, database_name, topic_prefix,
};
use crate::gateway::{Gateway, GatewayConfig};
use crate::jaeger::{self, Jaeger, JaegerConfig};
use crate::kafka::{Kafka, KafkaConfig};
use crate::keys::{self, Signer};
use crate::ports::{self, Port};
use crate::postgres::{self, Postgres, PostgresConfig};
use crate::process::{Process, Spec};
use crate::prometheus::{self, Prometheus, PrometheusConfig};
use crate::ready::Readiness;
use crate::sandbox::{self, Sandbox, SandboxConfig};
use crate::scratch::Scratch;
use crate::service::{Service, ServiceSpec};
use crate::tools::Tools;

/// The one service that has business with the payment provider.
const PAYMENTS: &str = "payments";
/// What the gateway is called where variables are for it.
const GATEWAY: &str = "gateway";
/// What orders does unless it is told otherwise.
const DEFAULT_ORDER_TTL: &str = "2m";

/// Says what a [`Stack`] is made of. Without more it is one for tests: the services' environment is empty but for what they are given
/// here, ports are free ones, and what it writes goes to a temporary folder.
#[derive(Debug, Default)]
pub struct StackBuilder {
    services: Vec<(&'static ServiceSpec, usize)>,
    gateway: bool,
    env: Vec<Variable>,
    inherit_env: bool,
    binaries: Option<PathBuf>,
    fixed_ports: Option<FixedPorts>,
    shared: Option<SharedServers>,
    jaeger: Option<PathBuf>,
    prometheus: Option<(PathBuf, u32)>,
    state: Option<(PathBuf, PathBuf)>,
}

/// A variable that was asked for.
#[derive(Debug)]
struct Variable {
    /// The service that gets it, or the gateway; all of them, if none is named.
    service: Option<String>,
    name: String,
    value: String,
}

/// What services are put among, and under which prefix they have databases and topics there.
struct Surroundings<'a> {
    servers: &'a SharedServers,
    sandbox: Option<&'a Sandbox>,
    jaeger: Option<&'a Jaeger>,
    prefix: &'a str,
    dir: &'a Path,
    keys: &'a Path,
}

/// The ports of `make run`.
#[derive(Debug)]
struct FixedPorts {
    offset: u16,
    /// By their numbers in `make run`, once they are taken.
    reserved: HashMap<u16, Port>,
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

    /// Puts a gateway in front of all services.
    pub fn gateway(mut self) -> Self {
        self.gateway = true;
        self
    }

    /// A variable for all replicas of a service, or for the `gateway`; it wins over what the stack sets.
    pub fn env(mut self, service: &str, name: &str, value: &str) -> Self {
        self.env.push(Variable { service: Some(service.to_owned()), name: name.to_owned(), value: value.to_owned() });
        self
    }

    /// A variable for all services and the gateway; it wins over what the stack sets.
    pub fn env_for_all(mut self, name: &str, value: &str) -> Self {
        self.env.push(Variable { service: None, name: name.to_owned(), value: value.to_owned() });
        self
    }

    /// Exports spans to this OTLP endpoint.
    pub fn otlp(self, endpoint: &str) -> Self {
        self.env_for_all("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    }

    /// Has a Jaeger of its own, this program, and exports spans to it.
    pub fn jaeger(mut self, program: impl Into<PathBuf>) -> Self {
        self.jaeger = Some(program.into());
        self
    }

    /// Has a Prometheus of its own, this program, to which everything happens so many times as fast as in real life.
    pub fn prometheus(mut self, program: impl Into<PathBuf>, haste: u32) -> Self {
        self.prometheus = Some((program.into(), haste));
        self
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
        self.fixed_ports = Some(FixedPorts { offset, reserved: HashMap::new() });
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

    /// Takes the fixed ports now, so that nothing else can have them until the stack is dropped. Else they are taken when it is made.
    ///
    /// # Errors
    /// Names every one that is in use, what wants it, and who has it.
    pub async fn reserve_ports(&mut self) -> Result<()> {
        let has_payments = self.has_payments();
        let Some(fixed) = self.fixed_ports.as_mut().filter(|fixed| fixed.reserved.is_empty()) else { return Ok(()) };
        let mut wanted = Vec::new();
        if self.shared.is_none() {
            wanted.extend([(POSTGRES_PORT, "Postgres"), (KAFKA_PORT, "Kafka"), (KAFKA_CONTROLLER_PORT, "Kafka")]);
        }
        if has_payments {
            wanted.push((SANDBOX_PORT, "the sandbox"));
        }
        if self.jaeger.is_some() {
            wanted.extend([jaeger::API_PORT, jaeger::OTLP_PORT, jaeger::AGENT_PORT].map(|port| (port, "Jaeger")));
        }
        if self.prometheus.is_some() {
            wanted.push((prometheus::PORT, "Prometheus"));
        }
        if self.gateway {
            wanted.extend([(GATEWAY_PORT, "the gateway"), (GATEWAY_ADMIN_PORT, "the gateway")]);
        }
        wanted.extend(
            self.services.iter().flat_map(|(spec, _)| [spec.grpc_port, spec.ops_port].map(|port| (port, spec.name))),
        );
        let moved = wanted.iter().map(|(base, what)| Ok((moved(*base, fixed.offset)?, *what)));
        let ports = ports::reserve(&moved.collect::<Result<Vec<_>>>()?).await?;
        fixed.reserved = wanted.into_iter().map(|(base, _)| base).zip(ports).collect();
        Ok(())
    }

    fn has_payments(&self) -> bool {
        self.services.iter().any(|(spec, _)| spec.name == PAYMENTS)
    }

    /// The port for what has `base` in `make run`.
    fn port(&self, base: u16) -> Result<Port> {
        match &self.fixed_ports {
            Some(fixed) => fixed.reserved.get(&base).cloned().with_context(|| format!("port {base} wasn't reserved")),
            None => Port::free(),
        }
    }

    /// Makes what has to be there before the start: folders, keys, the servers' data. Starts nothing that stays.
    ///
    /// # Errors
    /// When a fixed port is in use (it names all that are), a binary is missing, or the servers' data can't be made.
    pub async fn create(mut self, tools: &Tools) -> Result<Stack> {
        self.reserve_ports().await?;
        let (temporary, dir, keys) = match &self.state {
            Some((dir, keys)) => (None, std::path::absolute(dir)?, std::path::absolute(keys)?),
            None => {
                let temporary = Scratch::new()?;
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
        let sandbox = self.has_payments().then(|| self.create_sandbox(&dir)).transpose()?;
        let jaeger = self.jaeger.as_ref().map(|program| self.create_jaeger(program, &dir)).transpose()?;
        let services = self.create_services(&Surroundings {
            servers: &servers,
            sandbox: sandbox.as_ref(),
            jaeger: jaeger.as_ref(),
            prefix: &prefix,
            dir: &dir,
            keys: &keys,
        })?;
        let gateway = match self.gateway {
            true => Some(self.create_gateway(tools, &services, jaeger.as_ref(), &dir, &keys).await?),
            false => None,
        };
        let prometheus =
            self.prometheus.as_ref().map(|(program, haste)| self.create_prometheus(program, *haste, &services, &dir));
        let prometheus = prometheus.transpose()?;
        let (postgres, kafka) = own.unzip();
        Ok(Stack {
            prometheus,
            gateway,
            services,
            sandbox,
            jaeger,
            kafka,
            postgres,
            servers,
            signer,
            prefix,
            dir,
            temporary,
        })
    }

    fn create_sandbox(&self, dir: &Path) -> Result<Sandbox> {
        let time =
            |name: &str, text: String| humantime::parse_duration(&text).with_context(|| format!("{name} is {text}"));
        let slow = match self.setting("sandbox", "SANDBOX_SLOW") {
            Some(slow) => time("SANDBOX_SLOW", slow)?,
            // A slow charge comes to its end when its order has ended.
            None => {
                let ttl = self.setting("orders", "ORDER_TTL").unwrap_or_else(|| DEFAULT_ORDER_TTL.to_owned());
                time("ORDER_TTL", ttl)? + Duration::from_secs(2)
            }
        };
        Sandbox::create(SandboxConfig {
            program: self.program("sandbox")?,
            dir: dir.join("sandbox"),
            log: dir.join("logs/sandbox.log"),
            port: self.port(SANDBOX_PORT)?,
            slow,
        })
    }

    fn create_jaeger(&self, program: &Path, dir: &Path) -> Result<Jaeger> {
        Jaeger::create(JaegerConfig {
            program: program.to_owned(),
            dir: dir.join("jaeger"),
            log: dir.join("logs/jaeger.log"),
            api: self.port(jaeger::API_PORT)?,
            otlp: self.port(jaeger::OTLP_PORT)?,
            agent: self.port(jaeger::AGENT_PORT)?,
        })
    }

    fn create_prometheus(&self, program: &Path, haste: u32, services: &[Service], dir: &Path) -> Result<Prometheus> {
        Prometheus::create(PrometheusConfig {
            program: program.to_owned(),
            dir: dir.join("prometheus"),
            log: dir.join("logs/prometheus.log"),
            port: self.port(prometheus::PORT)?,
            targets: services.iter().map(|service| (service.name(), service.ops())).collect(),
            haste,
        })
    }

    async fn create_gateway(
        &self,
        tools: &Tools,
        services: &[Service],
        jaeger: Option<&Jaeger>,
        dir: &Path,
        keys: &Path,
    ) -> Result<Gateway> {
        let mut env = keys_env(keys).to_vec();
        env.extend(jaeger.map(|jaeger| ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), jaeger.otlp())));
        env.extend(self.asked(GATEWAY).map(|asked| (asked.name.clone(), asked.value.clone())));
        Gateway::create(GatewayConfig {
            program: self.program(GATEWAY)?,
            envoy: tools.envoy().await?,
            dir: dir.join(GATEWAY),
            log: dir.join("logs/gateway.log"),
            port: self.port(GATEWAY_PORT)?,
            admin_port: self.port(GATEWAY_ADMIN_PORT)?,
            upstreams: services.iter().map(|service| (service.name(), service.grpc())).collect(),
            inherit_env: self.inherit_env,
            env,
        })
    }

    /// What a service gets as this variable, if it gets any.
    #[allow(clippy::disallowed_methods, reason = "what the services inherit; no setting of ours")]
    fn setting(&self, service: &str, name: &str) -> Option<String> {
        let asked = self.asked(service).filter(|asked| asked.name == name).map(|asked| asked.value.clone()).last();
        asked.or_else(|| self.inherit_env.then(|| std::env::var(name).ok()).flatten())
    }

    /// The variables that were asked for, for this service.
    fn asked<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a Variable> {
        self.env.iter().filter(move |asked| asked.service.as_ref().is_none_or(|of| of == service))
    }

    fn program(&self, name: &str) -> Result<PathBuf> {
        Ok(match &self.binaries {
            Some(dir) => dir.join(name),
            None => beside_this_process()?.join(name),
        })
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

    fn create_services(&self, surroundings: &Surroundings<'_>) -> Result<Vec<Service>> {
        let Surroundings { servers, prefix, dir, .. } = surroundings;
        let mut services: Vec<Service> = Vec::new();
        for spec in self.services.iter().flat_map(|(spec, count)| std::iter::repeat_n(*spec, *count)) {
            let nth = 1 + services.iter().filter(|service| service.spec == spec).count();
            let (name, ports) = if nth == 1 {
                (spec.name.to_owned(), [self.port(spec.grpc_port)?, self.port(spec.ops_port)?])
            } else {
                (format!("{}-{nth}", spec.name), [Port::free()?, Port::free()?])
            };
            let [grpc, ops] = ports.each_ref().map(Port::address);
            let program = self.program(spec.name)?;
            ensure!(program.exists(), "{} is missing: cargo build -p {}", program.display(), spec.name);

            let database_url = postgres::database_url(&servers.postgres_url, &database_name(prefix, spec.name))?;
            let mut process = Spec::new(&name, program, dir.join("logs").join(format!("{name}.log")));
            process.readiness = Readiness::Http { addr: ops, path: "/readyz".to_owned() };
            process.inherit_env = self.inherit_env;
            process.env.push(("GRPC_ADDR".to_owned(), grpc.to_string()));
            process.env.push(("OPS_ADDR".to_owned(), ops.to_string()));
            process.env.extend(self.environment(spec, &database_url, surroundings));

            let process = Process::new(process)?;
            services.push(Service { spec, process, grpc, ops, database_url, _ports: ports });
        }
        Ok(services)
    }

    /// The variables by which every replica of a service finds the others. What was asked for comes last, and wins.
    fn environment(
        &self,
        spec: &ServiceSpec,
        database_url: &str,
        surroundings: &Surroundings<'_>,
    ) -> Vec<(String, String)> {
        let Surroundings { servers, sandbox, jaeger, prefix, keys, .. } = *surroundings;
        let mut env = vec![
            ("KAFKA_BROKERS".to_owned(), servers.kafka_brokers.clone()),
            ("DATABASE_URL".to_owned(), database_url.to_owned()),
        ];
        env.extend(keys_env(keys));
        if !prefix.is_empty() {
            env.push(("KAFKA_TOPIC_PREFIX".to_owned(), topic_prefix(prefix)));
        }
        // Whoever names another provider means it.
        let elsewhere = || PROVIDER.iter().any(|name| self.setting(PAYMENTS, name).is_some());
        if let Some(sandbox) = sandbox.filter(|_| spec.name == PAYMENTS && !elsewhere()) {
            env.push(("STRIPE_API_BASE".to_owned(), sandbox.url()));
            env.push(("STRIPE_SECRET_KEY".to_owned(), sandbox::SECRET_KEY.to_owned()));
        }
        let to_jaeger = jaeger.iter().flat_map(|jaeger| {
            let agent = jaeger.agent().port().to_string();
            [("OTEL_EXPORTER_OTLP_ENDPOINT", jaeger.otlp()), ("OTEL_EXPORTER_JAEGER_AGENT_PORT", agent)]
        });
        // Whoever names another collector means it, be it only in what the services inherit.
        let unset = to_jaeger.filter(|(name, _)| self.setting(spec.name, name).is_none());
        env.extend(unset.map(|(name, value)| (name.to_owned(), value)));
        env.extend(self.asked(spec.name).map(|asked| (asked.name.clone(), asked.value.clone())));
        env
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

/// What says who the payment provider is.
const PROVIDER: [&str; 3] = ["STRIPE_API_BASE", "STRIPE_SECRET_KEY", "STRIPE_SECRET_KEY_FILE"];

/// How whoever checks tokens is told of the keys in this folder.
fn keys_env(keys: &Path) -> [(String, String); 3] {
    [
        ("JWKS", keys::jwks_path(keys).display().to_string()),
        ("JWT_ISSUER", keys::ISSUER.to_owned()),
        ("JWT_AUDIENCE", keys::AUDIENCE.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}

/// The port that has `base` in `make run`, moved.
pub(super) fn moved(base: u16, offset: u16) -> Result<u16> {
    base.checked_add(offset).with_context(|| format!("there is no port {base} + {offset}"))
}

/// `target/debug`, for `target/debug/local` and for the tests in `target/debug/deps`.
fn beside_this_process() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let dir = program.parent().context("this program is in no folder")?;
    Ok(if dir.ends_with("deps") { dir.parent().unwrap_or(dir) } else { dir }.to_owned())
}
