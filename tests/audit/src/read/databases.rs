//! The services' databases, each as it is at one moment. In: a URL, and the first id of interest. Out: rows, as numbers.
//! Every transaction is READ ONLY; all of it comes in one pass, row by row.

use std::pin::pin;

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use tokio::{task::JoinSet, time::timeout};
use tokio_postgres::{Client, Config, IsolationLevel, NoTls, Row, Transaction};
use uuid::Uuid;

use super::{CONNECT, LIMIT};
use crate::{
    About, Rule, Violation,
    case::{
        Copied, Currency, Hold, Order, OrderStatus, Payment, PaymentStatus, Print, Reason, Reservation, Seen, Shown,
        Ticket, Timer, TimerStatus,
    },
};

pub(super) async fn expiration(url: &str, since: Uuid, seen: &mut Seen) -> Result<()> {
    reading(url, async |transaction| {
        let timers = "SELECT order_id, expires_at, status FROM expirations WHERE order_id >= $1";
        each(transaction, timers, since, |row| {
            let timer = Timer { expires_at: row.try_get(1)?, status: TimerStatus::of(row.try_get(2)?)? };
            seen.orders.entry(row.try_get(0)?).or_default().timer = Some(timer);
            Ok(())
        })
        .await?;
        seen.violations.extend(outbox(transaction, "expiration").await?);
        Ok(())
    })
    .await
}

pub(super) async fn payments(url: &str, since: Uuid, seen: &mut Seen) -> Result<()> {
    reading(url, async |transaction| {
        let accounts = "SELECT order_id, user_id, currency, total, order_status, order_version \
                        FROM accounts WHERE order_id >= $1";
        each(transaction, accounts, since, |row| {
            let copy = Shown {
                user: Print::of(row.try_get(1)?),
                currency: Currency::of(row.try_get(2)?),
                total: row.try_get(3)?,
                status: OrderStatus::of(row.try_get(4)?)?,
                version: row.try_get(5)?,
            };
            seen.orders.entry(row.try_get(0)?).or_default().account = Some(copy);
            Ok(())
        })
        .await?;
        let payments = "SELECT order_id, id, status, provider_reference, version, user_id \
                        FROM payments WHERE order_id >= $1";
        each(transaction, payments, since, |row| {
            seen.counts.payments += 1;
            let payment = Payment {
                id: row.try_get(1)?,
                user: Print::of(row.try_get(5)?),
                status: PaymentStatus::of(row.try_get(2)?)?,
                reference: row.try_get::<_, Option<&str>>(3)?.map(Print::of),
                version: row.try_get(4)?,
            };
            seen.orders.entry(row.try_get(0)?).or_default().payments.push(payment);
            Ok(())
        })
        .await?;
        seen.violations.extend(outbox(transaction, "payments").await?);
        Ok(())
    })
    .await
}

pub(super) async fn orders(url: &str, since: Uuid, seen: &mut Seen) -> Result<()> {
    reading(url, async |transaction| {
        let orders = "SELECT id, ticket_id, quantity, user_id, currency, unit_price * quantity, status, version, \
                      expires_at, expires_at < now(), cancel_reason, updated_at FROM orders WHERE id >= $1";
        each(transaction, orders, since, |row| {
            let status = OrderStatus::of(row.try_get(6)?)?;
            *match status {
                OrderStatus::Created => &mut seen.counts.created,
                OrderStatus::AwaitingPayment => &mut seen.counts.awaiting_payment,
                OrderStatus::Completed => &mut seen.counts.completed,
                OrderStatus::Cancelled => &mut seen.counts.cancelled,
            } += 1;
            let shown = Shown {
                user: Print::of(row.try_get(3)?),
                currency: Currency::of(row.try_get(4)?),
                total: row.try_get(5)?,
                status,
                version: row.try_get(7)?,
            };
            let order = Order {
                ticket: row.try_get(1)?,
                quantity: row.try_get(2)?,
                shown,
                reason: row.try_get::<_, Option<i16>>(10)?.map(Reason::of).transpose()?,
                expires_at: row.try_get(8)?,
                overdue: row.try_get(9)?,
                updated_at: row.try_get(11)?,
            };
            seen.orders.entry(row.try_get(0)?).or_default().order = Some(order);
            Ok(())
        })
        .await?;
        let copies = "SELECT id, title, currency, price, available, withdrawn, version FROM tickets WHERE id >= $1";
        each(transaction, copies, since, |row| {
            let copy = Copied {
                title: Print::of(row.try_get(1)?),
                currency: Currency::of(row.try_get(2)?),
                price: row.try_get(3)?,
                available: row.try_get(4)?,
                withdrawn: row.try_get(5)?,
                version: row.try_get(6)?,
            };
            seen.tickets.entry(row.try_get(0)?).or_default().copy = Some(copy);
            Ok(())
        })
        .await?;
        seen.violations.extend(outbox(transaction, "orders").await?);
        Ok(())
    })
    .await
}

pub(super) async fn tickets(url: &str, since: Uuid, seen: &mut Seen) -> Result<()> {
    reading(url, async |transaction| {
        let tickets = "SELECT id, title, currency, price, quantity, reserved, sold, status = 2, version \
                       FROM tickets WHERE id >= $1";
        each(transaction, tickets, since, |row| {
            seen.counts.tickets += 1;
            let (quantity, reserved, sold): (i32, i32, i32) = (row.try_get(4)?, row.try_get(5)?, row.try_get(6)?);
            let shown = Copied {
                title: Print::of(row.try_get(1)?),
                currency: Currency::of(row.try_get(2)?),
                price: row.try_get(3)?,
                available: quantity.saturating_sub(reserved).saturating_sub(sold),
                withdrawn: row.try_get(7)?,
                version: row.try_get(8)?,
            };
            let ticket = Ticket { quantity, reserved, sold, shown };
            seen.tickets.entry(row.try_get(0)?).or_default().ticket = Some(ticket);
            Ok(())
        })
        .await?;
        let reservations = "SELECT order_id, ticket_id, quantity, status FROM reservations WHERE order_id >= $1";
        each(transaction, reservations, since, |row| {
            let status = Hold::of(row.try_get(3)?)?;
            let reservation = Reservation { ticket: row.try_get(1)?, quantity: row.try_get(2)?, status };
            // Orders are younger than their tickets: of a ticket that is of interest all are here.
            if reservation.ticket >= since && matches!(status, Hold::Held | Hold::Sold) {
                let ticket = seen.tickets.entry(reservation.ticket).or_default();
                *if status == Hold::Held { &mut ticket.held } else { &mut ticket.sold } +=
                    i64::from(reservation.quantity);
            }
            seen.orders.entry(row.try_get(0)?).or_default().reservation = Some(reservation);
            Ok(())
        })
        .await?;
        seen.violations.extend(outbox(transaction, "tickets").await?);
        Ok(())
    })
    .await
}

/// Runs what reads in one transaction that sees one moment.
async fn reading(url: &str, read: impl AsyncFnOnce(&Transaction<'_>) -> Result<()>) -> Result<()> {
    let mut config: Config = url.parse().context("a URL like postgres://orders@127.0.0.1:5433/orders")?;
    config.connect_timeout(CONNECT).application_name("audit");
    config.options(format!("-c default_transaction_read_only=on -c statement_timeout={}", LIMIT.as_millis()));
    let (mut client, connection): (Client, _) = timeout(CONNECT, config.connect(NoTls)).await??;
    // It ends with this function; its error is the client's, too.
    let mut connections = JoinSet::new();
    connections.spawn(async { drop(connection.await) });
    let transaction = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let transaction = transaction.start().await?;
    timeout(LIMIT, read(&transaction)).await.context("it takes too long")??;
    Ok(transaction.rollback().await?)
}

/// Tells every row of a query whose one parameter is the first id of interest.
async fn each(
    transaction: &Transaction<'_>,
    query: &str,
    since: Uuid,
    mut take: impl FnMut(&Row) -> Result<()>,
) -> Result<()> {
    let mut rows = pin!(transaction.query_raw(query, [since]).await?);
    while let Some(row) = rows.try_next().await? {
        take(&row).with_context(|| format!("{row:?} of {query}"))?;
    }
    Ok(())
}

/// What is visible in this snapshot and not in the relay's, but for what it has sent of a large difference already.
const UNPUBLISHED: &str = "\
    WITH cursor AS (SELECT published, coalesce(target, published) AS target, coalesce(published_seq, 0) AS sent \
                    FROM outbox_cursor), \
         fresh AS (SELECT seq, xid FROM outbox WHERE xid >= (SELECT pg_snapshot_xmax(published) FROM cursor) \
                   UNION ALL \
                   SELECT seq, xid FROM outbox \
                   WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip(published) FROM cursor))) \
    SELECT count(*), min(seq), max(seq), (SELECT count(*) FROM cursor) FROM fresh, cursor \
    WHERE NOT pg_visible_in_snapshot(xid, target) OR seq > sent";

async fn outbox(transaction: &Transaction<'_>, service: &'static str) -> Result<Option<Violation>> {
    let row = transaction.query_one(UNPUBLISHED, &[]).await?;
    if row.try_get::<_, i64>(3)? == 0 {
        let what = "its outbox has no cursor: nothing of it is published";
        return Ok(Some(Violation::new(Rule::Outbox, About::Service(service), what)));
    }
    let (Some(first), Some(last)) = (row.try_get::<_, Option<i64>>(1)?, row.try_get::<_, Option<i64>>(2)?) else {
        return Ok(None);
    };
    let what = format!("{} events of its outbox are not published, {first} to {last}", row.try_get::<_, i64>(0)?);
    Ok(Some(Violation::lagging(Rule::Outbox, About::Service(service), [first - 1, last], what)))
}
