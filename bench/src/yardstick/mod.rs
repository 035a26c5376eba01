//! What the same machine does alone: Postgres without a broker, the broker without a database, the least that one order has
//! to wait for, and what its parts take by themselves. In: a rig. Out: figures to compare ours with.

pub(crate) mod floor;
pub(crate) mod parts;
pub(crate) mod pgbench;
pub(crate) mod producer;
pub(crate) mod spans;
