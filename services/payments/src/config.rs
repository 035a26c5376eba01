//! What the service is told: the settings that every service has, and those of the payment provider.

use shared::config::{CommonConfig, Defaults, Settings};

use crate::provider::ProviderConfig;

const DEFAULTS: Defaults =
    Defaults { grpc_address: "127.0.0.1:50053", ops_address: "127.0.0.1:9103", consumer_pace: "10ms" };

/// The settings of payments.
#[derive(Clone, Debug)]
pub struct Config {
    /// What every service is told.
    pub common: CommonConfig,
    /// Where the payment provider is, and how it is treated.
    pub provider: ProviderConfig,
}

impl Config {
    /// Reads them; `None` if any has a fault.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let common = CommonConfig::read(settings, &DEFAULTS);
        let provider = ProviderConfig::read(settings);
        Some(Self { common: common?, provider: provider? })
    }
}
