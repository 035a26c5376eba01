//! How orders and the copies of tickets are kept: loading and saving a batch, and the reads of the API.

use diesel::{
    ExpressionMethods, QueryDsl, QueryResult, Queryable, Selectable, SelectableHelper,
    pg::Pg,
    sql_types::{Array, BigInt, Bool, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use shared::{
    clock::Timestamp,
    command::{Rows, Store, WorkingSet, in_lock_order},
    db::{Corrupt, Fixed, write_rows},
    grpc::Page,
    money::Money,
    telemetry::TraceContext,
    user::UserId,
    version::Version,
};
use uuid::Uuid;

use crate::{
    domain::{Command, Order, OrderId, Orders, Reason, State, Status, Ticket, TicketId},
    schema::{orders, tickets},
};

/// What a batch is about.
pub struct Loaded {
    orders: Rows<OrderId, Order>,
    tickets: Rows<TicketId, Ticket>,
}

impl WorkingSet<Orders> for Loaded {
    fn state(&self, command: &Command) -> State {
        State {
            order: command.order().and_then(|id| self.orders.get(id)).cloned(),
            ticket: command.ticket().and_then(|id| self.tickets.get(id)).cloned(),
        }
    }

    fn replace(&mut self, command: &Command, state: State) {
        // `CopyTicket` alone changes the copy of a ticket; `Create` reads it, and changes the order.
        match command {
            Command::CopyTicket(_) => {
                if let Some(ticket) = state.ticket {
                    self.tickets.put(ticket.id, ticket);
                }
            }
            _ => {
                if let Some(order) = state.order {
                    self.orders.put(order.id, order);
                }
            }
        }
    }
}

impl Store for Orders {
    type Loaded = Loaded;

    fn root(command: &Command) -> Uuid {
        match command {
            Command::CopyTicket(ticket) => ticket.id.uuid(),
            Command::Create(create) => create.id.uuid(),
            Command::Cancel { id, .. }
            | Command::Reserved(id)
            | Command::Rejected(id, _)
            | Command::Paid(id)
            | Command::Expire(id) => id.uuid(),
        }
    }

    async fn load(conn: &AsyncPgConnection, commands: &[&Command]) -> QueryResult<Loaded> {
        // What is being made now has no row to lock. (Nor is there anything to doubt, as in what `begins`: its id is fresh.)
        let existing = commands.iter().filter(|command| !matches!(command, Command::Create(_)));
        let ids = in_lock_order(existing.filter_map(|command| command.order()).map(OrderId::uuid));
        let copies = in_lock_order(commands.iter().filter_map(|command| command.ticket()).map(TicketId::uuid));
        let orders = async {
            if ids.is_empty() {
                return Ok(Vec::new());
            }
            orders::table
                .filter(orders::id.eq_any(ids))
                .order(orders::id)
                .select(OrderRow::as_select())
                .for_update()
                .load(&mut &*conn)
                .await
        };
        // Not locked: copies only ever get newer, and saving them minds that.
        let tickets = async {
            if copies.is_empty() {
                return Ok(Vec::new());
            }
            tickets::table.filter(tickets::id.eq_any(copies)).select(TicketRow::as_select()).load(&mut &*conn).await
        };
        let (orders, tickets) = futures_util::try_join!(orders, tickets)?;
        let orders: Vec<Order> = orders.into_iter().map(Order::try_from).collect::<Result<_, _>>()?;
        let tickets: Vec<Ticket> = tickets.into_iter().map(Ticket::try_from).collect::<Result<_, _>>()?;
        Ok(Loaded {
            orders: Rows::new(orders.into_iter().map(|order| (order.id, order))),
            tickets: Rows::new(tickets.into_iter().map(|ticket| (ticket.id, ticket))),
        })
    }

    async fn save(conn: &AsyncPgConnection, loaded: &Loaded) -> QueryResult<()> {
        let (inserted, updated) = (loaded.orders.inserted(), loaded.orders.updated());
        // Copies aren't locked: one that another transaction has made meanwhile is no error, and the newer one stays.
        let mut copies = loaded.tickets.inserted();
        copies.extend(loaded.tickets.updated());
        futures_util::try_join!(
            insert_orders(conn, &inserted),
            update_orders(conn, &updated),
            save_tickets(conn, &copies)
        )?;
        Ok(())
    }
}

struct InsertOrders;
impl Fixed for InsertOrders {
    const SQL: &'static str = "\
        INSERT INTO orders (id, user_id, ticket_id, ticket_title, quantity, currency, unit_price, status, \
            cancel_reason, expires_at, traceparent, tracestate, version, created_at, updated_at) \
        SELECT unnest($1), unnest($2), unnest($3), unnest($4), unnest($5), unnest($6), unnest($7), \
            unnest($8), unnest($9), unnest($10), unnest($11), unnest($12), unnest($13), unnest($14), \
            unnest($15)";
}

async fn insert_orders(conn: &AsyncPgConnection, rows: &[&Order]) -> QueryResult<()> {
    write_rows::<InsertOrders, _>(conn, rows, |sql| {
        sql.bind::<Array<SqlUuid>, _>(rows.iter().map(|row| row.id.uuid()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(rows.iter().map(|row| row.user.as_str()).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(rows.iter().map(|row| row.ticket.uuid()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(rows.iter().map(|row| &row.ticket_title).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(rows.iter().map(|row| row.quantity).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(rows.iter().map(|row| row.unit_price.currency_code()).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(rows.iter().map(|row| row.unit_price.minor_units()).collect::<Vec<_>>())
            .bind::<Array<SmallInt>, _>(rows.iter().map(|row| status_code(row.status).0).collect::<Vec<_>>())
            .bind::<Array<Nullable<SmallInt>>, _>(rows.iter().map(|row| status_code(row.status).1).collect::<Vec<_>>())
            .bind::<Array<Timestamptz>, _>(rows.iter().map(|row| row.expires_at).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(rows.iter().map(|row| row.trace.traceparent()).collect::<Vec<_>>())
            .bind::<Array<Nullable<Text>>, _>(rows.iter().map(|row| row.trace.tracestate()).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(rows.iter().map(|row| row.version.as_i64()).collect::<Vec<_>>())
            .bind::<Array<Timestamptz>, _>(rows.iter().map(|row| row.created_at).collect::<Vec<_>>())
            .bind::<Array<Timestamptz>, _>(rows.iter().map(|row| row.updated_at).collect::<Vec<_>>())
    })
    .await
}

struct UpdateOrders;
impl Fixed for UpdateOrders {
    const SQL: &'static str = "\
        UPDATE orders SET status = now.status, cancel_reason = now.cancel_reason, version = now.version, \
            updated_at = now.updated_at \
        FROM unnest($1, $2, $3, $4, $5) AS now (id, status, cancel_reason, version, updated_at) \
        WHERE orders.id = now.id";
}

async fn update_orders(conn: &AsyncPgConnection, rows: &[&Order]) -> QueryResult<()> {
    write_rows::<UpdateOrders, _>(conn, rows, |sql| {
        sql.bind::<Array<SqlUuid>, _>(rows.iter().map(|row| row.id.uuid()).collect::<Vec<_>>())
            .bind::<Array<SmallInt>, _>(rows.iter().map(|row| status_code(row.status).0).collect::<Vec<_>>())
            .bind::<Array<Nullable<SmallInt>>, _>(rows.iter().map(|row| status_code(row.status).1).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(rows.iter().map(|row| row.version.as_i64()).collect::<Vec<_>>())
            .bind::<Array<Timestamptz>, _>(rows.iter().map(|row| row.updated_at).collect::<Vec<_>>())
    })
    .await
}

struct SaveTickets;
impl Fixed for SaveTickets {
    const SQL: &'static str = "\
        INSERT INTO tickets AS copy (id, title, currency, price, available, withdrawn, version) \
        SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7) \
            AS seen (id, title, currency, price, available, withdrawn, version) ORDER BY id \
        ON CONFLICT (id) DO UPDATE SET title = excluded.title, currency = excluded.currency, price = excluded.price, \
            available = excluded.available, withdrawn = excluded.withdrawn, version = excluded.version \
        WHERE copy.version < excluded.version";
}

async fn save_tickets(conn: &AsyncPgConnection, rows: &[&Ticket]) -> QueryResult<()> {
    write_rows::<SaveTickets, _>(conn, rows, |sql| {
        sql.bind::<Array<SqlUuid>, _>(rows.iter().map(|row| row.id.uuid()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(rows.iter().map(|row| &row.title).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(rows.iter().map(|row| row.price.currency_code()).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(rows.iter().map(|row| row.price.minor_units()).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(rows.iter().map(|row| row.available).collect::<Vec<_>>())
            .bind::<Array<Bool>, _>(rows.iter().map(|row| row.withdrawn).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(rows.iter().map(|row| row.version.as_i64()).collect::<Vec<_>>())
    })
    .await
}

/// One order, if it exists and belongs to this user; `None` as the user means anybody.
pub(crate) async fn find(
    conn: &mut AsyncPgConnection,
    id: OrderId,
    user: Option<&UserId>,
) -> QueryResult<Option<Order>> {
    let rows: Vec<OrderRow> =
        orders::table.filter(orders::id.eq(id.uuid())).select(OrderRow::as_select()).load(conn).await?;
    let found: Option<Order> = rows.into_iter().map(Order::try_from).next().transpose()?;
    Ok(found.filter(|order| user.is_none_or(|user| order.user == *user)))
}

/// A page of orders, of one user or of all, newest first, and one order more if there is one.
pub(crate) async fn list(
    conn: &mut AsyncPgConnection,
    user: Option<&str>,
    status: Option<i16>,
    page: &Page,
) -> QueryResult<Vec<Order>> {
    let mut query =
        orders::table.order(orders::id.desc()).limit(page.fetch()).select(OrderRow::as_select()).into_boxed();
    if let Some(user) = user {
        query = query.filter(orders::user_id.eq(user.to_owned()));
    }
    if let Some(status) = status {
        query = query.filter(orders::status.eq(status));
    }
    if let Some(after) = page.after {
        query = query.filter(orders::id.lt(after));
    }
    let rows: Vec<OrderRow> = query.load(conn).await?;
    Ok(rows.into_iter().map(Order::try_from).collect::<Result<_, _>>()?)
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = orders, check_for_backend(Pg))]
struct OrderRow {
    id: Uuid,
    user_id: String,
    ticket_id: Uuid,
    ticket_title: String,
    quantity: i32,
    currency: String,
    unit_price: i64,
    status: i16,
    cancel_reason: Option<i16>,
    expires_at: Timestamp,
    traceparent: String,
    tracestate: Option<String>,
    version: i64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl TryFrom<OrderRow> for Order {
    type Error = Corrupt;

    fn try_from(row: OrderRow) -> Result<Self, Corrupt> {
        let unit_price = Money::from_code(&row.currency, row.unit_price).map_err(|_| Corrupt("orders.currency"))?;
        Ok(Self {
            id: OrderId::from_uuid(row.id),
            user: UserId::from_stored(&row.user_id),
            ticket: TicketId::from_uuid(row.ticket_id),
            ticket_title: row.ticket_title,
            quantity: row.quantity,
            unit_price,
            total_price: unit_price.times(row.quantity).ok_or(Corrupt("orders.unit_price"))?,
            status: status_of(row.status, row.cancel_reason).ok_or(Corrupt("orders.status"))?,
            expires_at: row.expires_at,
            trace: TraceContext::parse(&row.traceparent, row.tracestate.as_deref())
                .ok_or(Corrupt("orders.traceparent"))?,
            version: Version::from_i64(row.version),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = tickets, check_for_backend(Pg))]
struct TicketRow {
    id: Uuid,
    title: String,
    currency: String,
    price: i64,
    available: i32,
    withdrawn: bool,
    version: i64,
}

impl TryFrom<TicketRow> for Ticket {
    type Error = Corrupt;

    fn try_from(row: TicketRow) -> Result<Self, Corrupt> {
        Ok(Self {
            id: TicketId::from_uuid(row.id),
            title: row.title,
            price: Money::from_code(&row.currency, row.price).map_err(|_| Corrupt("tickets.currency"))?,
            available: row.available,
            withdrawn: row.withdrawn,
            version: Version::from_i64(row.version),
        })
    }
}

const CREATED: i16 = 1;
const AWAITING_PAYMENT: i16 = 2;
const COMPLETED: i16 = 3;
/// Of a cancelled order, the reason stands beside it.
pub(crate) const CANCELLED: i16 = 4;

/// A status as its columns hold it: the status, and of a cancelled order the reason.
pub(crate) fn status_code(status: Status) -> (i16, Option<i16>) {
    match status {
        Status::Created => (CREATED, None),
        Status::AwaitingPayment => (AWAITING_PAYMENT, None),
        Status::Completed => (COMPLETED, None),
        Status::Cancelled(reason) => (CANCELLED, Some(reason_code(reason))),
    }
}

fn status_of(status: i16, reason: Option<i16>) -> Option<Status> {
    Some(match (status, reason) {
        (CREATED, None) => Status::Created,
        (AWAITING_PAYMENT, None) => Status::AwaitingPayment,
        (COMPLETED, None) => Status::Completed,
        (CANCELLED, Some(reason)) => {
            Status::Cancelled(REASONS.into_iter().find(|known| reason_code(*known) == reason)?)
        }
        _ => return None,
    })
}

const REASONS: [Reason; 6] =
    [Reason::Buyer, Reason::Expired, Reason::SoldOut, Reason::PriceChanged, Reason::Withdrawn, Reason::UnknownTicket];

fn reason_code(reason: Reason) -> i16 {
    match reason {
        Reason::Buyer => 1,
        Reason::Expired => 2,
        Reason::SoldOut => 3,
        Reason::PriceChanged => 4,
        Reason::Withdrawn => 5,
        Reason::UnknownTicket => 6,
    }
}
