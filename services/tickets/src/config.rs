//! What the service is told: the settings that every service has, and none of its own.

use shared::config::{CommonConfig, Defaults, Settings};

const DEFAULTS: Defaults =
    Defaults { grpc_address: "127.0.0.1:50051", ops_address: "127.0.0.1:9101", consumer_pace: "1ms" };

/// The settings of tickets.
#[derive(Clone, Debug)]
pub struct Config {
    /// What every service is told.
    pub common: CommonConfig,
}

impl Config {
    /// Reads them; `None` if any has a fault.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        Some(Self { common: CommonConfig::read(settings, &DEFAULTS)? })
    }
}
