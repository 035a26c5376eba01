//! Postgres: how the engine connects, what the sessions are set to, how statements are kept prepared, and what an error
//! means. Comes in: a URL. Goes out: connections. Opens no transaction: `command` does.

mod connect;
mod error;
mod migrate;
mod pipeline;
mod pool;
mod sql;
mod sqlstate;
mod transactions;

pub use connect::{Conn, ConnectError, Database};
pub use error::{Corrupt, Fault};
pub use migrate::{MigrateError, migrate};
pub use pool::{Pool, PoolError};
pub use sql::{Bindable, Fixed, Prepared, write_rows};
pub(crate) use transactions::OldestTransaction;
