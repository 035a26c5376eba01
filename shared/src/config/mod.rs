//! Settings: read once, whole, before any port opens.
//!
//! In come the program's arguments and its environment; out goes one value of the service's own type, or every fault at
//! once. Nothing else in a service reads the environment, and nothing here opens a port, a file that is no secret, or
//! a connection.
//!
//! ```
//! use std::time::Duration;
//! use shared::config::{Default, Settings, Stop, parse};
//!
//! struct Config {
//!     ttl: Duration,
//! }
//!
//! fn read(settings: &mut Settings) -> Option<Config> {
//!     // Each is read, and its fault kept, before any of them is needed.
//!     let ttl = settings.get("ORDER_TTL", Default::To("2m"), "how long an order holds stock", parse::duration);
//!     Some(Config { ttl: ttl? })
//! }
//!
//! let mut settings = Settings::new("orders", "Orders.", &[], ["--order-ttl=5s".into()], []);
//! let config = read(&mut settings);
//! let config = settings.finish(config).unwrap();
//! assert_eq!(config.ttl, Duration::from_secs(5));
//! ```

mod common;
pub mod parse;
mod secret;
mod settings;
#[cfg(test)]
mod tests;

pub use common::{
    AuthConfig, CommonConfig, DatabaseConfig, Defaults, ExportTo, JwksSource, KafkaConfig, LimitsConfig, LogFormat,
    SamplerConfig, TelemetryConfig, TracingExporter,
};
pub use secret::Secret;
pub use settings::{Command, Default, EX_USAGE, Fault, Settings, Stop};
