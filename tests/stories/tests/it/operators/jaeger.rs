//! One order, one trace, as anybody sees it who looks at Jaeger.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use contracts::{
    orders::v1::{CancelReason, OrderStatus},
    payments::v1::PaymentStatus,
};
use local::{progress::say, tools::Tools};
use stories::{
    Ledger, Refused, SERVICES, World,
    duplicator::TOPICS,
    groups::awaits_caught_up,
    history,
    jaeger::{Jaeger, Span, Trace},
    ledger::{Kind, Often},
};
use tonic::Code;

/// Names that occur nowhere but in tokens, and so should occur nowhere in a trace.
const SELLER: &str = "sieglinde-who-sells";
const BUYER: &str = "balthasar-who-buys";

#[tokio::test]
async fn an_orders_whole_story_is_one_trace_in_jaeger_to_its_completion_its_expiry_or_its_refund() -> Result<()> {
    // Given a system whose spans go to a Jaeger, and callers who are in no trace.
    let program = Tools::from_env()?.jaeger().await?;
    let world = World::with(|stack| Ok(stack.jaeger(program).env("orders", "ORDER_TTL", "6s"))).await?;
    let (alice, bob, jaeger, ledger) =
        (world.user(SELLER)?, world.user(BUYER)?, Jaeger::of(&world)?, Ledger::of(&world)?);
    let ticket = alice.lists("Concert", 29900, 5).await?;

    // When one order is paid, one is left alone, one is paid with a card that is charged when it has expired, and one
    // while the provider is broken.
    let bought = bob.places(&ticket, 1).await?;
    bob.awaits_order(&bought.id, OrderStatus::AwaitingPayment).await?;
    bob.pays(&bought.id, "pm_card_visa").await?;
    bob.awaits_order(&bought.id, OrderStatus::Completed).await?;
    let refused = Refused::of(bob.pays(&bought.id, "pm_card_visa").await)?;
    assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "ALREADY_PAID"));
    let (left, refunded, unsure) =
        tokio::try_join!(bob.places(&ticket, 1), bob.places(&ticket, 1), bob.places(&ticket, 1))?;
    ledger.breaks(&unsure.id, Kind::Charge, "error_500", Often::For(Duration::from_secs(60))).await?;
    tokio::try_join!(bob.pays(&refunded.id, "pm_sandbox_slow"), bob.pays(&unsure.id, "pm_card_visa"))?;
    for order in [&left, &refunded, &unsure] {
        bob.awaits_cancellation(&order.id, CancelReason::Expired).await?;
    }
    bob.awaits_payment(&refunded.id, PaymentStatus::Refunded).await?;
    alice.awaits_stock(&ticket.id, 4, 0, 1).await?;
    awaits_caught_up(&world).await?;
    let tales = Tales::of(&world).await?;
    // The last spans leave with their services.
    for service in world.stack().services() {
        service.process().terminate().await?;
    }
    let all = jaeger.traces().await?;

    // Then each order's story is one trace, all of it below the call that placed it.
    for (order, events, services) in [
        (&bought, &BOUGHT[..], &SERVICES[..]),
        (&left, &LEFT[..], &SERVICES[..]),
        (&refunded, &REFUNDED[..], &SERVICES[..]),
    ] {
        let trace = jaeger.trace(&tales.trace_of(&order.id)?).await?;
        say(format_args!("{trace}"));
        let root = trace.root()?;
        assert_eq!(root.name, "ticketing.orders.v1.OrderService/CreateOrder");
        assert_eq!(trace.services(), services.iter().copied().collect::<BTreeSet<_>>(), "{trace}");
        tells_all_events(&trace, &tales, &order.id, events)?;
        for (id, other) in &all {
            let about_it = other.spans.iter().find(|span| span.tag("messaging.kafka.message.key") == order.id);
            assert!(*id == trace.id || about_it.is_none(), "{about_it:?} is in another trace than\n{trace}");
        }
    }

    // The timer that fires later is in it, and the refund after that.
    let trace = jaeger.trace(&tales.trace_of(&refunded.id)?).await?;
    let timer = trace.named("timer expirations").next().context("a timer fired")?;
    assert_eq!(
        trace.span(timer.parent.as_deref().unwrap_or_default())?.name,
        "process orders",
        "it was set by an event"
    );
    let expired = trace.below(timer).find(|span| span.tag("cloudevents.event_type") == "expiration.expired");
    assert!(expired.is_some(), "{trace}");
    let refund = trace.named("provider refund").next().context("a refund was asked for")?;
    assert_eq!((refund.service.as_str(), refund.tag("span.kind")), ("payments", "client"));
    assert_eq!(trace.span(refund.parent.as_deref().unwrap_or_default())?.name, "job");

    // A call that pays is in a trace of its own, to which the order's is linked.
    let begun = trace.spans.iter().find(|span| span.tag("cloudevents.event_type") == "payment.created");
    let (payers, call) = begun.and_then(|begun| begun.links.first()).context("it is linked to the call that paid")?;
    assert_ne!(*payers, trace.id);
    assert_eq!(all[payers].span(call)?.name, "ticketing.payments.v1.PaymentService/CreatePayment");
    assert_eq!(all[payers].root()?.id, *call);

    for trace in all.values() {
        trace.root()?;
        trace.spans.iter().try_for_each(keeps_conventions).with_context(|| trace.to_string())?;
    }
    let spans = || all.values().flat_map(|trace| &trace.spans);
    commands_are_linked_to_their_transaction(spans)?;

    // A refusal is told as one, and is no fault of the server's; a provider that gives no definite answer is one.
    let refusal = spans().find(|span| span.tag("ticketing.reason") == "ALREADY_PAID").context("a refusal")?;
    assert_eq!((refusal.tag("rpc.grpc.status_code"), refusal.failed()), ("9", false));
    let unclear = spans().find(|span| span.name == "provider charge" && span.failed()).context("a failure")?;
    assert!(!unclear.tag("error.type").is_empty(), "{unclear:?}");
    let failed: BTreeSet<&str> = spans().filter(|span| span.failed()).map(|span| span.name.as_str()).collect();
    // Once its order has expired it is not to be made any more.
    let asking = BTreeSet::from(["provider charge", "provider void_charge"]);
    assert!(failed.is_subset(&asking), "nothing else failed: {failed:?}");

    // Nobody is named, and nothing secret told.
    let told = jaeger.pages().await?.concat();
    for secret in [SELLER, BUYER, "pm_card_visa", "pm_sandbox_slow", "Bearer", "eyJ", "sk_test", "Concert"] {
        assert!(!told.contains(secret), "{secret} is in a trace");
    }
    world.end().await
}

const BOUGHT: [&str; 7] = [
    "order.created",
    "ticket.updated",
    "order.awaiting_payment",
    "payment.created",
    "payment.succeeded",
    "order.completed",
    "ticket.updated",
];
const LEFT: [&str; 6] = [
    "order.created",
    "ticket.updated",
    "order.awaiting_payment",
    "expiration.expired",
    "order.cancelled",
    "ticket.updated",
];
const REFUNDED: [&str; 10] = [
    "order.created",
    "ticket.updated",
    "order.awaiting_payment",
    "payment.created",
    "expiration.expired",
    "order.cancelled",
    "ticket.updated",
    "payment.succeeded",
    "payment.refund_started",
    "payment.refunded",
];

/// The topics, as far as traces go: each event's kind, key, trace and span.
struct Tales(Vec<(String, String, String, String)>);

impl Tales {
    async fn of(world: &World) -> Result<Self> {
        let mut tales = Vec::new();
        for topic in TOPICS {
            for event in history::first_appearances(world, topic).await? {
                let parent: Vec<&str> = event.header("traceparent")?.split('-').collect();
                let [_, trace, span, _] = parent[..] else { anyhow::bail!("not a traceparent: {event:?}") };
                let (kind, trace, span) = (event.header("ce_type")?.to_owned(), trace.to_owned(), span.to_owned());
                tales.push((kind, event.key.clone(), trace, span));
            }
        }
        Ok(Self(tales))
    }

    fn trace_of(&self, order: &str) -> Result<String> {
        let created = self.0.iter().find(|(kind, key, ..)| kind == "order.created" && key == order);
        Ok(created.with_context(|| format!("{order} was never created"))?.2.clone())
    }
}

/// Every event of a story has its span in the trace, and below it those who read it.
fn tells_all_events(trace: &Trace, tales: &Tales, order: &str, expected: &[&str]) -> Result<()> {
    let mut kinds = Vec::new();
    for (kind, key, _, span) in tales.0.iter().filter(|(_, _, id, _)| *id == trace.id) {
        ensure!(key == order || kind == "ticket.updated", "{kind} of {key} is in the trace of {order}");
        kinds.push(kind.as_str());
        let create = trace.span(span)?;
        ensure!(create.tag("cloudevents.event_type") == kind, "{create:?} tells of {kind}");
        let topic = create.tag("messaging.destination.name");
        let process = format!("process {topic}");
        let readers: BTreeSet<&str> = trace.below(create).map(|span| span.service.as_str()).collect();
        ensure!(trace.below(create).all(|span| span.name == process), "below {create:?} in\n{trace}");
        let all = match topic {
            "orders" => BTreeSet::from(["expiration", "payments", "tickets"]),
            _ => BTreeSet::from(["orders"]),
        };
        ensure!(readers == all, "{readers:?} read {kind} in\n{trace}");
    }
    let (mut kinds, mut expected) = (kinds, expected.to_vec());
    kinds.sort_unstable();
    expected.sort_unstable();
    ensure!(kinds == expected, "{kinds:?} instead of {expected:?}");
    Ok(())
}

/// OpenTelemetry's conventions, for each kind of span: <https://opentelemetry.io/docs/specs/semconv/messaging/kafka/> and
/// <https://opentelemetry.io/docs/specs/semconv/rpc/grpc/>.
fn keeps_conventions(span: &Span) -> Result<()> {
    let (operation, _) = span.name.split_once(' ').unwrap_or((&span.name, ""));
    let (kind, told): (_, &[&str]) = match operation {
        "create" => ("producer", &["messaging.kafka.message.key", "cloudevents.event_type"]),
        "send" => ("client", &["messaging.batch.message_count"]),
        "process" => (
            "consumer",
            &[
                "messaging.consumer.group.name",
                "messaging.destination.partition.id",
                "messaging.kafka.offset",
                "messaging.kafka.message.key",
            ],
        ),
        "transaction" => ("internal", &["db.system.name", "ticketing.lane"]),
        "provider" => ("client", &["server.address", "ticketing.outcome"]),
        "timer" | "job" => ("internal", &[]),
        path if path.starts_with("ticketing.") => {
            ("server", &["rpc.system", "rpc.service", "rpc.method", "rpc.grpc.status_code"])
        }
        other => anyhow::bail!("what is {other}?"),
    };
    ensure!(span.tag("span.kind") == kind, "{span:?} is of kind {kind}");
    for name in told {
        ensure!(!span.tag(name).is_empty(), "{span:?} doesn't say {name}");
    }
    if let "create" | "send" | "process" = operation {
        ensure!(span.name == format!("{operation} {}", span.tag("messaging.destination.name")), "{span:?}");
        ensure!(span.tag("messaging.system") == "kafka", "{span:?}");
        ensure!(span.tag("messaging.operation.type") == operation, "{span:?}");
        ensure!(span.tag("messaging.operation.name") == operation, "{span:?}");
    }
    if kind == "server" {
        ensure!(span.name == format!("{}/{}", span.tag("rpc.service"), span.tag("rpc.method")), "{span:?}");
    }
    Ok(())
}

/// Whatever changed something is linked to the one transaction that did it, and that to them.
fn commands_are_linked_to_their_transaction<'a, I: Iterator<Item = &'a Span>>(spans: impl Fn() -> I) -> Result<()> {
    let transactions = || spans().filter(|span| span.name.starts_with("transaction "));
    for create in spans().filter(|span| span.name.starts_with("create ")) {
        // The link to a cause in another trace, else the cause is the parent.
        let cause = create.links.first().map_or(create.parent.as_deref(), |(_, span)| Some(span));
        let cause = spans().find(|span| Some(span.id.as_str()) == cause).with_context(|| format!("{create:?}"))?;
        let linked = |transaction: &&Span| cause.links.iter().any(|(_, id)| *id == transaction.id);
        let transaction = transactions().find(linked).with_context(|| format!("no transaction of {cause:?}"))?;
        ensure!(transaction.service == cause.service, "{transaction:?} of {cause:?}");
        ensure!(transaction.links.iter().any(|(_, id)| *id == cause.id), "{transaction:?} isn't linked to {cause:?}");
    }
    let batch = transactions().find(|span| span.tag("ticketing.lane") == "orders-tickets").context("a consumer's")?;
    for (name, value) in [
        ("messaging.system", "kafka"),
        ("messaging.destination.name", "tickets"),
        ("messaging.consumer.group.name", "orders-tickets"),
    ] {
        ensure!(batch.tag(name) == value, "{batch:?}");
    }
    ensure!(batch.tag("messaging.batch.message_count").parse::<u32>()? >= 1, "{batch:?}");
    Ok(())
}
