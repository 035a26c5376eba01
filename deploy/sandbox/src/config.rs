//! What the sandbox is told.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use shared::config::{Default, Settings, TelemetryConfig, parse};

/// The settings of the sandbox.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it serves.
    pub address: SocketAddr,
    /// The ledger's file.
    pub ledger: PathBuf,
    /// How long `pm_sandbox_slow` takes.
    pub slow: Duration,
    /// What it tells operators.
    pub telemetry: TelemetryConfig,
}

impl Config {
    /// Reads them; `None` if any has a fault.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let address = settings.get(
            "SANDBOX_ADDR",
            Default::To("127.0.0.1:12112"),
            "where Stripe's API and the sandbox's own are served, over HTTP",
            parse::address,
        );
        let ledger = settings.get(
            "SANDBOX_LEDGER",
            Default::Required,
            "the ledger's file, made if it is missing; its folder must be there",
            |text| Ok(PathBuf::from(text)),
        );
        let slow = settings.get(
            "SANDBOX_SLOW",
            Default::To("2m2s"),
            "how long a charge of pm_sandbox_slow takes, the money being taken at the end",
            parse::duration,
        );
        let telemetry = TelemetryConfig::read(settings);
        Some(Self { address: address?, ledger: ledger?, slow: slow?, telemetry: telemetry? })
    }
}
