//! The oldest transaction in a database's cluster: as long as it is open, dead rows of every table stay, and whatever
//! reads those gets slower and slower.

use std::sync::atomic::AtomicU64;

use diesel::{QueryResult, sql_types::Double};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::{FutureExt as _, future::BoxFuture};
use prometheus_client::metrics::gauge::Gauge;

use super::{Fixed, Prepared};
use crate::ops::{Metrics, Sample};

/// Shows how old it is.
pub(crate) struct OldestTransaction(Gauge<f64, AtomicU64>);

struct Oldest;
impl Fixed for Oldest {
    // Prepared transactions have no session, and are forgotten most easily. Autovacuum's own hold up nothing. Sessions of
    // others are shown to roles that are members of pg_read_all_stats.
    const SQL: &'static str = "\
        SELECT greatest(coalesce(extract(epoch FROM clock_timestamp() - least( \
            (SELECT min(xact_start) FROM pg_stat_activity \
                WHERE pid <> pg_backend_pid() AND backend_type <> 'autovacuum worker'), \
            (SELECT min(prepared) FROM pg_prepared_xacts))), 0), 0)::float8 AS seconds";
}

#[derive(diesel::QueryableByName)]
struct Age {
    #[diesel(sql_type = Double)]
    seconds: f64,
}

impl OldestTransaction {
    /// Registers the gauge.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let help = "Age of the oldest open transaction in the database's cluster, of those that this role may see";
        Self(metrics.register("db_oldest_transaction_seconds", help, Gauge::default()))
    }
}

impl Sample for OldestTransaction {
    fn take<'a>(&'a self, conn: &'a AsyncPgConnection) -> BoxFuture<'a, QueryResult<()>> {
        async {
            let age = Prepared::<Oldest, _>::with(|sql| sql).get_result::<Age>(&mut &*conn).await?;
            self.0.set(age.seconds);
            Ok(())
        }
        .boxed()
    }
}
