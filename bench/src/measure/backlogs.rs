//! Backlogs: events of orders from its outbox to their topic, and from there into payments' database. Each service works
//! alone.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use contracts::{
    orders::v1::{Order, OrderCreated, OrderEvent, OrderStatus, order_event::Change},
    r#type::v1::Money,
};
use local::session::Session;
use prost::Message;
use rdkafka::consumer::BaseConsumer;
use uuid::Uuid;

use super::Taken;
use crate::{
    copy, meter,
    rig::{Rig, System, Variant, terminate},
    table::Quantity as Q,
    topics,
};

/// The trace of what nobody asked for.
pub(crate) const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// However large the backlog.
const LIMIT: Duration = Duration::from_secs(300);

/// Both, one after the other.
pub(super) async fn both(rig: &Rig) -> Result<Taken> {
    let variant = Variant { services: vec!["orders", "payments"], ..Variant::default() };
    let system = rig.system(&variant).await?;
    let [orders, payments] = ["orders", "payments"].map(|name| system.stack.service(name));
    let (orders, payments) = (orders?.process(), payments?.process());
    terminate([orders, payments]).await?;
    fill(&system, rig.scale.backlog).await?;

    orders.start().await?;
    let relayed = rate_on(rig, &system.topic("orders"), 0, rig.scale.backlog).await?;
    terminate([orders]).await?;

    payments.start().await?;
    let consumed = rate_into(&system, rig.scale.backlog).await?;
    terminate([payments]).await?;
    system.abandon().await?;
    Ok(Taken::default().figure(Q::Relayed, relayed).figure(Q::Consumed, consumed))
}

/// An order's first event, and its key.
#[allow(clippy::disallowed_methods, reason = "any time will do")]
fn event() -> Result<(Uuid, Vec<u8>)> {
    let id = Uuid::now_v7();
    let now = prost_types::Timestamp::from(SystemTime::now());
    let order = Order {
        id: id.to_string(),
        user_id: "alice".to_owned(),
        ticket_id: id.to_string(),
        ticket_title: "Concert".to_owned(),
        quantity: 1,
        unit_price: Some(Money::of("USD", 29900)),
        total_price: Some(Money::of("USD", 29900)),
        status: OrderStatus::Created.into(),
        expire_time: Some(now),
        version: 1,
        create_time: Some(now),
        update_time: Some(now),
        ..Order::default()
    };
    let change = Some(Change::Created(OrderCreated {}));
    let event = OrderEvent { order_id: id.to_string(), version: 1, order: Some(order), change };
    Ok((id, event.encode_to_vec()))
}

/// The bytes that such an event is on its topic, with its key and headers.
pub(super) fn record_size() -> Result<usize> {
    let (id, payload) = event()?;
    let id = id.to_string();
    let headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", &id),
        ("ce_type", "order.created"),
        ("ce_source", "/ticketing/orders"),
        ("ce_subject", &id),
        ("ce_time", "2026-01-01T00:00:00.000000Z"),
        ("ce_sequence", "100000"),
        ("content-type", "application/protobuf"),
        ("traceparent", TRACEPARENT),
    ];
    let headers: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    Ok(id.len() + payload.len() + headers)
}

async fn fill(system: &System<'_>, backlog: usize) -> Result<()> {
    let session = Session::connect(&system.database_url("orders")?).await?;
    let mut failed = None;
    let lines = (0..backlog).map_while(|_| match event() {
        Ok((id, payload)) => {
            let payload: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
            Some(format!("{}\torder.created\t{id}\t{TRACEPARENT}\t\\\\x{payload}", Uuid::now_v7()))
        }
        Err(error) => {
            failed = Some(error);
            None
        }
    });
    copy::lines_into(&session, "outbox (event_id, event_type, key, traceparent, payload)", lines).await?;
    match failed {
        Some(error) => Err(error),
        None => Ok(session.batch_execute("CHECKPOINT").await?),
    }
}

/// How many records a second come to a topic that holds so many, until so many more are there.
#[allow(clippy::disallowed_methods, reason = "a broker tells how much there is only when it is asked")]
pub(super) async fn rate_on(rig: &Rig, topic: &str, held: i64, more: usize) -> Result<f64> {
    let (config, topic) = (topics::reader(&rig.brokers()), topic.to_owned());
    tokio::task::spawn_blocking(move || {
        let client: BaseConsumer = config.create()?;
        let mut backlog = Backlog::of(more);
        loop {
            if let Some(rate) = backlog.look((topics::held(&client, &topic)? - held) as f64)? {
                return Ok(rate);
            }
            std::thread::sleep(meter::LOOKS);
        }
    })
    .await?
}

/// How many events a second payments takes in, until all of so many are there.
async fn rate_into(system: &System<'_>, all: usize) -> Result<f64> {
    let payments = system.stack.service("payments")?;
    let mut backlog = Backlog::of(all);
    loop {
        if let Some(rate) = backlog.look(meter::sum(payments, "inbox_handled_total").await?)? {
            return Ok(rate);
        }
        tokio::time::sleep(meter::LOOKS).await;
    }
}

/// A backlog that is worked off, looked at now and then.
struct Backlog {
    all: f64,
    begun: Instant,
    /// When nothing was done yet, as it was last seen: the rate counts from there, so that it is never too high.
    untouched: Instant,
}

impl Backlog {
    fn of(all: usize) -> Self {
        let now = Instant::now();
        Self { all: all as f64, begun: now, untouched: now }
    }

    /// So much is done by now: the rate, once that is all.
    fn look(&mut self, done: f64) -> Result<Option<f64>> {
        let now = Instant::now();
        if done <= 0.0 {
            self.untouched = now;
        }
        if done >= self.all {
            return Ok(Some(done / now.duration_since(self.untouched).as_secs_f64()));
        }
        ensure!(now.duration_since(self.begun) < LIMIT, "{done} of {} after {LIMIT:?}", self.all);
        Ok(None)
    }
}
