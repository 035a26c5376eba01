//! What other systems see in Kafka: another client, in another language.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use contracts::{
    orders::v1::{CancelReason, OrderStatus},
    payments::v1::PaymentStatus,
};
use local::tools::Tools;
use serde_json::Value;
use stories::World;
use tokio::process::Command;

/// What the contract says of a topic.
struct Topic {
    name: &'static str,
    source: &'static str,
    /// The `ce_type` of each event, and what its `oneof` calls it.
    kinds: &'static [(&'static str, &'static str)],
}

const TOPICS: [Topic; 4] = [
    Topic {
        name: "tickets",
        source: "/ticketing/tickets",
        kinds: &[
            ("ticket.created", "created"),
            ("ticket.updated", "updated"),
            ("ticket.reservation_rejected", "reservation_rejected"),
        ],
    },
    Topic {
        name: "orders",
        source: "/ticketing/orders",
        kinds: &[
            ("order.created", "created"),
            ("order.awaiting_payment", "awaiting_payment"),
            ("order.completed", "completed"),
            ("order.cancelled", "cancelled"),
        ],
    },
    Topic {
        name: "payments",
        source: "/ticketing/payments",
        kinds: &[
            ("payment.created", "created"),
            ("payment.succeeded", "succeeded"),
            ("payment.failed", "failed"),
            ("payment.refund_started", "refund_started"),
            ("payment.refunded", "refunded"),
        ],
    },
    Topic { name: "expiration", source: "/ticketing/expiration", kinds: &[("expiration.expired", "expired")] },
];

#[tokio::test]
async fn a_client_in_another_language_reads_every_topic_as_the_contract_has_it() -> Result<()> {
    // Given a world in which everything has happened that can.
    let world = World::with(|stack| Ok(stack.env("orders", "ORDER_TTL", "8s"))).await?;
    let (alice, bob) = (world.user("alice")?, world.user("bob")?);
    let ticket = alice.lists("Concert: ä, 票, 🎫", 29900, 5).await?;
    let paid = bob.places(&ticket, 1).await?;
    bob.pays(&paid.id, "pm_card_chargeDeclined").await?;
    bob.pays(&paid.id, "pm_card_visa").await?;
    // Charged when it has expired.
    let expired = bob.places(&ticket, 1).await?;
    bob.pays(&expired.id, "pm_sandbox_slow").await?;
    let cancelled = bob.places(&ticket, 2).await?;
    bob.awaits_order(&cancelled.id, OrderStatus::AwaitingPayment).await?;
    bob.cancels(&cancelled.id).await?;
    let repriced = alice.reprices(&ticket.id, 100).await?;
    let rejected = bob.places(&ticket, 1).await?;
    bob.awaits_cancellation(&rejected.id, CancelReason::PriceChanged).await?;
    bob.awaits_cancellation(&expired.id, CancelReason::Expired).await?;
    bob.awaits_payment(&expired.id, PaymentStatus::Refunded).await?;
    alice.awaits_stock(&ticket.id, 4, 0, 1).await?;
    local::wait::until("payments to have told of it all", stories::SOON, || async {
        let told = stories::record::payments(&world).await?;
        let last = told.get(&expired.id).and_then(|events| events.last()).map(|event| event.version);
        ensure!(last == Some(4), "{last:?}: begun, succeeded, going back, gone back");
        Ok(())
    })
    .await?;
    local::wait::until("tickets to have told of it all", stories::SOON, || async {
        let told = stories::record::tickets(&world).await?;
        let last = told[&ticket.id].last().map(|event| event.version);
        let now = alice.ticket(&ticket.id).await?.version;
        ensure!(last == Some(now), "{last:?} of {now}");
        Ok(())
    })
    .await?;

    // When somebody reads it who has nothing but the protos and the brokers.
    let read = read(&world).await?;

    // Then each event is what the contract says.
    for Topic { name, source, kinds } in TOPICS {
        let answer = &read[name];
        assert_eq!(answer["partitions"], 6);
        let settings = &answer["settings"];
        assert_eq!(settings["retention.ms"], "-1", "the topics are the system's memory");
        assert_eq!(settings["message.timestamp.type"], "LogAppendTime");
        assert_eq!(settings["cleanup.policy"], "delete");
        let records = answer["records"].as_array().context("records")?;
        let seen: BTreeSet<(&str, &str)> = records
            .iter()
            .filter_map(|record| Some((record["headers"]["ce_type"].as_str()?, record["change"].as_str()?)))
            .collect();
        assert_eq!(seen, kinds.iter().copied().collect(), "{name}");
        for record in records {
            check(record, source).with_context(|| format!("{name}: {record:#}"))?;
        }
    }

    // And the whole state is in the last event of each key.
    let last =
        read["tickets"]["records"].as_array().and_then(|all| all.iter().rfind(|record| record["key"] == *ticket.id));
    let value = &last.context("the ticket's last event")?["value"];
    assert_eq!(value["ticket"]["title"], "Concert: ä, 票, 🎫");
    assert_eq!(value["ticket"]["revision"], repriced.revision.to_string());
    assert_eq!(value["ticket"]["available"], 4);

    // And every event about an order is in the trace of its CreateOrder, though nobody exports anything.
    let mut traces: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for record in TOPICS.iter().flat_map(|topic| read[topic.name]["records"].as_array().into_iter().flatten()) {
        if let Some(order) = order_of(record) {
            let traceparent = record["headers"]["traceparent"].as_str().unwrap_or_default();
            traces.entry(order).or_default().insert(traceparent.get(3..35).unwrap_or_default().to_owned());
        }
    }
    assert_eq!(traces.len(), 4);
    assert!(traces.values().all(|traces| traces.len() == 1), "{traces:?}");
    let distinct: BTreeSet<_> = traces.values().collect();
    assert_eq!(distinct.len(), 4, "each order in its own");
    world.end().await
}

/// The order that an event is about, if it is about one.
fn order_of(record: &Value) -> Option<String> {
    let value = &record["value"];
    let updated = &value["updated"];
    let places = [&value["order_id"], &value["reservation_rejected"]["order_id"]];
    let causes = ["reserved", "released", "sold"].map(|cause| &updated[cause]["order_id"]);
    places.into_iter().chain(causes).find_map(Value::as_str).map(ToOwned::to_owned)
}

fn check(record: &Value, source: &str) -> Result<()> {
    let key = record["key"].as_str().context("no key")?;
    ensure!(uuid::Uuid::parse_str(key).is_ok(), "the key is no id");
    ensure!(record["partition"] == record["expected_partition"], "on another partition than other clients' events");
    ensure!(record["timestamp_type"] == 1, "the time isn't the broker's");
    let headers = record["headers"].as_object().context("no headers")?;
    let names: BTreeSet<&str> = headers.keys().map(String::as_str).collect();
    let expected = [
        "ce_id",
        "ce_sequence",
        "ce_source",
        "ce_specversion",
        "ce_subject",
        "ce_time",
        "ce_type",
        "content-type",
        "traceparent",
    ];
    ensure!(names == BTreeSet::from(expected), "the headers are {names:?}");
    let header = |name: &str| headers[name].as_str().unwrap_or_default();
    ensure!(header("ce_specversion") == "1.0" && header("content-type") == "application/protobuf", "{headers:?}");
    ensure!(header("ce_source") == source && header("ce_subject") == key, "{headers:?}");
    ensure!(uuid::Uuid::parse_str(header("ce_id")).is_ok(), "ce_id is no id");
    ensure!(header("ce_sequence").parse::<u64>().is_ok(), "ce_sequence is no number");
    ensure!(header("ce_time").ends_with('Z') && header("ce_time").len() == "2026-01-01T00:00:00.000000Z".len());
    let traceparent = header("traceparent");
    ensure!(traceparent.len() == 55 && traceparent.starts_with("00-"), "traceparent");
    Ok(())
}

async fn read(world: &World) -> Result<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("reader.py");
    let folder = tempfile::tempdir()?;
    let descriptors = folder.path().join("descriptors.binpb");
    std::fs::write(&descriptors, contracts::DESCRIPTORS)?;
    let mut python = Command::new(Tools::from_env()?.python().await?);
    python.arg(script).arg(&world.stack().shared_servers().kafka_brokers).arg(world.stack().topic_prefix());
    python.arg(descriptors).args(TOPICS.map(|topic| topic.name)).kill_on_drop(true);
    let output =
        tokio::time::timeout(stories::SOON, python.output()).await.context("waited for the reader to end")??;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}
