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
    domain::{Account, Command, Inquiry, Order, OrderId, OrderStatus, Payment, PaymentId, Payments, Status},
    schema::{accounts, payments},
};

/// What a batch is about: orders, and all payments of each.
pub struct Loaded {
    orders: Rows<OrderId, Order>,
    /// Each with whose it is.
    payments: Rows<PaymentId, (OrderId, Payment)>,
    /// Those of each order, the oldest first.
    of: HashMap<OrderId, Vec<PaymentId>>,
}

impl WorkingSet<Payments> for Loaded {
    fn state(&self, command: &Command) -> Option<Account> {
        let order = self.orders.get(command.order())?.clone();
        let ids = self.of.get(&order.id).into_iter().flatten();
        let payments = ids.filter_map(|id| self.payments.get(*id)).map(|(_, payment)| payment.clone()).collect();
        Some(Account { order, payments })
    }

    fn replace(&mut self, _: &Command, state: Option<Account>) {
        let Some(Account { order, payments }) = state else { return };
        for payment in payments {
            if self.payments.get(payment.id).is_none() {
                self.of.entry(order.id).or_default().push(payment.id);
            }
            self.payments.put(payment.id, (order.id, payment));
        }
        self.orders.put(order.id, order);
    }
}

impl Store for Payments {
    type Loaded = Loaded;

    fn root(command: &Command) -> Uuid {
        command.order().uuid()
    }

    fn creates_root(command: &Command) -> bool {
        matches!(command, Command::CopyOrder(order) if order.version == Version::FIRST)
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
        let orders: Vec<Order> = roots.into_iter().map(Order::try_from).collect::<Result<_, _>>()?;
        let (mut payments, mut of) = (Vec::with_capacity(children.len()), HashMap::<_, Vec<_>>::new());
        for child in children {
            let order = OrderId::from_uuid(child.order_id);
            let payment = Payment::try_from(child)?;
            of.entry(order).or_default().push(payment.id);
            payments.push((payment.id, (order, payment)));
        }
        Ok(Loaded {
            orders: Rows::new(orders.into_iter().map(|order| (order.id, order))),
            payments: Rows::new(payments),
            of,
        })
    }

    async fn save(conn: &AsyncPgConnection, loaded: &Loaded) -> QueryResult<()> {
        let (heard, changed) = (loaded.orders.inserted(), loaded.orders.updated());
        let (begun, asked) = (loaded.payments.inserted(), loaded.payments.updated());
        let begun: Vec<(&Order, &Payment)> =
            begun.into_iter().filter_map(|(order, payment)| Some((loaded.orders.get(*order)?, payment))).collect();
        // Updates first: a payment that fails in this batch has to leave `payments_one_an_order` before the next one enters it.
        futures_util::try_join!(
            insert_accounts(conn, &heard),
            update_accounts(conn, &changed),
            update_payments(conn, &asked),
            insert_payments(conn, &begun)
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

async fn insert_accounts(conn: &AsyncPgConnection, rows: &[&Order]) -> QueryResult<()> {
    write_rows::<InsertAccounts, _>(conn, rows, |sql| {
        sql.bind::<Array<SqlUuid>, _>(rows.iter().map(|order| order.id.uuid()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(rows.iter().map(|order| order.user.as_str()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(rows.iter().map(|order| order.total.currency_code()).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(rows.iter().map(|order| order.total.minor_units()).collect::<Vec<_>>())
            .bind::<Array<SmallInt>, _>(rows.iter().map(|order| order_code(order.status)).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(rows.iter().map(|order| order.version.as_i64()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(rows.iter().map(|order| order.trace.traceparent()).collect::<Vec<_>>())
            .bind::<Array<Nullable<Text>>, _>(rows.iter().map(|order| order.trace.tracestate()).collect::<Vec<_>>())
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

async fn update_accounts(conn: &AsyncPgConnection, rows: &[&Order]) -> QueryResult<()> {
    write_rows::<UpdateAccounts, _>(conn, rows, |sql| {
        sql.bind::<Array<SqlUuid>, _>(rows.iter().map(|order| order.id.uuid()).collect::<Vec<_>>())
            .bind::<Array<SmallInt>, _>(rows.iter().map(|order| order_code(order.status)).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(rows.iter().map(|order| order.version.as_i64()).collect::<Vec<_>>())
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
            .bind::<Array<Integer>, _>(rows.iter().map(|(_, row)| count(row.inquiry.tries)).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(rows.iter().map(|(_, row)| count(row.inquiry.key_number)).collect::<Vec<_>>())
            .bind::<Array<Timestamptz>, _>(rows.iter().map(|(_, row)| row.inquiry.keyed_at).collect::<Vec<_>>())
            .bind::<Array<Nullable<Timestamptz>>, _>(
                rows.iter().map(|(_, row)| row.inquiry.looking_since).collect::<Vec<_>>(),
            )
            .bind::<Array<Timestamptz>, _>(rows.iter().map(|(_, row)| row.inquiry.next_try_at).collect::<Vec<_>>())
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

async fn update_payments(conn: &AsyncPgConnection, rows: &[&(OrderId, Payment)]) -> QueryResult<()> {
    write_rows::<UpdatePayments, _>(conn, rows, |sql| {
        sql.bind::<Array<SqlUuid>, _>(rows.iter().map(|(_, row)| row.id.uuid()).collect::<Vec<_>>())
            .bind::<Array<SmallInt>, _>(rows.iter().map(|(_, row)| status_code(&row.status).0).collect::<Vec<_>>())
            .bind::<Array<Nullable<Text>>, _>(
                rows.iter().map(|(_, row)| status_code(&row.status).1).collect::<Vec<_>>(),
            )
            .bind::<Array<Nullable<Text>>, _>(rows.iter().map(|(_, row)| row.reference.as_deref()).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(rows.iter().map(|(_, row)| count(row.inquiry.tries)).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(rows.iter().map(|(_, row)| count(row.inquiry.key_number)).collect::<Vec<_>>())
            .bind::<Array<Timestamptz>, _>(rows.iter().map(|(_, row)| row.inquiry.keyed_at).collect::<Vec<_>>())
            .bind::<Array<Nullable<Timestamptz>>, _>(
                rows.iter().map(|(_, row)| row.inquiry.looking_since).collect::<Vec<_>>(),
            )
            .bind::<Array<Timestamptz>, _>(rows.iter().map(|(_, row)| row.inquiry.next_try_at).collect::<Vec<_>>())
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
    // Accounts are what is locked everywhere else, so they are here; payments are, too, so that Postgres looks again at when one
    // is due that was changed after this statement's snapshot. The time is of the clock that leases are given by, which is this
    // process's: by the database's, one that differs would end them early.
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
    Ok((account.try_into()?, payment.try_into()?))
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

impl TryFrom<AccountRow> for Order {
    type Error = Corrupt;

    fn try_from(row: AccountRow) -> Result<Self, Corrupt> {
        Ok(Self {
            id: OrderId::from_uuid(row.order_id),
            user: UserId::from_stored(&row.user_id),
            total: Money::from_code(&row.currency, row.total).map_err(|_| Corrupt("accounts.currency"))?,
            status: order_status(row.order_status).ok_or(Corrupt("accounts.order_status"))?,
            version: Version::from_i64(row.order_version),
            trace: TraceContext::parse(&row.traceparent, row.tracestate.as_deref())
                .ok_or(Corrupt("accounts.traceparent"))?,
        })
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
            inquiry: Inquiry {
                tries: u32::try_from(row.tries).map_err(|_| Corrupt("payments.tries"))?,
                key_number: u32::try_from(row.key_number).map_err(|_| Corrupt("payments.key_number"))?,
                keyed_at: row.keyed_at,
                looking_since: row.looking_since,
                next_try_at: row.next_try_at,
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
