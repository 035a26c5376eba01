//! The payment provider of our own. In: a folder, a port, how slow its slow cards are. Out: a running sandbox that keeps its ledger
//! there. What it does is the business of its own crate.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::ports::Port;
use crate::process::{Process, Spec};
use crate::ready::Readiness;

/// The key that payments shows it: it takes any test key.
pub const SECRET_KEY: &str = "sk_test_local";

/// A sandbox's place and ways.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// The executable.
    pub program: PathBuf,
    /// Its folder, for the ledger. Made if missing.
    pub dir: PathBuf,
    /// Its log.
    pub log: PathBuf,
    /// Its port.
    pub port: Port,
    /// How long a charge of `pm_sandbox_slow` takes.
    pub slow: Duration,
}

/// A sandbox.
#[derive(Debug)]
pub struct Sandbox {
    process: Process,
    port: Port,
}

impl Sandbox {
    /// Makes its folder; doesn't start it.
    ///
    /// # Errors
    /// When its binary is missing, or the folder can't be made.
    pub fn create(config: SandboxConfig) -> Result<Self> {
        let SandboxConfig { program, dir, log, port, slow } = config;
        ensure!(program.exists(), "{} is missing: cargo build -p sandbox", program.display());
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let addr = port.address();
        let mut spec = Spec::new("sandbox", program, log);
        spec.readiness = Readiness::Http { addr, path: "/healthz".to_owned() };
        spec.env = vec![
            ("SANDBOX_ADDR".to_owned(), addr.to_string()),
            ("SANDBOX_LEDGER".to_owned(), ledger(&dir).display().to_string()),
            ("SANDBOX_SLOW".to_owned(), humantime::format_duration(slow).to_string()),
        ];
        Ok(Self { process: Process::new(spec)?, port })
    }

    /// Start, stop, kill, pause, resume, restart.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Where it serves.
    pub fn addr(&self) -> SocketAddr {
        self.port.address()
    }

    /// What payments gets as `STRIPE_API_BASE`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }
}

fn ledger(dir: &Path) -> PathBuf {
    dir.join("ledger.redb")
}
