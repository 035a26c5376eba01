//! What a saga takes that no design of ours spares it: two calls over gRPC, a charge at the provider, its events by way of
//! the broker, and, if it is traced, its spans; and what an event's effects take on their way into a database. Each is done by
//! itself, with nothing around it and as many at once as there may be, by the libraries that the services use. In: a rig. Out:
//! milliseconds of CPU each, of both sides.

use std::{
    future::{Ready, ready},
    time::Duration,
};

use anyhow::{Context as _, Result};
use contracts::orders::v1::{CreateOrderRequest, CreateOrderResponse, Order, order_service_client::OrderServiceClient};
use diesel::sql_types::{Array, BigInt, Nullable, SmallInt, Text, Uuid as SqlUuid};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, SimpleAsyncConnection as _};
use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use local::{process, sandbox};
use rdkafka::{
    consumer::{BaseConsumer, Consumer as _},
    producer::{FutureProducer, FutureRecord},
};
use shared::db::{Fixed, write_rows};
use tonic::{
    Request, Response, Status,
    server::{NamedService, UnaryService},
    transport::Endpoint,
};
use uuid::Uuid;

use super::{pgbench::Database, spans};
use crate::{
    buyers::CONNECTIONS,
    measure::TRACEPARENT,
    rig::{PARTITIONS, Rig, Variant},
    topics, unary,
};

/// Calls of a saga: the order, and its payment.
const CALLS: f64 = 2.0;
/// Events of a saga: three of its order, two of its ticket, two of its payment.
const EVENTS: f64 = 7.0;
/// How often one is read: those of the order by three services and the buyer, all others by orders.
const DELIVERIES: f64 = 16.0;
/// At once: as many as find each other's company in one write to a connection.
const CALLS_AT_ONCE: usize = 256;
/// At once: `PROVIDER_CALLS`.
const CHARGES_AT_ONCE: usize = 256;
/// Events that the broker is to answer for together: what a relay has at the best rate.
const BATCH: usize = 200;
const TOPIC: &str = "parts";

/// Milliseconds of CPU that one of each takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    /// A call and its answer.
    pub call: f64,
    /// A charge, its place in the provider's ledger included.
    pub charge: f64,
    /// An event to the broker.
    pub produced: f64,
    /// An event from it.
    pub delivered: f64,
    /// An event's effects into a database, a statement and a transaction for five hundred.
    pub stored: f64,
    /// A span, until a receiver has counted it.
    pub span: f64,
}

impl Parts {
    /// Takes each by itself, so many times.
    ///
    /// # Errors
    ///
    /// A server refuses.
    pub(crate) async fn take(rig: &Rig, times: usize, record_size: usize) -> Result<Self> {
        let call = call(times).await?;
        let charge = charge(rig, times).await?;
        let (produced, delivered) = events(rig, times, record_size).await?;
        let (stored, span) = (stored(rig, times).await?, spans::take(times).await?);
        Ok(Self { call, charge, produced, delivered, stored, span })
    }

    /// How many of each a saga has, in words.
    pub(crate) fn counts() -> String {
        let spans = spans::OF_A_SAGA;
        format!(
            "a saga has {CALLS} calls, a charge, {EVENTS} events that are read {DELIVERIES} times, and {spans} spans"
        )
    }

    /// Of a whole saga, in milliseconds; its spans are not among them.
    pub(crate) fn of_a_saga(self) -> f64 {
        CALLS * self.call + self.charge + EVENTS * self.produced + DELIVERIES * self.delivered
    }

    /// Of an event's way from the broker into a database.
    pub(crate) fn of_an_event(self) -> f64 {
        self.delivered + self.stored
    }

    /// Of the spans of a saga.
    pub(crate) fn of_its_spans(self) -> f64 {
        spans::OF_A_SAGA as f64 * self.span
    }
}

/// Milliseconds each, of so much CPU for so many.
pub(super) fn each(before: Duration, after: Duration, times: usize) -> f64 {
    after.saturating_sub(before).as_secs_f64() * 1000.0 / times.max(1) as f64
}

async fn call(times: usize) -> Result<f64> {
    let (addr, _serving) = unary::serve(Answering).await?;
    let endpoint = Endpoint::from_shared(format!("http://{addr}"))?.tcp_nodelay(true);
    let channels = try_join_all((0..CONNECTIONS).map(|_| endpoint.connect())).await?;
    let clients: Vec<_> = channels.into_iter().map(OrderServiceClient::new).collect();
    let calls = |times: usize| {
        let calls = (0..times).map(|number| {
            let mut client = clients[number % clients.len()].clone();
            let request = CreateOrderRequest { ticket_id: Uuid::now_v7().to_string(), ..CreateOrderRequest::default() };
            async move { client.create_order(request).await }
        });
        stream::iter(calls).buffer_unordered(CALLS_AT_ONCE).try_for_each(async |_| Ok(()))
    };
    calls(times / 10).await?;
    let before = process::own_cpu_time();
    calls(times).await?;
    Ok(each(before, process::own_cpu_time(), times))
}

/// An `OrderService` that says the same to everybody.
#[derive(Clone)]
struct Answering;

impl NamedService for Answering {
    const NAME: &'static str = "ticketing.orders.v1.OrderService";
}

impl UnaryService<CreateOrderRequest> for Answering {
    type Response = CreateOrderResponse;
    type Future = Ready<Result<Response<Self::Response>, Status>>;

    fn call(&mut self, request: Request<CreateOrderRequest>) -> Self::Future {
        let ticket_id = request.into_inner().ticket_id;
        // About as long as a real one.
        let order = Order { id: ticket_id.clone(), ticket_id, ticket_title: "Concert ".repeat(8), ..Order::default() };
        ready(Ok(Response::new(CreateOrderResponse { order: Some(order) })))
    }
}

async fn charge(rig: &Rig, times: usize) -> Result<f64> {
    // The provider alone is started.
    let system =
        rig.prepare(&Variant { services: vec!["payments"], ..Variant::default() }, &rig.servers.postgres).await?;
    let sandbox = system.stack.sandbox().context("no sandbox")?;
    sandbox.process().start().await?;
    let (http, url) = (reqwest::Client::builder().no_proxy().build()?, format!("{}/v1/payment_intents", sandbox.url()));
    let charges = |times: usize| {
        let charges = (0..times).map(|_| {
            let id = Uuid::now_v7();
            let form = format!(
                "amount=29900&currency=usd&payment_method=pm_card_visa&confirm=true&metadata[order_id]={id}\
                 &metadata[payment_id]={id}"
            );
            let request = http.post(&url).bearer_auth(sandbox::SECRET_KEY).header("idempotency-key", id.to_string());
            let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
            async move {
                let answer = request.send().await?.error_for_status()?;
                answer.bytes().await
            }
        });
        stream::iter(charges).buffer_unordered(CHARGES_AT_ONCE).try_for_each(async |_| Ok(()))
    };
    let cpu = || process::own_cpu_time() + sandbox.process().cpu_time();
    charges(times / 10).await?;
    let before = cpu();
    charges(times).await?;
    let each = each(before, cpu(), times);
    // Nothing but the provider was started, so there is nothing to remove.
    system.stack.stop().await?;
    Ok(each)
}

/// An event to the broker, and one from it.
async fn events(rig: &Rig, times: usize, record_size: usize) -> Result<(f64, f64)> {
    let (brokers, partitions) = (rig.brokers(), PARTITIONS.parse()?);
    topics::make(&brokers, TOPIC, partitions).await?;
    let producer = topics::writer(&brokers).create::<FutureProducer>()?;
    let record = vec![b'x'; record_size];
    let cpu = || process::own_cpu_time() + rig.servers.kafka.process().cpu_time();
    let before = cpu();
    for batch in 0..times.div_ceil(BATCH) {
        let records = (0..BATCH.min(times - batch * BATCH))
            .zip((0..partitions).cycle())
            .map(|(_, partition)| FutureRecord::<(), _>::to(TOPIC).partition(partition).payload(&record));
        let sent = records.map(|record| producer.send_result(record).map_err(|(error, _)| error));
        for delivery in sent.collect::<Result<Vec<_>, _>>()? {
            delivery.await?.map_err(|(error, _)| error)?;
        }
    }
    let produced = each(before, cpu(), times);

    let before = cpu();
    let reading = tokio::task::spawn_blocking(move || {
        let client: BaseConsumer = topics::reader(&brokers).create()?;
        client.assign(&topics::from(&client, TOPIC, true)?)?;
        for _ in 0..times {
            client.poll(LONG).context("the broker falls silent")??;
        }
        anyhow::Ok(())
    });
    reading.await??;
    let delivered = each(before, cpu(), times);
    topics::remove(&rig.brokers(), &[TOPIC]).await?;
    Ok((produced, delivered))
}

/// Rows a statement: as many as the yardstick's.
const ROWS: usize = 500;

struct InsertAccounts;
impl Fixed for InsertAccounts {
    // As payments writes them.
    const SQL: &'static str = "\
        INSERT INTO payments.accounts (order_id, user_id, currency, total, order_status, order_version, traceparent, \
            tracestate) \
        SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)";
}

/// The copies of new orders, as payments keeps them.
async fn stored(rig: &Rig, times: usize) -> Result<f64> {
    let database = Database::make(rig).await?;
    database.with_services_tables().await?;
    let mut conn = AsyncPgConnection::establish(&database.url).await?;
    let cpu = || process::own_cpu_time() + rig.servers.postgres.process().cpu_time();
    let before = cpu();
    for batch in 0..times.div_ceil(ROWS) {
        let ids: Vec<_> = (0..ROWS.min(times - batch * ROWS)).map(|_| Uuid::now_v7()).collect();
        conn.batch_execute("BEGIN").await?;
        write_rows::<InsertAccounts, _>(&conn, &ids, |sql| {
            let all = ids.len();
            sql.bind::<Array<SqlUuid>, _>(ids.clone())
                .bind::<Array<Text>, _>(vec!["alice"; all])
                .bind::<Array<Text>, _>(vec!["USD"; all])
                .bind::<Array<BigInt>, _>(vec![29900_i64; all])
                .bind::<Array<SmallInt>, _>(vec![1_i16; all])
                .bind::<Array<BigInt>, _>(vec![1_i64; all])
                .bind::<Array<Text>, _>(vec![TRACEPARENT; all])
                .bind::<Array<Nullable<Text>>, _>(vec![None::<&str>; all])
        })
        .await?;
        conn.batch_execute("COMMIT").await?;
    }
    let each = each(before, cpu(), times);
    drop(conn);
    database.remove(rig).await?;
    Ok(each)
}

/// No message takes longer on a system that is well.
const LONG: Duration = Duration::from_secs(10);
