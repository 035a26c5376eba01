//! How tickets and reservations are kept: loading and saving a batch, and the reads of the API.

use diesel::{
    ExpressionMethods, QueryDsl, QueryResult, Queryable, Selectable, SelectableHelper,
    pg::Pg,
    sql_types::{Array, BigInt, Integer, SmallInt, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use shared::{
    clock::Timestamp,
    command::{Rows, Store, WorkingSet, in_lock_order},
    db::{Corrupt, Fixed, write_rows},
    grpc::Page,
    money::Money,
    user::UserId,
    version::Version,
};
use uuid::Uuid;

use crate::{
    domain::{Command, Hold, OrderId, Reservation, State, Status, Ticket, TicketId, Tickets},
    schema::{reservations, tickets},
};

/// What a batch is about: tickets, and of each the few reservations that commands name.
pub struct Loaded {
    tickets: Rows<TicketId, Ticket>,
    reservations: Rows<OrderId, Reservation>,
}

impl WorkingSet<Tickets> for Loaded {
    fn state(&self, command: &Command) -> State {
        State {
            ticket: self.tickets.get(command.ticket()).cloned(),
            reservation: command.order().and_then(|order| self.reservations.get(order)).cloned(),
        }
    }

    fn replace(&mut self, _: &Command, state: State) {
        if let Some(ticket) = state.ticket {
            self.tickets.put(ticket.id, ticket);
        }
        if let Some(reservation) = state.reservation {
            self.reservations.put(reservation.order, reservation);
        }
    }
}

impl Store for Tickets {
    type Loaded = Loaded;

    fn root(command: &Command) -> Uuid {
        command.ticket().uuid()
    }

    async fn load(conn: &AsyncPgConnection, commands: &[&Command]) -> QueryResult<Loaded> {
        let ids = in_lock_order(commands.iter().map(|command| command.ticket().uuid()));
        let orders: Vec<Uuid> = commands.iter().filter_map(|command| command.order()).map(OrderId::uuid).collect();
        let tickets = async {
            tickets::table
                .filter(tickets::id.eq_any(ids))
                .order(tickets::id)
                .select(TicketRow::as_select())
                .for_update()
                .load(&mut &*conn)
                .await
        };
        let reservations = async {
            if orders.is_empty() {
                return Ok(Vec::new());
            }
            reservations::table
                .filter(reservations::order_id.eq_any(orders))
                .select(ReservationRow::as_select())
                .load(&mut &*conn)
                .await
        };
        let (tickets, reservations) = futures_util::try_join!(tickets, reservations)?;
        let tickets: Vec<Ticket> = tickets.into_iter().map(Ticket::try_from).collect::<Result<_, _>>()?;
        let reservations: Vec<Reservation> =
            reservations.into_iter().map(Reservation::try_from).collect::<Result<_, _>>()?;
        Ok(Loaded {
            tickets: Rows::new(tickets.into_iter().map(|ticket| (ticket.id, ticket))),
            reservations: Rows::new(reservations.into_iter().map(|reservation| (reservation.order, reservation))),
        })
    }

    async fn save(conn: &AsyncPgConnection, loaded: &Loaded) -> QueryResult<()> {
        let (listed, changed) = (loaded.tickets.inserted(), loaded.tickets.updated());
        let (made, settled) = (loaded.reservations.inserted(), loaded.reservations.updated());
        futures_util::try_join!(
            insert_tickets(conn, &listed),
            update_tickets(conn, &changed),
            insert_reservations(conn, &made),
            update_reservations(conn, &settled)
        )?;
        Ok(())
    }
}

struct InsertTickets;
impl Fixed for InsertTickets {
    const SQL: &'static str = "\
        INSERT INTO tickets (id, seller_id, title, currency, price, quantity, reserved, sold, status, version, \
            revision, created_at, updated_at) \
        SELECT unnest($1), unnest($2), unnest($3), unnest($4), unnest($5), unnest($6), unnest($7), \
            unnest($8), unnest($9), unnest($10), unnest($11), unnest($12), unnest($13)";
}

async fn insert_tickets(conn: &AsyncPgConnection, rows: &[&Ticket]) -> QueryResult<()> {
    let column = |value: fn(&Ticket) -> i32| rows.iter().map(|row| value(row)).collect::<Vec<_>>();
    write_rows::<InsertTickets, _>(conn, rows, |sql| {
        sql.bind::<Array<SqlUuid>, _>(rows.iter().map(|row| row.id.uuid()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(rows.iter().map(|row| row.seller.as_str()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(rows.iter().map(|row| &row.title).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(rows.iter().map(|row| row.price.currency_code()).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(rows.iter().map(|row| row.price.minor_units()).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(column(|row| row.quantity))
            .bind::<Array<Integer>, _>(column(|row| row.reserved))
            .bind::<Array<Integer>, _>(column(|row| row.sold))
            .bind::<Array<SmallInt>, _>(rows.iter().map(|row| status_code(row.status)).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(rows.iter().map(|row| row.version.as_i64()).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(rows.iter().map(|row| row.revision).collect::<Vec<_>>())
            .bind::<Array<Timestamptz>, _>(rows.iter().map(|row| row.created_at).collect::<Vec<_>>())
            .bind::<Array<Timestamptz>, _>(rows.iter().map(|row| row.updated_at).collect::<Vec<_>>())
    })
    .await
}

struct UpdateTickets;
impl Fixed for UpdateTickets {
    const SQL: &'static str = "\
        UPDATE tickets SET title = now.title, currency = now.currency, price = now.price, quantity = now.quantity, \
            reserved = now.reserved, sold = now.sold, status = now.status, version = now.version, \
            revision = now.revision, updated_at = now.updated_at \
        FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS now (id, title, currency, price, quantity, \
            reserved, sold, status, version, revision, updated_at) \
        WHERE tickets.id = now.id";
}

async fn update_tickets(conn: &AsyncPgConnection, rows: &[&Ticket]) -> QueryResult<()> {
    let column = |value: fn(&Ticket) -> i32| rows.iter().map(|row| value(row)).collect::<Vec<_>>();
    write_rows::<UpdateTickets, _>(conn, rows, |sql| {
        sql.bind::<Array<SqlUuid>, _>(rows.iter().map(|row| row.id.uuid()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(rows.iter().map(|row| &row.title).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(rows.iter().map(|row| row.price.currency_code()).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(rows.iter().map(|row| row.price.minor_units()).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(column(|row| row.quantity))
            .bind::<Array<Integer>, _>(column(|row| row.reserved))
            .bind::<Array<Integer>, _>(column(|row| row.sold))
            .bind::<Array<SmallInt>, _>(rows.iter().map(|row| status_code(row.status)).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(rows.iter().map(|row| row.version.as_i64()).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(rows.iter().map(|row| row.revision).collect::<Vec<_>>())
            .bind::<Array<Timestamptz>, _>(rows.iter().map(|row| row.updated_at).collect::<Vec<_>>())
    })
    .await
}

struct InsertReservations;
impl Fixed for InsertReservations {
    const SQL: &'static str = "\
        INSERT INTO reservations (order_id, ticket_id, quantity, status) \
        SELECT unnest($1), unnest($2), unnest($3), unnest($4)";
}

async fn insert_reservations(conn: &AsyncPgConnection, rows: &[&Reservation]) -> QueryResult<()> {
    write_rows::<InsertReservations, _>(conn, rows, |sql| {
        sql.bind::<Array<SqlUuid>, _>(rows.iter().map(|row| row.order.uuid()).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(rows.iter().map(|row| row.ticket.uuid()).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(rows.iter().map(|row| row.quantity).collect::<Vec<_>>())
            .bind::<Array<SmallInt>, _>(rows.iter().map(|row| hold_code(row.status)).collect::<Vec<_>>())
    })
    .await
}

struct UpdateReservations;
impl Fixed for UpdateReservations {
    const SQL: &'static str = "\
        UPDATE reservations SET status = now.status \
        FROM unnest($1, $2) AS now (order_id, status) WHERE reservations.order_id = now.order_id";
}

async fn update_reservations(conn: &AsyncPgConnection, rows: &[&Reservation]) -> QueryResult<()> {
    write_rows::<UpdateReservations, _>(conn, rows, |sql| {
        sql.bind::<Array<SqlUuid>, _>(rows.iter().map(|row| row.order.uuid()).collect::<Vec<_>>())
            .bind::<Array<SmallInt>, _>(rows.iter().map(|row| hold_code(row.status)).collect::<Vec<_>>())
    })
    .await
}

/// One ticket, if there is such.
pub(crate) async fn find(conn: &mut AsyncPgConnection, id: TicketId) -> QueryResult<Option<Ticket>> {
    let rows: Vec<TicketRow> =
        tickets::table.filter(tickets::id.eq(id.uuid())).select(TicketRow::as_select()).load(conn).await?;
    Ok(rows.into_iter().map(Ticket::try_from).next().transpose()?)
}

/// A page of tickets of one status, newest first, and one ticket more if there is one.
pub(crate) async fn list(
    conn: &mut AsyncPgConnection,
    seller: Option<&str>,
    status: Status,
    page: &Page,
) -> QueryResult<Vec<Ticket>> {
    let mut query = tickets::table
        .filter(tickets::status.eq(status_code(status)))
        .order(tickets::id.desc())
        .limit(page.fetch())
        .select(TicketRow::as_select())
        .into_boxed();
    if let Some(seller) = seller {
        query = query.filter(tickets::seller_id.eq(seller.to_owned()));
    }
    if let Some(after) = page.after {
        query = query.filter(tickets::id.lt(after));
    }
    let rows: Vec<TicketRow> = query.load(conn).await?;
    Ok(rows.into_iter().map(Ticket::try_from).collect::<Result<_, _>>()?)
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = tickets, check_for_backend(Pg))]
struct TicketRow {
    id: Uuid,
    seller_id: String,
    title: String,
    currency: String,
    price: i64,
    quantity: i32,
    reserved: i32,
    sold: i32,
    status: i16,
    version: i64,
    revision: i64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl TryFrom<TicketRow> for Ticket {
    type Error = Corrupt;

    fn try_from(row: TicketRow) -> Result<Self, Corrupt> {
        Ok(Self {
            id: TicketId::from_uuid(row.id),
            seller: UserId::from_stored(&row.seller_id),
            title: row.title,
            price: Money::from_code(&row.currency, row.price).map_err(|_| Corrupt("tickets.currency"))?,
            quantity: row.quantity,
            reserved: row.reserved,
            sold: row.sold,
            status: match row.status {
                1 => Status::Listed,
                2 => Status::Withdrawn,
                _ => return Err(Corrupt("tickets.status")),
            },
            version: Version::from_i64(row.version),
            revision: row.revision,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = reservations, check_for_backend(Pg))]
struct ReservationRow {
    order_id: Uuid,
    ticket_id: Uuid,
    quantity: i32,
    status: i16,
}

impl TryFrom<ReservationRow> for Reservation {
    type Error = Corrupt;

    fn try_from(row: ReservationRow) -> Result<Self, Corrupt> {
        Ok(Self {
            order: OrderId::from_uuid(row.order_id),
            ticket: TicketId::from_uuid(row.ticket_id),
            quantity: row.quantity,
            status: match row.status {
                1 => Hold::Held,
                2 => Hold::Sold,
                3 => Hold::Released,
                4 => Hold::Refused,
                5 => Hold::Ended,
                _ => return Err(Corrupt("reservations.status")),
            },
        })
    }
}

fn status_code(status: Status) -> i16 {
    match status {
        Status::Listed => 1,
        Status::Withdrawn => 2,
    }
}

fn hold_code(hold: Hold) -> i16 {
    match hold {
        Hold::Held => 1,
        Hold::Sold => 2,
        Hold::Released => 3,
        Hold::Refused => 4,
        Hold::Ended => 5,
    }
}
