//! How accounts and their payments are kept: loading and saving a batch, claiming what the provider is to be asked
//! again, and the reads of the API.

use std::collections::HashMap;

use diesel::{
    ExpressionMethods, JoinOnDsl, QueryDsl, QueryResult, Queryable, QueryableByName, Selectable, SelectableHelper,
    pg::Pg,
    sql_types::{Array, BigInt, Double, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use shared::{
    clock::{self, Timestamp},
    command::{Rows, Store, WorkingSet, in_lock_order},
    db::{Corrupt, Fixed, Prepared, write_rows},
    grpc::Page,
    money::Money,
    telemetry::TraceContext,
    timers::{ClaimedDue, Due, Overdue, Timed},
    user::UserId,
    version::Version,
};
use uuid::Uuid;

use crate::{
    domain::{Account, Calls, Command, Order, OrderId, OrderStatus, Payment, PaymentId, Payments, Status},
    schema::{accounts, payments},
};

/// What a batch is about: accounts, each with all its payments.
pub struct Loaded {
    accounts: Rows<OrderId, Account>,
    /// The accounts as they are stored: what didn't change is not written.
    stored: HashMap<OrderId, Account>,
}

impl WorkingSet<Payments> for Loaded {
    fn state(&self, command: &Command) -> Option<Account> {
        self.accounts.get(command.order()).cloned()
    }

    fn replace(&mut self, command: &Command, state: Option<Account>) {
        if let Some(account) = state {
            self.accounts.put(command.order(), account);
        }
    }
}

impl Store for Payments {
    type Loaded = Loaded;

    fn root(command: &Command) -> Uuid {
        command.order().uuid()
    }

    fn begins(command: &Command) -> bool {
        matches!(command, Command::See(order) if order.version == Version::FIRST)
    }

    async fn load(conn: &AsyncPgConnection, commands: &[&Command]) -> QueryResult<Loaded> {
        let ids = in_lock_order(commands.iter().map(|command| command.order().uuid()));
        let roots = accounts::table
            .filter(accounts::order_id.eq_any(&ids))
            .order(accounts::order_id)
            .select(AccountRow::as_select())
            .for_update()
            .load(&mut &*conn);
        let children = payments::table
            .filter(payments::order_id.eq_any(&ids))
            .order(payments::id)
            .select(PaymentRow::as_select())
            .load(&mut &*conn);
        let (roots, children) = futures_util::try_join!(roots, children)?;
        let mut stored: HashMap<OrderId, Account> = HashMap::with_capacity(roots.len());
        for root in roots {
            let account = Account::try_from(root)?;
            stored.insert(account.order.id, account);
        }
        for child in children {
            let order = OrderId::from_uuid(child.order_id);
            let payment = Payment::try_from(child)?;
            if let Some(account) = stored.get_mut(&order) {
                account.payments.push(payment);
            }
        }
        Ok(Loaded { accounts: Rows::new(stored.clone()), stored })
    }

    async fn save(conn: &AsyncPgConnection, loaded: &Loaded) -> QueryResult<()> {
        let (made, known) = (loaded.accounts.inserted(), loaded.accounts.updated());
        let before = |account: &Account| loaded.stored.get(&account.order.id);
        let heard: Vec<&Account> =
            known.iter().copied().filter(|now| before(now).is_none_or(|before| before.order != now.order)).collect();
        let (mut opened, mut changed) = (Vec::new(), Vec::new());
        for account in made.iter().chain(&known) {
            for payment in &account.payments {
                match before(account).and_then(|before| before.payment(payment.id)) {
                    None => opened.push((&account.order, payment)),
                    Some(before) if before != payment => changed.push((&account.order, payment)),
                    Some(_) => {}
                }
            }
        }
        // Updates first: a payment that fails in this batch has to leave `payments_one_an_order` before the next one enters it.
        futures_util::try_join!(
            insert_accounts(conn, &made),
            update_accounts(conn, &heard),
            update_payments(conn, &changed),
            insert_payments(conn, &opened)
        )?;
        Ok(())
    }
}

struct InsertAccounts;
impl Fixed for InsertAccounts {
    const SQL: &'static str = "\
        INSERT INTO accounts (order_id, user_id, currency, total, order_status, order_version, traceparent, \
            tracestate) \
        SELECT unnest($1), unnest($2), unnest($3), unnest($4), unnest($5), unnest($6), unnest($7), \
            unnest($8)";
}

async fn insert_accounts(conn: &AsyncPgConnection, rows: &[&Account]) -> QueryResult<()> {
    let orders = || rows.iter().map(|row| &row.order);
    write_rows::<InsertAccounts, _>(conn, rows, |sql| {
        sql.bind::<Array<SqlUuid>, _>(orders().map(|order| order.id.uuid()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(orders().map(|order| order.user.as_str()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(orders().map(|order| order.total.currency_code()).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(orders().map(|order| order.total.minor_units()).collect::<Vec<_>>())
            .bind::<Array<SmallInt>, _>(orders().map(|order| order_code(order.status)).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(orders().map(|order| order.version.as_i64()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(orders().map(|order| order.trace.traceparent()).collect::<Vec<_>>())
            .bind::<Array<Nullable<Text>>, _>(orders().map(|order| order.trace.tracestate()).collect::<Vec<_>>())
    })
    .await
}

struct UpdateAccounts;
impl Fixed for UpdateAccounts {
    const SQL: &'static str = "\
        UPDATE accounts SET order_status = now.order_status, order_version = now.order_version \
        FROM unnest($1, $2, $3) AS now (order_id, order_status, order_version) \
        WHERE accounts.order_id = now.order_id";
}

async fn update_accounts(conn: &AsyncPgConnection, rows: &[&Account]) -> QueryResult<()> {
    let orders = || rows.iter().map(|row| &row.order);
    write_rows::<UpdateAccounts, _>(conn, rows, |sql| {
        sql.bind::<Array<SqlUuid>, _>(orders().map(|order| order.id.uuid()).collect::<Vec<_>>())
            .bind::<Array<SmallInt>, _>(orders().map(|order| order_code(order.status)).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(orders().map(|order| order.version.as_i64()).collect::<Vec<_>>())
    })
    .await
}

struct InsertPayments;
impl Fixed for InsertPayments {
    const SQL: &'static str = "\
        INSERT INTO payments (id, order_id, user_id, method, status, failure_reason, provider, provider_reference, \
            tries, key_number, keyed_at, looking_since, next_try_at, version, created_at, updated_at) \
        SELECT unnest($1), unnest($2), unnest($3), unnest($4), unnest($5), unnest($6), unnest($7), \
            unnest($8), unnest($9), unnest($10), unnest($11), unnest($12), unnest($13), unnest($14), \
            unnest($15), unnest($16)";
}

async fn insert_payments(conn: &AsyncPgConnection, rows: &[(&Order, &Payment)]) -> QueryResult<()> {
    write_rows::<InsertPayments, _>(conn, rows, |sql| {
        sql.bind::<Array<SqlUuid>, _>(rows.iter().map(|(_, row)| row.id.uuid()).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(rows.iter().map(|(order, _)| order.id.uuid()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(rows.iter().map(|(order, _)| order.user.as_str()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(rows.iter().map(|(_, row)| &row.method).collect::<Vec<_>>())
            .bind::<Array<SmallInt>, _>(rows.iter().map(|(_, row)| status_code(&row.status).0).collect::<Vec<_>>())
            .bind::<Array<Nullable<Text>>, _>(
                rows.iter().map(|(_, row)| status_code(&row.status).1).collect::<Vec<_>>(),
            )
            .bind::<Array<Text>, _>(rows.iter().map(|(_, row)| &row.provider).collect::<Vec<_>>())
            .bind::<Array<Nullable<Text>>, _>(rows.iter().map(|(_, row)| row.reference.as_deref()).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(rows.iter().map(|(_, row)| count(row.calls.tries)).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(rows.iter().map(|(_, row)| count(row.calls.key)).collect::<Vec<_>>())
            .bind::<Array<Timestamptz>, _>(rows.iter().map(|(_, row)| row.calls.keyed).collect::<Vec<_>>())
            .bind::<Array<Nullable<Timestamptz>>, _>(rows.iter().map(|(_, row)| row.calls.looking).collect::<Vec<_>>())
            .bind::<Array<Timestamptz>, _>(rows.iter().map(|(_, row)| row.calls.next).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(rows.iter().map(|(_, row)| row.version.as_i64()).collect::<Vec<_>>())
            .bind::<Array<Timestamptz>, _>(rows.iter().map(|(_, row)| row.created_at).collect::<Vec<_>>())
            .bind::<Array<Timestamptz>, _>(rows.iter().map(|(_, row)| row.updated_at).collect::<Vec<_>>())
    })
    .await
}

struct UpdatePayments;
impl Fixed for UpdatePayments {
    const SQL: &'static str = "\
        UPDATE payments SET status = now.status, failure_reason = now.failure_reason, \
            provider_reference = now.provider_reference, tries = now.tries, key_number = now.key_number, \
            keyed_at = now.keyed_at, looking_since = now.looking_since, next_try_at = now.next_try_at, \
            version = now.version, updated_at = now.updated_at \
        FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS now (id, status, failure_reason, \
            provider_reference, tries, key_number, keyed_at, looking_since, next_try_at, version, updated_at) \
        WHERE payments.id = now.id";
}

async fn update_payments(conn: &AsyncPgConnection, rows: &[(&Order, &Payment)]) -> QueryResult<()> {
    write_rows::<UpdatePayments, _>(conn, rows, |sql| {
        sql.bind::<Array<SqlUuid>, _>(rows.iter().map(|(_, row)| row.id.uuid()).collect::<Vec<_>>())
            .bind::<Array<SmallInt>, _>(rows.iter().map(|(_, row)| status_code(&row.status).0).collect::<Vec<_>>())
            .bind::<Array<Nullable<Text>>, _>(
                rows.iter().map(|(_, row)| status_code(&row.status).1).collect::<Vec<_>>(),
            )
            .bind::<Array<Nullable<Text>>, _>(rows.iter().map(|(_, row)| row.reference.as_deref()).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(rows.iter().map(|(_, row)| count(row.calls.tries)).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(rows.iter().map(|(_, row)| count(row.calls.key)).collect::<Vec<_>>())
            .bind::<Array<Timestamptz>, _>(rows.iter().map(|(_, row)| row.calls.keyed).collect::<Vec<_>>())
            .bind::<Array<Nullable<Timestamptz>>, _>(rows.iter().map(|(_, row)| row.calls.looking).collect::<Vec<_>>())
            .bind::<Array<Timestamptz>, _>(rows.iter().map(|(_, row)| row.calls.next).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(rows.iter().map(|(_, row)| row.version.as_i64()).collect::<Vec<_>>())
            .bind::<Array<Timestamptz>, _>(rows.iter().map(|(_, row)| row.updated_at).collect::<Vec<_>>())
    })
    .await
}

/// How often the provider was asked, or with which key, as a column holds it.
fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

struct ClaimDue;
impl Fixed for ClaimDue {
    // Accounts are what is locked everywhere else, so they are here; payments are, too, so that one is looked at again
    // that was asked about between the beginning of this statement and the lock on its account. The time is of the clock
    // that leases are given by, which is this process's: by the database's, one that differs would end them early.
    const SQL: &'static str = "\
        SELECT due.id, due.order_id, due.next_try_at, account.traceparent, account.tracestate \
        FROM payments due JOIN accounts account USING (order_id) \
        WHERE due.status IN (1, 4) AND due.next_try_at <= $3 \
            AND due.next_try_at > $3 - make_interval(secs => $2) \
        ORDER BY due.next_try_at LIMIT $1 FOR UPDATE OF account, due SKIP LOCKED";
}

struct CountOverdue;
impl Fixed for CountOverdue {
    const SQL: &'static str = "\
        SELECT count(*) AS due, coalesce(extract(epoch FROM $2 - min(at)), 0)::float8 AS late \
        FROM (SELECT next_try_at AS at FROM payments WHERE status IN (1, 4) AND next_try_at <= $2 \
            ORDER BY next_try_at LIMIT $1) AS due";
}

#[derive(QueryableByName)]
struct DueRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    order_id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    next_try_at: Timestamp,
    #[diesel(sql_type = Text)]
    traceparent: String,
    #[diesel(sql_type = Nullable<Text>)]
    tracestate: Option<String>,
}

impl Timed for Payments {
    async fn claim_due(conn: &AsyncPgConnection, limit: i64, back: f64) -> QueryResult<Option<ClaimedDue<Self>>> {
        let rows: Vec<DueRow> = Prepared::<ClaimDue, _>::with(|sql| {
            sql.bind::<BigInt, _>(limit).bind::<Double, _>(back).bind::<Timestamptz, _>(clock::now())
        })
        .load(&mut &*conn)
        .await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let due = rows.into_iter().map(|row| Due {
            command: Command::Ask { order: OrderId::from_uuid(row.order_id), payment: PaymentId::from_uuid(row.id) },
            at: row.next_try_at,
            trace: TraceContext::parse(&row.traceparent, row.tracestate.as_deref()),
        });
        let due: Vec<Due<Command>> = due.collect();
        let commands: Vec<&Command> = due.iter().map(|due| &due.command).collect();
        let loaded = <Self as Store>::load(conn, &commands).await;
        Ok(Some(ClaimedDue { due, loaded }))
    }

    async fn overdue(conn: &AsyncPgConnection, limit: i64) -> QueryResult<Overdue> {
        Prepared::<CountOverdue, _>::with(|sql| sql.bind::<BigInt, _>(limit).bind::<Timestamptz, _>(clock::now()))
            .get_result(&mut &*conn)
            .await
    }
}

/// One payment and its order, if there is such and it is this user's, or anybody's if none is named.
pub(crate) async fn find(
    conn: &mut AsyncPgConnection,
    id: PaymentId,
    user: Option<&UserId>,
) -> QueryResult<Option<(Order, Payment)>> {
    let rows: Vec<(PaymentRow, AccountRow)> = payments::table
        .inner_join(accounts::table.on(accounts::order_id.eq(payments::order_id)))
        .filter(payments::id.eq(id.uuid()))
        .select((PaymentRow::as_select(), AccountRow::as_select()))
        .load(conn)
        .await?;
    let found = rows.into_iter().map(read).next().transpose()?;
    Ok(found.filter(|(order, _)| user.is_none_or(|user| order.user == *user)))
}

/// A page of payments, of one user or of all, of one order or of any, newest first, and one more if there is one.
pub(crate) async fn list(
    conn: &mut AsyncPgConnection,
    user: Option<&str>,
    order: Option<OrderId>,
    page: &Page,
) -> QueryResult<Vec<(Order, Payment)>> {
    let mut query = payments::table
        .inner_join(accounts::table.on(accounts::order_id.eq(payments::order_id)))
        .order(payments::id.desc())
        .limit(page.fetch())
        .select((PaymentRow::as_select(), AccountRow::as_select()))
        .into_boxed();
    if let Some(user) = user {
        query = query.filter(payments::user_id.eq(user.to_owned()));
    }
    if let Some(order) = order {
        query = query.filter(payments::order_id.eq(order.uuid()));
    }
    if let Some(after) = page.after {
        query = query.filter(payments::id.lt(after));
    }
    let rows: Vec<(PaymentRow, AccountRow)> = query.load(conn).await?;
    Ok(rows.into_iter().map(read).collect::<Result<_, _>>()?)
}

fn read((payment, account): (PaymentRow, AccountRow)) -> Result<(Order, Payment), Corrupt> {
    Ok((Account::try_from(account)?.order, payment.try_into()?))
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = accounts, check_for_backend(Pg))]
struct AccountRow {
    order_id: Uuid,
    user_id: String,
    currency: String,
    total: i64,
    order_status: i16,
    order_version: i64,
    traceparent: String,
    tracestate: Option<String>,
}

/// Without its payments.
impl TryFrom<AccountRow> for Account {
    type Error = Corrupt;

    fn try_from(row: AccountRow) -> Result<Self, Corrupt> {
        let order = Order {
            id: OrderId::from_uuid(row.order_id),
            user: UserId::from_stored(&row.user_id),
            total: Money::from_code(&row.currency, row.total).map_err(|_| Corrupt("accounts.currency"))?,
            status: order_status(row.order_status).ok_or(Corrupt("accounts.order_status"))?,
            version: Version::from_i64(row.order_version),
            trace: TraceContext::parse(&row.traceparent, row.tracestate.as_deref())
                .ok_or(Corrupt("accounts.traceparent"))?,
        };
        Ok(Self { order, payments: Vec::new() })
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = payments, check_for_backend(Pg))]
struct PaymentRow {
    id: Uuid,
    order_id: Uuid,
    method: String,
    status: i16,
    failure_reason: Option<String>,
    provider: String,
    provider_reference: Option<String>,
    tries: i32,
    key_number: i32,
    keyed_at: Timestamp,
    looking_since: Option<Timestamp>,
    next_try_at: Timestamp,
    version: i64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl TryFrom<PaymentRow> for Payment {
    type Error = Corrupt;

    fn try_from(row: PaymentRow) -> Result<Self, Corrupt> {
        Ok(Self {
            id: PaymentId::from_uuid(row.id),
            method: row.method,
            status: status_of(row.status, row.failure_reason).ok_or(Corrupt("payments.status"))?,
            provider: row.provider,
            reference: row.provider_reference,
            calls: Calls {
                tries: u32::try_from(row.tries).map_err(|_| Corrupt("payments.tries"))?,
                key: u32::try_from(row.key_number).map_err(|_| Corrupt("payments.key_number"))?,
                keyed: row.keyed_at,
                looking: row.looking_since,
                next: row.next_try_at,
            },
            version: Version::from_i64(row.version),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// A status as its columns hold it: the status, and of a failed payment the reason.
fn status_code(status: &Status) -> (i16, Option<&str>) {
    match status {
        Status::Pending => (1, None),
        Status::Succeeded => (2, None),
        Status::Failed(reason) => (3, Some(reason)),
        Status::RefundPending => (4, None),
        Status::Refunded => (5, None),
    }
}

fn status_of(status: i16, reason: Option<String>) -> Option<Status> {
    Some(match (status, reason) {
        (1, None) => Status::Pending,
        (2, None) => Status::Succeeded,
        (3, Some(reason)) => Status::Failed(reason),
        (4, None) => Status::RefundPending,
        (5, None) => Status::Refunded,
        _ => return None,
    })
}

fn order_code(status: OrderStatus) -> i16 {
    match status {
        OrderStatus::Created => 1,
        OrderStatus::AwaitingPayment => 2,
        OrderStatus::Completed => 3,
        OrderStatus::Cancelled => 4,
    }
}

fn order_status(code: i16) -> Option<OrderStatus> {
    Some(match code {
        1 => OrderStatus::Created,
        2 => OrderStatus::AwaitingPayment,
        3 => OrderStatus::Completed,
        4 => OrderStatus::Cancelled,
        _ => return None,
    })
}
