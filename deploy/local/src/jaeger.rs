//! Jaeger, which keeps traces in memory and shows them. In: its program, a folder, three ports. Out: a running Jaeger that takes spans over
//! OTLP and as an agent, and answers about them over HTTP. What it was told is gone when it ends.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::ports::Port;
use crate::process::{Process, Spec};
use crate::ready::Readiness;

/// Where its HTTP API answers in `make run`, before the offset.
pub const API_PORT: u16 = 16686;
/// Where it takes spans over OTLP (gRPC) in `make run`, before the offset.
pub const OTLP_PORT: u16 = 4317;
/// Where it takes spans as Jaeger's own clients send them (Thrift over UDP) in `make run`, before the offset.
pub const AGENT_PORT: u16 = 6831;

/// A Jaeger's place.
#[derive(Debug, Clone)]
pub struct JaegerConfig {
    /// The executable.
    pub program: PathBuf,
    /// Its folder, for its configuration. Made if missing.
    pub dir: PathBuf,
    /// Its log.
    pub log: PathBuf,
    /// Of its HTTP API.
    pub api: Port,
    /// Of OTLP.
    pub otlp: Port,
    /// Of the agent, whose protocol is UDP.
    pub agent: Port,
}

/// A Jaeger.
#[derive(Debug)]
pub struct Jaeger {
    process: Process,
    api: Port,
    otlp: Port,
    agent: Port,
}

impl Jaeger {
    /// Writes its configuration; doesn't start it.
    ///
    /// # Errors
    /// When the folder or the file can't be made.
    pub fn create(config: JaegerConfig) -> Result<Self> {
        let JaegerConfig { program, dir, log, api, otlp, agent } = config;
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let file = dir.join("jaeger.yaml");
        let [at_api, at_otlp, at_agent] = [&api, &otlp, &agent].map(Port::address);
        let text = configuration(at_api, at_otlp, at_agent);
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        let mut spec = Spec::new("Jaeger", program, log).args(["--config".into(), file.into_os_string()]);
        // Its API answers before it takes spans; this doesn't.
        spec.readiness = Readiness::Http { addr: at_agent, path: "/status".to_owned() };
        Ok(Self { process: Process::new(spec)?, api, otlp, agent })
    }

    /// Start, stop, kill, pause, resume, restart.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Where it answers, over HTTP.
    pub fn url(&self) -> String {
        format!("http://{}", self.api.address())
    }

    /// What services get as `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn otlp(&self) -> String {
        format!("http://{}", self.otlp.address())
    }

    /// Where an agent's clients send spans, over UDP.
    pub fn agent(&self) -> SocketAddr {
        self.agent.address()
    }
}

/// What is needed and no more: by itself it opens a dozen further ports. Its API over gRPC can't be left out, and has a port that the
/// kernel chooses. Of traces it keeps the last ten thousand, some hundred megabytes of them. The agent's port is one of UDP, so the same
/// number of TCP is free to say how it is.
///
/// It doesn't trace the queries it answers: those spans would go to OTLP's usual port, whoever listens there, and where nobody does, its
/// end would wait for them, ten seconds a batch.
fn configuration(api: SocketAddr, otlp: SocketAddr, agent: SocketAddr) -> String {
    format!(
        "\
service:
  extensions: [jaeger_storage, jaeger_query, healthcheckv2]
  pipelines:
    traces:
      receivers: [otlp, jaeger]
      exporters: [jaeger_storage_exporter]
  telemetry:
    metrics:
      level: none
    logs:
      level: info
extensions:
  jaeger_storage:
    backends:
      memory:
        memory:
          max_traces: 10000
  jaeger_query:
    storage:
      traces: memory
    http:
      endpoint: {api}
    grpc:
      endpoint: 127.0.0.1:0
    enable_tracing: false
  healthcheckv2:
    use_v2: true
    http:
      endpoint: {agent}
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: {otlp}
  jaeger:
    protocols:
      thrift_compact:
        endpoint: {agent}
exporters:
  jaeger_storage_exporter:
    trace_storage: memory
"
    )
}
