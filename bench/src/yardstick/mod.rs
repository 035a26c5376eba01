//! What the same machine does alone: Postgres without a broker, the broker without a database, and the least that one order
//! has to wait for. In: a rig. Out: figures to compare ours with.

pub(crate) mod floor;
pub(crate) mod pgbench;
pub(crate) mod producer;
