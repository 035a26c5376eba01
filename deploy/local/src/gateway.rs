//! The edge. In: where the services are, a folder, two ports. Out: a running gateway in front of them. What it does is the business
//! of its own crate.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::ports::Port;
use crate::process::{Process, Spec};
use crate::ready::Readiness;

/// A gateway's place and ways.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// The executable.
    pub program: PathBuf,
    /// The executable that it becomes.
    pub envoy: PathBuf,
    /// Its folder, for Envoy's configuration. Made if missing.
    pub dir: PathBuf,
    /// Its log.
    pub log: PathBuf,
    /// The port for clients.
    pub port: Port,
    /// The port of Envoy's own pages.
    pub admin_port: Port,
    /// Each replica of each service: its name, and where its gRPC server listens.
    pub upstreams: Vec<(&'static str, SocketAddr)>,
    /// Whether it sees this process's environment.
    pub inherit_env: bool,
    /// What else it is told; it wins over ours.
    pub env: Vec<(String, String)>,
}

/// A gateway.
#[derive(Debug)]
pub struct Gateway {
    process: Process,
    port: Port,
    admin_port: Port,
}

impl Gateway {
    /// Makes its folder; doesn't start it.
    ///
    /// # Errors
    /// When its binary is missing, or the folder can't be made.
    pub fn create(config: GatewayConfig) -> Result<Self> {
        let GatewayConfig { program, envoy, dir, log, port, admin_port, upstreams, inherit_env, env } = config;
        ensure!(program.exists(), "{} is missing: cargo build -p gateway", program.display());
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let upstreams: Vec<_> = upstreams.iter().map(|(name, addr)| format!("{name}={addr}")).collect();
        let mut spec = Spec::new("gateway", program, log);
        spec.readiness = Readiness::Http { addr: admin_port.address(), path: "/ready".to_owned() };
        spec.inherit_env = inherit_env;
        spec.env = vec![
            ("GATEWAY_ADDR".to_owned(), port.address().to_string()),
            ("GATEWAY_ADMIN_ADDR".to_owned(), admin_port.address().to_string()),
            ("ENVOY".to_owned(), envoy.display().to_string()),
            ("ENVOY_BOOTSTRAP".to_owned(), dir.join("envoy.json").display().to_string()),
            ("UPSTREAMS".to_owned(), upstreams.join(",")),
        ];
        spec.env.extend(env);
        Ok(Self { process: Process::new(spec)?, port, admin_port })
    }

    /// Start, stop, kill, pause, resume, restart.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Where clients come in: gRPC, gRPC-Web and JSON.
    pub fn addr(&self) -> SocketAddr {
        self.port.address()
    }

    /// The same as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// Where Envoy's own pages are: `/ready`, `/stats`, `/config_dump`.
    pub fn admin(&self) -> SocketAddr {
        self.admin_port.address()
    }
}
