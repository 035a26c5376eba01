//! The settings that every service has.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use reqwest::Url;

use super::{Default, Secret, Settings, parse};

/// The defaults that differ from service to service.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// Of `GRPC_ADDR`.
    pub grpc_address: &'static str,
    /// Of `OPS_ADDR`.
    pub ops_address: &'static str,
    /// Of `CONSUMER_PACE`: longer where nobody waits for what comes of an event.
    pub consumer_pace: &'static str,
}

/// What every service is told.
#[derive(Clone, Debug)]
pub struct CommonConfig {
    /// Where gRPC is served.
    pub grpc_address: SocketAddr,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub ops_address: SocketAddr,
    /// Its database.
    pub database: DatabaseConfig,
    /// Its broker.
    pub kafka: KafkaConfig,
    /// Whom it believes.
    pub auth: AuthConfig,
    /// What it tells operators.
    pub telemetry: TelemetryConfig,
    /// How much it takes on at once.
    pub limits: LimitsConfig,
    /// How often its database and its brokers are asked for what metrics show.
    pub sample_every: Duration,
}

/// A service's database.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    /// A Postgres URL, with its password.
    pub url: Secret,
    /// Whether serving begins with the migrations.
    pub migrate_on_start: bool,
    /// Connections for reading; writing has its own.
    pub pool: usize,
}

/// The broker, and how topics are made there.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// `host:port`, comma-separated.
    pub brokers: String,
    /// Partitions of a topic that is made.
    pub topic_partitions: i32,
    /// Replicas of a topic that is made.
    pub topic_replication: i32,
    /// What the names of all topics and groups begin with; may be empty.
    pub topic_prefix: String,
}

/// Whose tokens a service believes.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// Where the keys are.
    pub jwks: JwksSource,
    /// What a token's `iss` has to be.
    pub issuer: String,
    /// What a token's `aud` has to name.
    pub audience: String,
    /// How long a key that isn't known waits for the next look at the keys.
    pub reread_after: Duration,
}

/// Where a JSON Web Key Set is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksSource {
    /// From a file.
    File(PathBuf),
    /// Over HTTP.
    Url(Url),
}

/// Logs and traces.
#[derive(Clone, Debug)]
pub struct TelemetryConfig {
    /// What is logged, as `EnvFilter` writes it.
    pub log_filter: String,
    /// `None`: text on a terminal, JSON otherwise.
    pub log_format: Option<LogFormat>,
    /// Where spans are exported to; `None`: nowhere.
    pub export: Option<ExportTo>,
    /// Which spans are exported.
    pub sampler: SamplerConfig,
    /// Spans that may wait to be exported; what doesn't fit is lost.
    pub span_queue: usize,
}

impl TelemetryConfig {
    /// Spans that may wait unless it is said otherwise, as OpenTelemetry's specification has it.
    pub const SPAN_QUEUE: usize = 2048;

    /// The OTLP collector that spans go to, if that is where they go.
    pub fn otlp(&self) -> Option<&Url> {
        match &self.export {
            Some(ExportTo::Otlp(url)) => Some(url),
            _ => None,
        }
    }
}

/// Where spans are exported to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportTo {
    /// A collector, over OTLP/gRPC.
    Otlp(Url),
    /// A Jaeger agent, over UDP.
    #[cfg(feature = "jaeger-agent")]
    JaegerAgent {
        /// Its name or address.
        host: String,
        /// Its port.
        port: u16,
    },
}

/// By what spans are exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TracingExporter {
    /// OpenTelemetry's own.
    Otlp,
    /// The one that the cargo feature `jaeger-agent` adds.
    #[cfg(feature = "jaeger-agent")]
    JaegerAgent,
}

/// Which spans are exported, as OpenTelemetry's specification names it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplerConfig {
    /// Whether a parent settles the matter for its children.
    pub parent_based: bool,
    /// The share of the rest, 0 to 1.
    pub ratio: f64,
}

impl SamplerConfig {
    /// All traces, unless a parent says otherwise.
    pub const DEFAULT: Self = Self { parent_based: true, ratio: 1.0 };

    fn new(name: &str, ratio: f64) -> Option<Self> {
        let (parent_based, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (name.is_empty(), name),
        };
        let ratio = match root {
            "always_on" | "" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => ratio,
            _ => return None,
        };
        Some(Self { parent_based, ratio })
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

/// Bounds: what is above them waits or is refused, never piled up.
#[derive(Clone, Debug)]
pub struct LimitsConfig {
    /// Threads that do the work; the Kafka clients have their own besides.
    pub worker_threads: usize,
    /// Commands that may wait for the writer, a lane.
    pub write_queue: usize,
    /// Commands in one transaction.
    pub write_batch: usize,
    /// The least time from one transaction to the next, unless it is full.
    pub write_pace: Duration,
    /// How long a call may wait for an event that its caller has seen and this service has not heard of yet.
    pub hearing: Duration,
    /// Events that a consumer takes in one transaction, and timers that fire in one.
    pub consumer_batch: usize,
    /// The least time from one transaction of a consumer to the next.
    pub consumer_pace: Duration,
    /// Events that the relay publishes at once.
    pub relay_batch: usize,
    /// The least time from one reading of the outbox to the next.
    pub relay_pace: Duration,
    /// Streams of changes that callers may have open at once.
    pub watches: usize,
    /// Those that one user may have open at once, at one replica.
    pub watches_per_user: usize,
    /// How long NOT_SERVING is announced before the sources of work stop.
    pub shutdown_grace: Duration,
    /// How long calls that had begun then may take to end.
    pub shutdown_drain: Duration,
}

impl CommonConfig {
    /// Reads them all; `None` if any has a fault.
    pub fn read(settings: &mut Settings, defaults: &Defaults) -> Option<Self> {
        let grpc_address =
            settings.get("GRPC_ADDR", Default::To(defaults.grpc_address), "where gRPC is served", parse::address);
        let ops_address = settings.get(
            "OPS_ADDR",
            Default::To(defaults.ops_address),
            "where /livez, /readyz and /metrics are served, over HTTP",
            parse::address,
        );
        if grpc_address.is_some_and(|address| address.port() != 0) && grpc_address == ops_address {
            settings.refuse("OPS_ADDR", "must be another address than GRPC_ADDR");
        }
        let database = DatabaseConfig::read(settings);
        let kafka = KafkaConfig::read(settings);
        let auth = AuthConfig::read(settings);
        let telemetry = TelemetryConfig::read(settings);
        let limits = LimitsConfig::read(settings, defaults);
        let sample_every = settings.get(
            "METRICS_SAMPLE_EVERY",
            Default::To("5s"),
            "how often the database and the brokers are asked for what metrics show, such as lag",
            parse::duration,
        );
        Some(Self {
            grpc_address: grpc_address?,
            ops_address: ops_address?,
            database: database?,
            kafka: kafka?,
            auth: auth?,
            telemetry: telemetry?,
            limits: limits?,
            sample_every: sample_every?,
        })
    }
}

impl DatabaseConfig {
    /// Reads them; `None` if any has a fault. All that `migrate` needs, together with [`TelemetryConfig`].
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let url = settings.secret("DATABASE_URL", "this service's own database", parse::database_url);
        let migrate_on_start = settings.get(
            "MIGRATE_ON_START",
            Default::To("true"),
            "whether serving begins with the migrations",
            parse::boolean,
        );
        let pool = settings.get("DATABASE_POOL", Default::To("8"), "connections for reading", parse::number(1..=1000));
        Some(Self { url: url?, migrate_on_start: migrate_on_start?, pool: pool? })
    }
}

impl KafkaConfig {
    /// Reads them; `None` if any has a fault.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let brokers = settings.get(
            "KAFKA_BROKERS",
            Default::To("localhost:9092"),
            "the brokers: host:port, comma-separated",
            parse::brokers,
        );
        let topic_partitions = settings.get(
            "KAFKA_TOPIC_PARTITIONS",
            Default::To("6"),
            "partitions of a topic that is made: how its keys are spread stays as it is then",
            parse::number(1..=10_000),
        );
        let topic_replication = settings.get(
            "KAFKA_TOPIC_REPLICATION",
            Default::To("1"),
            "replicas of a topic that is made",
            parse::number(1..=100),
        );
        let topic_prefix = settings.get_or_empty(
            "KAFKA_TOPIC_PREFIX",
            Default::To(""),
            "what topics' and groups' names begin with, so that several installations share a broker",
            parse::topic_prefix,
        );
        Some(Self {
            brokers: brokers?,
            topic_partitions: topic_partitions?,
            topic_replication: topic_replication?,
            topic_prefix: topic_prefix?,
        })
    }
}

impl AuthConfig {
    /// Reads them; `None` if any has a fault.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let jwks = settings.get(
            "JWKS",
            Default::Required,
            "the keys that sign tokens: a JSON Web Key Set's path or http(s) URL",
            parse::jwks,
        );
        let issuer = settings.get("JWT_ISSUER", Default::Required, "what a token's iss has to be", parse::text);
        let audience = settings.get("JWT_AUDIENCE", Default::Required, "what a token's aud has to name", parse::text);
        let reread_after = settings.get(
            "JWKS_REREAD_AFTER",
            Default::To("1m"),
            "how often at most the keys are read again when a token names one that isn't known; every ten times as long they are anyway",
            parse::duration_or_none,
        );
        Some(Self { jwks: jwks?, issuer: issuer?, audience: audience?, reread_after: reread_after? })
    }
}

impl TelemetryConfig {
    /// Reads them; `None` if any has a fault. Spans are exported without TLS.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        Self::read_with(settings, parse::plaintext_url)
    }

    /// The same for a program that exports spans over TLS, too.
    pub fn read_for_tls(settings: &mut Settings) -> Option<Self> {
        Self::read_with(settings, parse::http_url)
    }

    fn read_with(settings: &mut Settings, url: fn(&str) -> Result<Url, String>) -> Option<Self> {
        let log_filter = settings.get(
            "RUST_LOG",
            Default::To("info"),
            "what is logged: a level, or target=level, comma-separated",
            parse::log_filter,
        );
        let log_format = settings.optional(
            "LOG_FORMAT",
            "text on a terminal, json otherwise",
            "how log lines look: text or json",
            parse::log_format,
        );
        let exporter = settings.get(
            "TRACING_EXPORTER",
            Default::To("otlp"),
            "how spans are exported: otlp, or jaeger-agent where the cargo feature of that name is built in",
            parse::tracing_exporter,
        );
        // OpenTelemetry's specification has an empty variable mean the same as none.
        let otlp_endpoint = settings.get_or_empty(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            Default::Unset("no export"),
            "where spans are exported to, over OTLP/gRPC; OpenTelemetry's other variables hold too",
            parse::unless_empty(url),
        );
        let otlp_traces_endpoint = settings.get_or_empty(
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            Default::Unset("OTEL_EXPORTER_OTLP_ENDPOINT"),
            "the same, of spans alone",
            parse::unless_empty(url),
        );
        let protocols = ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"].map(|name| {
            let meaning = "how spans are exported: there is one way";
            settings.get_or_empty(name, Default::To("grpc"), meaning, parse::otlp_protocol)
        });
        let sampler = settings.get_or_empty(
            "OTEL_TRACES_SAMPLER",
            Default::To("parentbased_always_on"),
            "which traces are exported: always_on, always_off, traceidratio, or one of these after parentbased_",
            parse::text,
        );
        let sampler_argument = settings.get_or_empty(
            "OTEL_TRACES_SAMPLER_ARG",
            Default::Unset("1.0"),
            "for traceidratio: the share of traces that are exported",
            parse::unless_empty(parse::ratio),
        );
        let sampler = sampler.and_then(|name| {
            let ratio = sampler_argument.flatten().unwrap_or(1.0);
            let known = SamplerConfig::new(&name, ratio);
            if known.is_none() {
                settings.refuse("OTEL_TRACES_SAMPLER", format!("must name a sampler, but is {name:?}"));
            }
            known
        });
        let span_queue = settings.get_or_empty(
            "OTEL_BSP_MAX_QUEUE_SIZE",
            Default::Unset("2048"),
            "spans that may wait to be exported; more are lost",
            parse::unless_empty(parse::number(1..=1_000_000)),
        );
        #[cfg(feature = "jaeger-agent")]
        let agent = Self::agent(settings);
        let otlp = otlp_traces_endpoint.zip(otlp_endpoint).map(|(traces, all)| traces.or(all).map(ExportTo::Otlp));
        if protocols.contains(&None) || sampler_argument.is_none() {
            return None;
        }
        let export = match exporter? {
            TracingExporter::Otlp => otlp?,
            #[cfg(feature = "jaeger-agent")]
            TracingExporter::JaegerAgent => Some(agent?),
        };
        Some(Self {
            log_filter: log_filter?,
            log_format: log_format?,
            export,
            sampler: sampler?,
            span_queue: span_queue?.unwrap_or(Self::SPAN_QUEUE),
        })
    }

    /// How lines look on a standard output that is a terminal, or none.
    pub fn log_format_on(&self, terminal: bool) -> LogFormat {
        self.log_format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json })
    }

    /// The agent's place, in the variables that its exporter reads, too.
    #[cfg(feature = "jaeger-agent")]
    fn agent(settings: &mut Settings) -> Option<ExportTo> {
        let host = settings.get(
            "OTEL_EXPORTER_JAEGER_AGENT_HOST",
            Default::To("127.0.0.1"),
            "for TRACING_EXPORTER=jaeger-agent: where the agent is",
            parse::text,
        );
        let port = settings.get(
            "OTEL_EXPORTER_JAEGER_AGENT_PORT",
            Default::To("6831"),
            "for TRACING_EXPORTER=jaeger-agent: its port for Thrift's compact protocol over UDP",
            parse::number(1..=65_535),
        );
        Some(ExportTo::JaegerAgent { host: host?, port: port? })
    }
}

impl LimitsConfig {
    /// Reads them; `None` if any has a fault.
    pub fn read(settings: &mut Settings, defaults: &Defaults) -> Option<Self> {
        let worker_threads = settings.get(
            "WORKER_THREADS",
            Default::To("1"),
            "threads that do the work: on few cores one does most",
            parse::number(1..=1024),
        );
        let write_queue = settings.get(
            "WRITE_QUEUE",
            Default::To("4096"),
            "commands that may wait for the writer; more are refused",
            parse::number(1..=1_000_000),
        );
        let write_batch =
            settings.get("WRITE_BATCH", Default::To("1000"), "commands in one transaction", parse::number(1..=100_000));
        let mut time = |name, default, of| settings.get(name, Default::To(default), of, parse::duration_or_none);
        let write_pace = time("WRITE_PACE", "1ms", "how soon one transaction of callers' commands may follow another");
        let consumer_pace =
            time("CONSUMER_PACE", defaults.consumer_pace, "how soon one transaction of a consumer may follow another");
        let relay_pace = time("RELAY_PACE", "1ms", "how soon the relay may read the outbox again");
        let hearing = time(
            "HEARING_TIMEOUT",
            "2s",
            "how long a call waits, within its deadline, for an event that its caller has seen and this service hasn't yet",
        );
        let consumer_batch = settings.get(
            "CONSUMER_BATCH",
            Default::To("1000"),
            "events that a consumer takes in one transaction, and timers that fire in one",
            parse::number(1..=100_000),
        );
        let relay_batch = settings.get(
            "RELAY_BATCH",
            Default::To("1000"),
            "events that the relay publishes at once",
            parse::number(1..=100_000),
        );
        let watches = settings.get(
            "WATCHES",
            Default::To("20000"),
            "streams of changes that callers may have open at once",
            parse::number(1..=1_000_000),
        );
        let watches_per_user = settings.get(
            "WATCHES_PER_USER",
            Default::To("10000"),
            "streams of changes that one user may have open at once, so that nobody alone holds all",
            parse::number(1..=1_000_000),
        );
        let shutdown_grace = settings.get(
            "SHUTDOWN_GRACE",
            Default::To("1s"),
            "how long NOT_SERVING is announced before the sources of work stop",
            parse::duration_or_none,
        );
        let shutdown_drain = settings.get(
            "SHUTDOWN_DRAIN",
            Default::To("10s"),
            "how long calls that have begun may then take to end",
            parse::duration_or_none,
        );
        Some(Self {
            worker_threads: worker_threads?,
            write_queue: write_queue?,
            write_batch: write_batch?,
            write_pace: write_pace?,
            hearing: hearing?,
            consumer_batch: consumer_batch?,
            consumer_pace: consumer_pace?,
            relay_batch: relay_batch?,
            relay_pace: relay_pace?,
            watches: watches?,
            watches_per_user: watches_per_user?,
            shutdown_grace: shutdown_grace?,
            shutdown_drain: shutdown_drain?,
        })
    }
}
