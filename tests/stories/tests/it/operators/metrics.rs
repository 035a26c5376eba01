//! What services show of themselves: all of it from the start, none of it more than can be known, and true.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use contracts::{
    orders::v1::{CancelReason, OrderStatus},
    payments::v1::PaymentStatus,
};
use local::wait;
use stories::{
    Ledger, Refused, SERVICES, SOON, World,
    ledger::{Kind, Often},
    metrics::Page,
};

/// What operators are told of the metrics.
const TOLD: &str = include_str!("../../../../../deploy/observability/README.md");
const BUYERS: usize = 12;

/// The families that a service is said to have: rows of a table, a name and where it is to be found.
fn told_of(service: &str) -> BTreeSet<String> {
    let rows = TOLD.lines().skip_while(|line| *line != "## Metrics").filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| {
        let (name, rest) = row.split_once("` | ")?;
        let (at, _) = rest.split_once(" |")?;
        (at == "all" || at.split(", ").any(|one| one == service)).then(|| name.to_owned())
    })
    .collect()
}

#[tokio::test]
async fn every_metric_is_there_before_anything_has_happened_and_no_buyer_adds_one() -> Result<()> {
    // Given services of which nobody has asked anything.
    let world = World::with(|stack| {
        let stack = stack.env("orders", "ORDER_TTL", "8s").env("payments", "PROVIDER_TIMEOUT", "1s");
        Ok(stack.env_for_all("METRICS_SAMPLE_EVERY", "200ms"))
    })
    .await?;

    // Then each shows what operators are told of, no more and no less.
    let mut before = BTreeMap::new();
    for service in SERVICES {
        let page = Page::of(&world, service, 0).await?;
        assert_eq!(page.families(), told_of(service), "{service}");
        before.insert(service, page.series()?);
    }
    let orders = &before["orders"];
    assert_eq!(orders["order_saga_seconds_count{outcome=\"cancelled_sold_out\"}"], 0.0);
    assert_eq!(orders["write_refusals_total{reason=\"TICKET_WITHDRAWN\"}"], 0.0);
    assert_eq!(orders["inbox_partition_stopped{group=\"orders-payments\",partition=\"5\"}"], 0.0);

    // When many buyers do all that buyers do.
    let (alice, ledger) = (world.user("alice")?, Ledger::of(&world)?);
    let ticket = alice.lists("Concert", 29900, 100).await?;
    for number in 0..BUYERS {
        let buyer = world.user(&format!("buyer-{number}"))?;
        let order = buyer.places(&ticket, 1).await?;
        buyer.awaits_order(&order.id, OrderStatus::AwaitingPayment).await?;
        match number % 4 {
            0 => {
                buyer.pays(&order.id, "pm_card_chargeDeclined").await?;
                buyer.pays(&order.id, "pm_card_visa").await?;
                buyer.awaits_order(&order.id, OrderStatus::Completed).await?;
                Refused::of(buyer.pays(&order.id, "pm_card_visa").await)?;
            }
            1 => drop(buyer.cancels(&order.id).await?),
            2 => drop(buyer.pays(&order.id, "pm_sandbox_slow").await?),
            _ => {
                buyer.awaits_cancellation(&order.id, CancelReason::Expired).await?;
            }
        }
        if number % 4 == 2 {
            buyer.awaits_payment(&order.id, PaymentStatus::Refunded).await?;
        }
    }
    // One of whose payment the provider tells nothing.
    let last = world.user("last")?;
    let unsure = last.places(&ticket, 1).await?;
    last.awaits_order(&unsure.id, OrderStatus::AwaitingPayment).await?;
    ledger.breaks(&unsure.id, Kind::Charge, "error_500", Often::For(Duration::from_secs(60))).await?;
    last.pays(&unsure.id, "pm_card_visa").await?;

    // Then that is what the pages show, each end once.
    let quarter = BUYERS as f64 / 4.0;
    for (service, series, expected) in [
        ("orders", "order_saga_seconds_count{outcome=\"completed\"}", quarter),
        ("orders", "order_saga_seconds_count{outcome=\"cancelled_buyer\"}", quarter),
        ("orders", "order_saga_seconds_count{outcome=\"cancelled_expired\"}", 2.0 * quarter + 1.0),
        ("orders", "order_saga_seconds_count{outcome=\"cancelled_sold_out\"}", 0.0),
        ("payments", "payment_outcome_seconds_count{outcome=\"succeeded\"}", 2.0 * quarter),
        ("payments", "payment_outcome_seconds_count{outcome=\"failed\"}", quarter),
        ("payments", "payment_outcome_seconds_count{outcome=\"refund_started\"}", quarter),
        ("payments", "payment_outcome_seconds_count{outcome=\"refunded\"}", quarter),
        ("payments", "payments_unsettled{status=\"pending\"}", 1.0),
        ("payments", "write_refusals_total{reason=\"ALREADY_PAID\"}", quarter),
        ("expiration", "timers_fired_total", 2.0 * quarter + 1.0),
        ("expiration", "timers_due", 0.0),
        ("tickets", "outbox_lag_events", 0.0),
        ("tickets", "outbox_lease_held", 1.0),
    ] {
        wait::until(&format!("{service} to show {series}"), SOON, || async {
            let value = Page::of(&world, service, 0).await?.value(series)?;
            ensure!(value == expected, "it is {value}, not {expected}");
            Ok(())
        })
        .await?;
    }
    wait::until("the pending payment to be known to grow old", SOON, || async {
        let page = Page::of(&world, "payments", 0).await?;
        let age = page.value("payments_unsettled_oldest_seconds{status=\"pending\"}")?;
        ensure!(age > 0.0, "{age} s");
        Ok(())
    })
    .await?;
    // Every group has read all that there is, by the database and the brokers; and every client has said something.
    for (service, client) in [("tickets", "producer"), ("tickets", "tickets-orders"), ("orders", "lag")] {
        wait::until(&format!("{service} to show how it is doing as {client}"), SOON, || async {
            let page = Page::of(&world, service, 0).await?;
            let requests = page.value(&format!("kafka_requests_total{{client=\"{client}\"}}"))?;
            let connected = page.value(&format!("kafka_connected{{client=\"{client}\"}}"))?;
            ensure!(requests > 0.0 && connected == 1.0, "{requests}, {connected}");
            Ok(())
        })
        .await?;
    }
    wait::until("orders to be behind by nothing", SOON, || async {
        let page = Page::of(&world, "orders", 0).await?;
        let lag = page.sum("inbox_lag_messages{")?;
        ensure!(lag == 0.0, "{lag}");
        let (read, handled) = (page.sum("inbox_next_offset{")?, page.sum("inbox_handled_total{")?);
        ensure!(read >= BUYERS as f64 && read == handled, "{handled} of {read} are counted");
        Ok(())
    })
    .await?;

    // And there is no series that there wasn't before: nobody's id is a label.
    for service in SERVICES {
        let page = Page::of(&world, service, 0).await?;
        let (now, then) = (page.series()?, before.get(service).context("it was there")?);
        let new: Vec<_> = now.keys().filter(|series| !then.contains_key(*series)).collect();
        assert!(new.is_empty(), "{service}: {new:?}");
        assert!(then.keys().all(|series| now.contains_key(series)), "{service} has forgotten some");
        assert!(now.len() < 2500, "{service} has {} series", now.len());
    }
    world.end().await
}
