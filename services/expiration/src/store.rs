//! How timers are kept: loading and saving a batch, claiming what is due, and the reads of the API.

use diesel::{
    ExpressionMethods, QueryDsl, QueryResult, Queryable, QueryableByName, Selectable, SelectableHelper,
    pg::Pg,
    sql_types::{Array, BigInt, Double, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use shared::{
    clock::Timestamp,
    command::{Rows, Store, WorkingSet, in_lock_order},
    db::{Corrupt, Fixed, Prepared, write_rows},
    grpc::Page,
    telemetry::TraceContext,
    timers::{ClaimedDue, Due, Overdue, Timed},
};
use uuid::Uuid;

use crate::{
    domain::{Command, Expiration, Expirations, OrderId, Status},
    schema::expirations,
};

/// What a batch is about.
pub struct Loaded(Rows<OrderId, Expiration>);

impl WorkingSet<Expirations> for Loaded {
    fn state(&self, command: &Command) -> Option<Expiration> {
        self.0.get(command.order()).cloned()
    }

    fn replace(&mut self, command: &Command, state: Option<Expiration>) {
        if let Some(timer) = state {
            self.0.put(command.order(), timer);
        }
    }
}

impl Store for Expirations {
    type Loaded = Loaded;

    fn root(command: &Command) -> Uuid {
        command.order().uuid()
    }

    fn creates_root(command: &Command) -> bool {
        matches!(command, Command::Schedule { .. })
    }

    async fn load(conn: &AsyncPgConnection, commands: &[&Command]) -> QueryResult<Loaded> {
        let ids = in_lock_order(commands.iter().map(|command| command.order().uuid()));
        let rows: Vec<Row> = expirations::table
            .filter(expirations::order_id.eq_any(ids))
            .order(expirations::order_id)
            .select(Row::as_select())
            .for_update()
            .load(&mut &*conn)
            .await?;
        loaded(rows)
    }

    async fn save(conn: &AsyncPgConnection, loaded: &Loaded) -> QueryResult<()> {
        let (inserted, updated) = (loaded.0.inserted(), loaded.0.updated());
        futures_util::try_join!(insert(conn, &inserted), update(conn, &updated))?;
        Ok(())
    }
}

fn loaded(rows: Vec<Row>) -> QueryResult<Loaded> {
    let timers: Vec<Expiration> = rows.into_iter().map(Expiration::try_from).collect::<Result<_, _>>()?;
    Ok(Loaded(Rows::new(timers.into_iter().map(|timer| (timer.order, timer)))))
}

struct Insert;
impl Fixed for Insert {
    const SQL: &'static str = "\
        INSERT INTO expirations (order_id, expires_at, status, traceparent, tracestate) \
        SELECT unnest($1), unnest($2), unnest($3), unnest($4), unnest($5)";
}

async fn insert(conn: &AsyncPgConnection, rows: &[&Expiration]) -> QueryResult<()> {
    write_rows::<Insert, _>(conn, rows, |sql| {
        sql.bind::<Array<SqlUuid>, _>(rows.iter().map(|row| row.order.uuid()).collect::<Vec<_>>())
            .bind::<Array<Timestamptz>, _>(rows.iter().map(|row| row.expires_at).collect::<Vec<_>>())
            .bind::<Array<SmallInt>, _>(rows.iter().map(|row| status_code(row.status)).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(rows.iter().map(|row| row.trace.traceparent()).collect::<Vec<_>>())
            .bind::<Array<Nullable<Text>>, _>(rows.iter().map(|row| row.trace.tracestate()).collect::<Vec<_>>())
    })
    .await
}

struct Update;
impl Fixed for Update {
    const SQL: &'static str = "\
        UPDATE expirations SET status = now.status \
        FROM unnest($1, $2) AS now (order_id, status) WHERE expirations.order_id = now.order_id";
}

async fn update(conn: &AsyncPgConnection, rows: &[&Expiration]) -> QueryResult<()> {
    write_rows::<Update, _>(conn, rows, |sql| {
        sql.bind::<Array<SqlUuid>, _>(rows.iter().map(|row| row.order.uuid()).collect::<Vec<_>>())
            .bind::<Array<SmallInt>, _>(rows.iter().map(|row| status_code(row.status)).collect::<Vec<_>>())
    })
    .await
}

struct ClaimDue;
impl Fixed for ClaimDue {
    // The statement's time, which is one for all rows: with a clock that goes on meanwhile no index could be asked, and
    // every look would walk over all timers that aren't due.
    const SQL: &'static str = "\
        SELECT order_id, expires_at, status, traceparent, tracestate FROM expirations \
        WHERE status = 1 AND expires_at <= statement_timestamp() \
            AND expires_at > statement_timestamp() - make_interval(secs => $2) \
        ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED";
}

struct CountOverdue;
impl Fixed for CountOverdue {
    const SQL: &'static str = "\
        SELECT count(*) AS due, coalesce(extract(epoch FROM statement_timestamp() - min(at)), 0)::float8 AS late \
        FROM (SELECT expires_at AS at FROM expirations WHERE status = 1 AND expires_at <= statement_timestamp() \
            ORDER BY expires_at LIMIT $1) AS due";
}

impl Timed for Expirations {
    async fn claim_due(conn: &AsyncPgConnection, limit: i64, back: f64) -> QueryResult<Option<ClaimedDue<Self>>> {
        let rows: Vec<Row> = Prepared::<ClaimDue, _>::with(|sql| sql.bind::<BigInt, _>(limit).bind::<Double, _>(back))
            .load(&mut &*conn)
            .await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let due = rows.iter().map(|row| Due {
            command: Command::Fire(OrderId::from_uuid(row.order_id)),
            at: row.expires_at,
            trace: TraceContext::parse(&row.traceparent, row.tracestate.as_deref()),
        });
        Ok(Some(ClaimedDue { due: due.collect(), loaded: loaded(rows) }))
    }

    async fn overdue(conn: &AsyncPgConnection, limit: i64) -> QueryResult<Overdue> {
        Prepared::<CountOverdue, _>::with(|sql| sql.bind::<BigInt, _>(limit)).get_result(&mut &*conn).await
    }
}

/// One timer, if there is such.
pub(crate) async fn find(conn: &mut AsyncPgConnection, order: OrderId) -> QueryResult<Option<Expiration>> {
    let rows: Vec<Row> =
        expirations::table.filter(expirations::order_id.eq(order.uuid())).select(Row::as_select()).load(conn).await?;
    Ok(rows.into_iter().map(Expiration::try_from).next().transpose()?)
}

/// A page of timers, newest order first, and one timer more if there is one.
pub(crate) async fn list(
    conn: &mut AsyncPgConnection,
    status: Option<Status>,
    page: &Page,
) -> QueryResult<Vec<Expiration>> {
    let mut query = expirations::table
        .order(expirations::order_id.desc())
        .limit(page.fetch())
        .select(Row::as_select())
        .into_boxed();
    if let Some(status) = status {
        query = query.filter(expirations::status.eq(status_code(status)));
    }
    if let Some(after) = page.after {
        query = query.filter(expirations::order_id.lt(after));
    }
    let rows: Vec<Row> = query.load(conn).await?;
    Ok(rows.into_iter().map(Expiration::try_from).collect::<Result<_, _>>()?)
}

#[derive(Queryable, QueryableByName, Selectable)]
#[diesel(table_name = expirations, check_for_backend(Pg))]
struct Row {
    order_id: Uuid,
    expires_at: Timestamp,
    status: i16,
    traceparent: String,
    tracestate: Option<String>,
}

impl TryFrom<Row> for Expiration {
    type Error = Corrupt;

    fn try_from(row: Row) -> Result<Self, Corrupt> {
        Ok(Self {
            order: OrderId::from_uuid(row.order_id),
            expires_at: row.expires_at,
            status: match row.status {
                1 => Status::Scheduled,
                2 => Status::Expired,
                3 => Status::Dropped,
                _ => return Err(Corrupt("expirations.status")),
            },
            trace: TraceContext::parse(&row.traceparent, row.tracestate.as_deref())
                .ok_or(Corrupt("expirations.traceparent"))?,
        })
    }
}

fn status_code(status: Status) -> i16 {
    match status {
        Status::Scheduled => 1,
        Status::Expired => 2,
        Status::Dropped => 3,
    }
}
