//! One order, one trace, over all services.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result};
use contracts::{
    expiration::v1::ExpirationStatus,
    orders::v1::{CancelReason, OrderStatus},
    payments::v1::PaymentStatus,
};
use futures_util::future::try_join_all;
use stories::{
    World,
    collector::{Collector, Exported},
    duplicator::TOPICS,
    groups::awaits_caught_up,
    history,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const ANOTHER: &str = "0af7651916cd43dd8448eb211c80319c";

#[tokio::test]
async fn an_orders_whole_story_is_one_trace_from_its_call_to_its_expiry() -> Result<()> {
    // Given somebody who collects traces, and a buyer who is in one.
    let collector = Collector::start().await?;
    let world = World::with(|stack| Ok(stack.otlp(&collector.endpoint()).env("orders", "ORDER_TTL", "10s"))).await?;
    let (alice, bob, olga) = (world.user("alice")?, world.user("bob")?, world.operator()?);
    let ticket = alice.lists("Concert", 29900, 5).await?;

    // When an order is placed in that trace and expires, and another is cancelled in another trace.
    let order = bob.within(&format!("00-{TRACE}-00f067aa0ba902b7-01"))?.places(&ticket, 1).await?;
    bob.awaits_order(&order.id, OrderStatus::AwaitingPayment).await?;
    bob.awaits_cancellation(&order.id, CancelReason::Expired).await?;
    olga.awaits_timer(&order.id, ExpirationStatus::Expired).await?;
    let unwanted = bob.places(&ticket, 1).await?;
    bob.within(&format!("00-{ANOTHER}-b7ad6b7169203331-01"))?.cancels(&unwanted.id).await?;
    alice.awaits_stock(&ticket.id, 5, 0, 0).await?;
    awaits_caught_up(&world).await?;
    let events = all_events(&world).await?;
    // The last spans leave with their services.
    world.end().await?;
    let spans = collector.spans();
    let by_id: HashMap<&str, &Exported> = spans.iter().map(|span| (span.id.as_str(), span)).collect();

    // Then all services are in the buyer's trace, and nobody hangs in the air.
    let story: Vec<&Exported> = spans.iter().filter(|span| span.trace == TRACE).collect();
    let services: BTreeSet<&str> = story.iter().map(|span| span.service.as_str()).collect();
    assert_eq!(services, BTreeSet::from(["expiration", "orders", "payments", "tickets"]), "{story:#?}");
    for span in &story {
        let parent = by_id.get(span.parent.as_str());
        let known = span.parent == "00f067aa0ba902b7" || parent.is_some_and(|parent| parent.trace == TRACE);
        assert!(known, "an orphan: {span:?}");
    }

    // Every event about the order is told by a span of this trace, which whoever processes it hangs below.
    let told = ["order.created", "ticket.updated", "order.awaiting_payment", "expiration.expired", "order.cancelled"];
    let of_the_order: Vec<_> = events.iter().filter(|event| event.trace == TRACE).collect();
    let kinds: BTreeSet<&str> = of_the_order.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, BTreeSet::from(told));
    assert_eq!(of_the_order.len(), 6, "the stock is held, and given back");
    for event in &of_the_order {
        let create = by_id.get(event.span.as_str()).with_context(|| format!("nobody told of {event:?}"))?;
        assert_eq!(create.name, format!("create {}", event.topic));
        assert_eq!(create.attributes["messaging.kafka.message.key"], event.key);
        let readers: BTreeSet<&str> = story
            .iter()
            .filter(|span| span.parent == create.id && span.name == format!("process {}", event.topic))
            .map(|span| span.service.as_str())
            .collect();
        let expected = match event.topic {
            "orders" => BTreeSet::from(["expiration", "payments", "tickets"]),
            _ => BTreeSet::from(["orders"]),
        };
        assert_eq!(readers, expected, "who read {event:?}");
    }
    let processes = story.iter().filter(|span| span.name.starts_with("process "));
    for process in processes {
        assert!(by_id[process.parent.as_str()].name.starts_with("create "), "not below an event: {process:?}");
    }

    // Time itself has its place: the timer's span, and the event of the expiry below it.
    let expired = of_the_order.iter().find(|event| event.kind == "expiration.expired").context("it expired")?;
    let timer = by_id[by_id[expired.span.as_str()].parent.as_str()];
    assert!(timer.name.starts_with("timer ") && timer.service == "expiration", "{timer:?}");
    assert_eq!(by_id[timer.parent.as_str()].name, "process orders", "it was set by an event");

    // What another call does to an order is told in the order's trace, and linked to that call.
    let of_the_unwanted: Vec<_> = events.iter().filter(|event| event.key == unwanted.id).collect();
    let created = of_the_unwanted.iter().find(|event| event.kind == "order.created").context("it was placed")?;
    let cancelled = of_the_unwanted.iter().find(|event| event.kind == "order.cancelled").context("it was cancelled")?;
    assert_eq!(cancelled.trace, created.trace);
    let call = spans.iter().find(|span| span.trace == ANOTHER).context("the call is in its caller's trace")?;
    assert_eq!(
        (call.name.as_str(), call.parent.as_str()),
        ("ticketing.orders.v1.OrderService/CancelOrder", "b7ad6b7169203331")
    );
    assert!(by_id[cancelled.span.as_str()].links.contains(&call.id), "{:?}", by_id[cancelled.span.as_str()]);
    Ok(())
}

#[tokio::test]
async fn a_paid_orders_story_is_in_its_trace_too_up_to_the_refund() -> Result<()> {
    let collector = Collector::start().await?;
    let world = World::with(|stack| Ok(stack.otlp(&collector.endpoint()).env("orders", "ORDER_TTL", "3s"))).await?;
    let (alice, bob) = (world.user("alice")?, world.user("bob")?);
    let ticket = alice.lists("Concert", 29900, 5).await?;

    // When an order is paid in another trace than it was placed in, with a card that is charged when it has expired.
    let order = bob.within(&format!("00-{TRACE}-00f067aa0ba902b7-01"))?.places(&ticket, 1).await?;
    bob.within(&format!("00-{ANOTHER}-b7ad6b7169203331-01"))?.pays(&order.id, "pm_sandbox_slow").await?;
    bob.awaits_cancellation(&order.id, CancelReason::Expired).await?;
    bob.awaits_payment(&order.id, PaymentStatus::Refunded).await?;
    alice.awaits_stock(&ticket.id, 5, 0, 0).await?;
    awaits_caught_up(&world).await?;
    let events = all_events(&world).await?;
    world.end().await?;
    let spans = collector.spans();
    let by_id: HashMap<&str, &Exported> = spans.iter().map(|span| (span.id.as_str(), span)).collect();

    // Then every event about its money is told in the order's trace, and read there by orders.
    let of_its_money: Vec<_> = events.iter().filter(|event| event.topic == "payments").collect();
    let kinds: Vec<&str> = of_its_money.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["payment.created", "payment.succeeded", "payment.refund_started", "payment.refunded"]);
    for event in &of_its_money {
        assert_eq!(event.trace, TRACE, "{event:?}");
        let create = by_id.get(event.span.as_str()).with_context(|| format!("nobody told of {event:?}"))?;
        assert_eq!((create.name.as_str(), create.trace.as_str()), ("create payments", TRACE));
        let reader = spans.iter().find(|span| span.parent == create.id && span.name == "process payments");
        assert_eq!(reader.map(|span| span.service.as_str()), Some("orders"), "who read {event:?}");
    }
    // The call stays in its caller's trace, and the charge's beginning is linked to it.
    let call = spans.iter().find(|span| span.parent == "b7ad6b7169203331").context("the call is in its trace")?;
    assert_eq!(call.name, "ticketing.payments.v1.PaymentService/CreatePayment");
    let created = by_id[of_its_money[0].span.as_str()];
    assert!(created.links.contains(&call.id), "{created:?}");
    // Nobody hangs in the air, in either trace.
    for span in spans.iter().filter(|span| [TRACE, ANOTHER].contains(&span.trace.as_str())) {
        let callers = ["00f067aa0ba902b7", "b7ad6b7169203331"].contains(&span.parent.as_str());
        let parent = by_id.get(span.parent.as_str()).is_some_and(|parent| parent.trace == span.trace);
        assert!(callers || parent, "an orphan: {span:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_share_of_traces_is_kept_and_each_of_them_whole() -> Result<()> {
    const ORDERS: usize = 60;
    let collector = Collector::start().await?;
    let world = World::with(|stack| {
        let stack = stack.env_for_all("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
        Ok(stack.env_for_all("OTEL_TRACES_SAMPLER_ARG", "0.5").otlp(&collector.endpoint()))
    })
    .await?;
    let (alice, bob) = (world.user("alice")?, world.user("bob")?);
    let ticket = alice.lists("Concert", 29900, ORDERS.try_into()?).await?;

    // When orders are placed in no trace, and one each in a trace whose caller has decided.
    let placed = (2..ORDERS).map(|_| bob.places(&ticket, 1));
    let mut orders = try_join_all(placed).await?;
    orders.push(bob.within(&format!("00-{TRACE}-00f067aa0ba902b7-00"))?.places(&ticket, 1).await?);
    orders.push(bob.within(&format!("00-{ANOTHER}-b7ad6b7169203331-01"))?.places(&ticket, 1).await?);
    for order in &orders {
        bob.awaits_order(&order.id, OrderStatus::AwaitingPayment).await?;
    }
    awaits_caught_up(&world).await?;
    let events = all_events(&world).await?;
    world.end().await?;
    let spans = collector.spans();

    // Then a trace is there from its first span to its last, or nothing of it is; the rows and headers know which.
    let mut kept = 0;
    for order in &orders {
        let tale: Vec<_> = events.iter().filter(|event| event.topic == "orders" && event.key == order.id).collect();
        assert!(tale.iter().all(|event| event.trace == tale[0].trace && event.sampled == tale[0].sampled), "{tale:?}");
        let (trace, sampled) = (&tale[0].trace, tale[0].sampled);
        let services: BTreeSet<&str> =
            spans.iter().filter(|span| span.trace == *trace).map(|span| span.service.as_str()).collect();
        let all = BTreeSet::from(["expiration", "orders", "payments", "tickets"]);
        assert_eq!(services, if sampled { all } else { BTreeSet::new() }, "of {trace}");
        if trace == TRACE || trace == ANOTHER {
            assert_eq!(sampled, trace == ANOTHER, "the caller decides");
        }
        kept += usize::from(sampled);
    }
    // It is all or nothing by chance in one of 10^17 runs.
    assert!(kept > 1 && kept < ORDERS - 1, "half of {ORDERS}, and not {kept}");
    // What many share is kept for those who are, and for nobody else.
    for batch in spans.iter().filter(|span| ["transaction", "send"].iter().any(|batch| span.name.starts_with(batch))) {
        assert!(batch.links.iter().any(|link| spans.iter().any(|span| span.id == *link)), "for nobody: {batch:?}");
    }
    Ok(())
}

/// An event, as far as traces go.
#[derive(Debug)]
struct Told {
    topic: &'static str,
    key: String,
    kind: String,
    trace: String,
    span: String,
    sampled: bool,
}

async fn all_events(world: &World) -> Result<Vec<Told>> {
    let mut all = Vec::new();
    for topic in TOPICS {
        for event in history::first_appearances(world, topic).await? {
            let parent: Vec<&str> = event.header("traceparent")?.split('-').collect();
            let [_, trace, span, flags] = parent[..] else { anyhow::bail!("not a traceparent: {event:?}") };
            let (trace, span, sampled) = (trace.to_owned(), span.to_owned(), flags == "01");
            let kind = event.header("ce_type")?.to_owned();
            all.push(Told { topic, key: event.key.clone(), kind, trace, span, sampled });
        }
    }
    Ok(all)
}
