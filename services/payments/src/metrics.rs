//! What this service tells of payments that the provider owes an answer about, as its database knows them.

use std::sync::atomic::AtomicU64;

use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Double, SmallInt},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::{FutureExt as _, future::BoxFuture};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
};
use shared::{
    db::{Fixed, Prepared},
    ops::{Metrics, Sample},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStatus {
    status: &'static str,
}

/// Shows how many payments are not settled, and since when.
pub(crate) struct Unsettled([Series; 2]);

struct Series {
    /// As the database has it.
    code: i16,
    payments: Gauge,
    oldest: Gauge<f64, AtomicU64>,
}

struct Count;
impl Fixed for Count {
    // By the index of what the provider is to be asked about, and no more of it than is bad enough.
    const SQL: &'static str = "\
        SELECT status, count(*) AS payments, \
            extract(epoch FROM clock_timestamp() - min(updated_at))::float8 AS oldest \
        FROM (SELECT status, updated_at FROM payments WHERE status IN (1, 4) ORDER BY next_try_at LIMIT 10000) AS owed \
        GROUP BY status";
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SmallInt)]
    status: i16,
    #[diesel(sql_type = BigInt)]
    payments: i64,
    #[diesel(sql_type = Double)]
    oldest: f64,
}

impl Unsettled {
    /// Registers both families.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let payments: Family<ByStatus, Gauge> = metrics.register(
            "payments_unsettled",
            "Payments that the provider owes a definite answer about; counted up to 10,000",
            Family::default(),
        );
        let oldest: Family<ByStatus, Gauge<f64, AtomicU64>> = metrics.register(
            "payments_unsettled_oldest_seconds",
            "For how long the oldest of them has been so",
            Family::default(),
        );
        Self([(1, "pending"), (4, "refund_pending")].map(|(code, status)| {
            let by = ByStatus { status };
            Series { code, payments: payments.get_or_create_owned(&by), oldest: oldest.get_or_create_owned(&by) }
        }))
    }
}

impl Sample for Unsettled {
    fn take<'a>(&'a self, conn: &'a AsyncPgConnection) -> BoxFuture<'a, QueryResult<()>> {
        async {
            let rows: Vec<Row> = Prepared::<Count, _>::with(|sql| sql).load(&mut &*conn).await?;
            for Series { code, payments, oldest } in &self.0 {
                let found = rows.iter().find(|row| row.status == *code);
                payments.set(found.map_or(0, |row| row.payments));
                // Ages are by two clocks: never less than nothing.
                oldest.set(found.map_or(0.0, |row| row.oldest.max(0.0)));
            }
            Ok(())
        }
        .boxed()
    }
}
