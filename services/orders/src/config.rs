//! What the service is told: the settings that every service has, and how long an order holds stock.

use std::time::Duration;

use shared::config::{CommonConfig, Default, Defaults, Settings, parse};

const DEFAULTS: Defaults =
    Defaults { grpc_address: "127.0.0.1:50052", ops_address: "127.0.0.1:9102", consumer_pace: "1ms" };

/// The settings of orders.
#[derive(Clone, Debug)]
pub struct Config {
    /// What every service is told.
    pub common: CommonConfig,
    /// How long an order waits to be paid.
    pub order_ttl: Duration,
}

impl Config {
    /// Reads them; `None` if any has a fault.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let common = CommonConfig::read(settings, &DEFAULTS);
        let order_ttl = settings.get(
            "ORDER_TTL",
            Default::To("2m"),
            "how long an order holds stock until it is paid: 2m, 1h 30s",
            parse::duration,
        );
        Some(Self { common: common?, order_ttl: order_ttl? })
    }
}
