//! How counters are kept: loading and saving a batch, claiming what is due, and the reads of the API.

use diesel::{
    ExpressionMethods, QueryDsl, QueryResult, Queryable, QueryableByName, Selectable, SelectableHelper,
    pg::Pg,
    sql_types::{Array, BigInt, Double, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use shared::{
    clock::Timestamp,
    command::{Rows, Store, WorkingSet, in_lock_order},
    db::{Corrupt, Fixed, Prepared, write_rows},
    grpc::Page,
    timers::{ClaimedDue, Due, Overdue, Timed},
    user::UserId,
    version::Version,
};
use uuid::Uuid;

use crate::{
    domain::{Command, Counter, CounterId, Counters},
    schema::counters,
};

/// What a batch is about.
pub struct Loaded(Rows<CounterId, Counter>);

impl WorkingSet<Counters> for Loaded {
    fn state(&self, command: &Command) -> Option<Counter> {
        self.0.get(command.counter()).cloned()
    }

    fn replace(&mut self, command: &Command, state: Option<Counter>) {
        if let Some(counter) = state {
            self.0.put(command.counter(), counter);
        }
    }
}

impl Store for Counters {
    type Loaded = Loaded;

    fn root(command: &Command) -> Uuid {
        command.counter().uuid()
    }

    fn creates_root(command: &Command) -> bool {
        matches!(command, Command::Create { .. })
    }

    async fn load(conn: &AsyncPgConnection, commands: &[&Command]) -> QueryResult<Loaded> {
        let ids = in_lock_order(commands.iter().map(|command| command.counter().uuid()));
        let rows: Vec<Row> = counters::table
            .filter(counters::id.eq_any(ids))
            .order(counters::id)
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
    let counters: Vec<Counter> = rows.into_iter().map(Counter::try_from).collect::<Result<_, _>>()?;
    Ok(Loaded(Rows::new(counters.into_iter().map(|counter| (counter.id, counter)))))
}

struct Insert;
impl Fixed for Insert {
    const SQL: &'static str = "\
        INSERT INTO counters (id, owner, title, value, \"limit\", version, resets_at) \
        SELECT unnest($1), unnest($2), unnest($3), unnest($4), unnest($5), unnest($6), unnest($7)";
}

async fn insert(conn: &AsyncPgConnection, rows: &[&Counter]) -> QueryResult<()> {
    let column = |value: fn(&Counter) -> i32| rows.iter().map(|row| value(row)).collect::<Vec<_>>();
    write_rows::<Insert, _>(conn, rows, |sql| {
        sql.bind::<Array<SqlUuid>, _>(rows.iter().map(|row| row.id.uuid()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(rows.iter().map(|row| row.owner.as_str()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(rows.iter().map(|row| &row.title).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(column(|row| row.value))
            .bind::<Array<Integer>, _>(column(|row| row.limit))
            .bind::<Array<BigInt>, _>(rows.iter().map(|row| row.version.as_i64()).collect::<Vec<_>>())
            .bind::<Array<Nullable<Timestamptz>>, _>(rows.iter().map(|row| row.resets_at).collect::<Vec<_>>())
    })
    .await
}

struct Update;
impl Fixed for Update {
    const SQL: &'static str = "\
        UPDATE counters SET value = now.value, version = now.version, resets_at = now.resets_at \
        FROM unnest($1, $2, $3, $4) AS now (id, value, version, resets_at) WHERE counters.id = now.id";
}

async fn update(conn: &AsyncPgConnection, rows: &[&Counter]) -> QueryResult<()> {
    write_rows::<Update, _>(conn, rows, |sql| {
        sql.bind::<Array<SqlUuid>, _>(rows.iter().map(|row| row.id.uuid()).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(rows.iter().map(|row| row.value).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(rows.iter().map(|row| row.version.as_i64()).collect::<Vec<_>>())
            .bind::<Array<Nullable<Timestamptz>>, _>(rows.iter().map(|row| row.resets_at).collect::<Vec<_>>())
    })
    .await
}

struct ClaimDue;
impl Fixed for ClaimDue {
    const SQL: &'static str = "\
        SELECT id, owner, title, value, \"limit\", version, resets_at FROM counters WHERE resets_at <= statement_timestamp() \
            AND resets_at > statement_timestamp() - make_interval(secs => $2) \
        ORDER BY resets_at LIMIT $1 FOR UPDATE SKIP LOCKED";
}

struct CountOverdue;
impl Fixed for CountOverdue {
    const SQL: &'static str = "\
        SELECT count(*) AS due, coalesce(extract(epoch FROM statement_timestamp() - min(at)), 0)::float8 AS late \
        FROM (SELECT resets_at AS at FROM counters WHERE resets_at <= statement_timestamp() \
            ORDER BY resets_at LIMIT $1) AS due";
}

impl Timed for Counters {
    async fn claim_due(conn: &AsyncPgConnection, limit: i64, back: f64) -> QueryResult<Option<ClaimedDue<Self>>> {
        let rows: Vec<Row> = Prepared::<ClaimDue, _>::with(|sql| sql.bind::<BigInt, _>(limit).bind::<Double, _>(back))
            .load(&mut &*conn)
            .await?;
        let due: Vec<Due<Command>> = rows
            .iter()
            .filter_map(|row| {
                let command = Command::Reset(CounterId::from_uuid(row.id));
                row.resets_at.map(|at| Due { command, at, trace: None })
            })
            .collect();
        Ok((!due.is_empty()).then(|| ClaimedDue { due, loaded: loaded(rows) }))
    }

    async fn overdue(conn: &AsyncPgConnection, limit: i64) -> QueryResult<Overdue> {
        Prepared::<CountOverdue, _>::with(|sql| sql.bind::<BigInt, _>(limit)).get_result(&mut &*conn).await
    }
}

/// One counter, if there is such.
pub(crate) async fn find(conn: &mut AsyncPgConnection, id: CounterId) -> QueryResult<Option<Counter>> {
    let rows: Vec<Row> = counters::table.filter(counters::id.eq(id.uuid())).select(Row::as_select()).load(conn).await?;
    Ok(rows.into_iter().map(Counter::try_from).next().transpose()?)
}

/// A page of counters, newest first, and one counter more if there is one; of everyone if no owner is named.
pub(crate) async fn list(
    conn: &mut AsyncPgConnection,
    owner: Option<&UserId>,
    page: &Page,
) -> QueryResult<Vec<Counter>> {
    let mut query =
        counters::table.order(counters::id.desc()).limit(page.fetch()).select(Row::as_select()).into_boxed();
    if let Some(owner) = owner {
        query = query.filter(counters::owner.eq(owner.as_str()));
    }
    if let Some(after) = page.after {
        query = query.filter(counters::id.lt(after));
    }
    let rows: Vec<Row> = query.load(conn).await?;
    Ok(rows.into_iter().map(Counter::try_from).collect::<Result<_, _>>()?)
}

#[derive(Queryable, QueryableByName, Selectable)]
#[diesel(table_name = counters, check_for_backend(Pg))]
struct Row {
    id: Uuid,
    owner: String,
    title: String,
    value: i32,
    limit: i32,
    version: i64,
    resets_at: Option<Timestamp>,
}

impl TryFrom<Row> for Counter {
    type Error = Corrupt;

    fn try_from(row: Row) -> Result<Self, Corrupt> {
        // What no code of this service has ever written.
        if row.limit < 0 {
            return Err(Corrupt("counters.limit"));
        }
        Ok(Self {
            id: CounterId::from_uuid(row.id),
            owner: UserId::from_stored(&row.owner),
            title: row.title,
            value: row.value,
            limit: row.limit,
            version: Version::from_i64(row.version),
            resets_at: row.resets_at,
        })
    }
}
