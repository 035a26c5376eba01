//! Every alert, provoked on a real Prometheus by what it tells of. What takes minutes in real life takes seconds here: see
//! the rules for how.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use contracts::{expiration::v1::ExpirationStatus, orders::v1::OrderStatus, payments::v1::PaymentStatus};
use local::{tools::Tools, wait};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::Value;
use stories::{
    Ledger, SERVICES, SOON, World,
    delay::{self, Delay},
    groups, history,
    ledger::{Kind, Often},
    metrics::{Alert, Prometheus},
};

/// A minute is a second.
const HASTE: u32 = 60;
const DASHBOARD: &str = include_str!("../../../../../deploy/observability/dashboard.json");

/// A system that is watched, on servers of its own, and what watches it.
async fn watched() -> Result<(World, Prometheus)> {
    let program = Tools::from_env()?.prometheus().await?;
    let world = World::unborn(|stack| {
        let stack = stack.prometheus(program, HASTE).env_for_all("METRICS_SAMPLE_EVERY", "200ms");
        Ok(stack.env("orders", "ORDER_TTL", "10s"))
    })
    .await?;
    world.stack().start().await?;
    groups::awaits_all(&world).await?;
    let prometheus = Prometheus::of(&world)?;
    // Longer than any rule looks back or waits.
    wait::until("Prometheus to have watched all of it for some time", SOON, || async {
        let up = prometheus.query("sum_over_time(up[15s]) >= 48").await?;
        ensure!(up.len() == SERVICES.len(), "{up:?}");
        Ok(())
    })
    .await?;
    Ok((world, prometheus))
}

#[tokio::test]
async fn every_alert_fires_when_what_it_tells_of_happens_and_none_before() -> Result<()> {
    // Given a system that is well, and rules that can be judged by.
    let (world, prometheus) = watched().await?;
    let rules = prometheus.rules().await?;
    let unwell: Vec<_> = rules.iter().filter(|rule| rule.health != "ok").collect();
    assert!(unwell.is_empty(), "{unwell:?}");
    let mut quiet: BTreeSet<&str> =
        rules.iter().filter(|rule| rule.kind == "alerting").map(|rule| rule.name.as_str()).collect();
    assert!(!quiet.is_empty(), "{rules:?}");
    // On a machine that has much else to do a scrape may come late; what is wrong with a rule stays.
    wait::until("nothing to fire", SOON, || async {
        let firing = prometheus.firing().await?;
        ensure!(firing.is_empty(), "{firing:?}");
        Ok(())
    })
    .await?;

    // When the provider charges what it is believed to have declined.
    let (alice, bob, olga) = (world.user("alice")?, world.user("bob")?, world.operator()?);
    let ticket = alice.lists("Concert", 29900, 50).await?;
    let declined = bob.places(&ticket, 1).await?;
    bob.awaits_order(&declined.id, OrderStatus::AwaitingPayment).await?;
    let provider = world.provider()?;
    provider.pause()?;
    let meanwhile = async {
        bob.awaits_payment(&declined.id, PaymentStatus::Pending).await?;
        is_believed_declined(&world, &declined.id).await?;
        provider.resume()
    };
    tokio::try_join!(async { Ok(bob.pays(&declined.id, "pm_card_visa").await?) }, meanwhile)?;
    awaits_firing(&prometheus, "ProviderContradicted", &[("job", "payments")]).await?;
    quiet.remove("ProviderContradicted");

    // When the provider tells nothing of a payment; when somebody forgets a transaction; when a timer can't fire, for its
    // row is locked; and when the relay of tickets can't get at its cursor.
    let forgotten = delay::superuser(&world).await?;
    forgotten.batch_execute("BEGIN; SELECT 1").await?;
    let unsure = bob.places(&ticket, 1).await?;
    bob.awaits_order(&unsure.id, OrderStatus::AwaitingPayment).await?;
    Ledger::of(&world)?.breaks(&unsure.id, Kind::Charge, "error_500", Often::For(Duration::from_secs(120))).await?;
    bob.pays(&unsure.id, "pm_card_visa").await?;
    let unfired = bob.places(&ticket, 1).await?;
    olga.awaits_timer(&unfired.id, ExpirationStatus::Scheduled).await?;
    let timer = Delay::of_timer(&world, &unfired.id).await?;
    let cursor = Delay::of_relay(&world, "tickets").await?;
    alice.lists("Unheard of", 100, 1).await?;

    // Then somebody is woken, by name.
    for (alert, labels) in [
        ("NoRelayLeader", [("job", "tickets")]),
        ("OutboxLagging", [("job", "tickets")]),
        ("TimersLate", [("job", "expiration")]),
        ("PaymentsStuck", [("status", "pending")]),
        ("OldTransaction", [("job", "orders")]),
    ] {
        awaits_firing(&prometheus, alert, &labels).await?;
        quiet.remove(alert);
    }
    // And no more, once it is over.
    cursor.ends().await?;
    timer.ends().await?;
    forgotten.batch_execute("ROLLBACK").await?;
    for alert in ["NoRelayLeader", "OutboxLagging", "TimersLate"] {
        awaits_silence(&prometheus, alert).await?;
    }

    // When a message meets a lock that nobody gives back: orders hears nothing more of a ticket.
    let held = Delay::of_ticket(&world, &ticket.id).await?;
    bob.places(&ticket, 1).await?;
    awaits_firing(&prometheus, "PartitionStuck", &[("group", "orders-tickets")]).await?;
    quiet.remove("PartitionStuck");
    held.ends().await?;
    awaits_silence(&prometheus, "PartitionStuck").await?;

    // When a database is out of reach.
    database_out_of_reach(&world, "orders", true).await?;
    awaits_firing(&prometheus, "DatabaseUnread", &[("job", "orders")]).await?;
    quiet.remove("DatabaseUnread");
    database_out_of_reach(&world, "orders", false).await?;
    awaits_silence(&prometheus, "DatabaseUnread").await?;
    world.awaits_serving("orders", true).await?;

    // When Kafka is gone.
    let kafka = world.stack().kafka().context("its own Kafka")?.process();
    kafka.kill().await?;
    for service in SERVICES {
        awaits_firing(&prometheus, "KafkaUnreachable", &[("job", service)]).await?;
    }
    quiet.remove("KafkaUnreachable");
    kafka.start().await?;
    awaits_silence(&prometheus, "KafkaUnreachable").await?;

    // When somebody writes what no service can read, and ever more of it.
    let garbage = garbage(&world, "orders");
    let woken = async {
        for group in ["tickets-orders", "payments-orders", "expiration-orders"] {
            awaits_firing(&prometheus, "PartitionStopped", &[("group", group), ("partition", "2")]).await?;
            awaits_firing(&prometheus, "ConsumerLagGrowing", &[("group", group)]).await?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        woken = woken => woken?,
        written = garbage => written.context("nobody was woken")?,
    }
    quiet.remove("PartitionStopped");
    quiet.remove("ConsumerLagGrowing");

    // When a service is gone, and when nobody is even asked any more.
    let down = rules.iter().find(|rule| rule.name == "ServiceDown").context("the rule")?;
    for service in SERVICES {
        let unheard = prometheus.query(&down.query.replace(service, "nobody")).await?;
        ensure!(unheard.iter().any(|found| found.metric["job"] == "nobody"), "without {service}: {unheard:?}");
    }
    world.replica("expiration", 0)?.process().kill().await?;
    awaits_firing(&prometheus, "ServiceDown", &[("job", "expiration")]).await?;
    quiet.remove("ServiceDown");

    assert!(quiet.is_empty(), "never provoked: {quiet:?}");
    world.end().await
}

#[tokio::test]
async fn every_query_of_the_dashboard_finds_something_before_anything_has_happened() -> Result<()> {
    let (world, prometheus) = watched().await?;
    let dashboard: Value = serde_json::from_str(DASHBOARD)?;
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().context("panels")? {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let uid = &target["datasource"]["uid"];
            ensure!(uid == "${datasource}", "{} is of {uid}", panel["title"]);
            queries.push(target["expr"].as_str().context("expr")?.replace("$job", ".*"));
        }
    }
    assert!(queries.len() > 30, "{queries:#?}");
    for query in queries {
        let found = prometheus.query(&query.replace("$__rate_interval", "5s")).await?;
        assert!(!found.is_empty(), "nothing is found by {query}");
        assert!(!query.contains("$__") || query.contains("[$__rate_interval]"), "{query}");
    }
    world.end().await
}

fn is_such(alert: &Alert, name: &str, labels: &[(&str, &str)]) -> bool {
    let has = |(label, value): &(&str, &str)| alert.labels.get(*label).is_some_and(|found| found == value);
    has(&("alertname", name)) && labels.iter().all(has)
}

async fn awaits_firing(prometheus: &Prometheus, name: &str, labels: &[(&str, &str)]) -> Result<()> {
    let begun = Instant::now();
    let alert = wait::until(&format!("{name} to fire for {labels:?}"), 2 * SOON, || async {
        let firing = prometheus.firing().await?;
        firing.iter().find(|alert| is_such(alert, name, labels)).cloned().with_context(|| format!("only {firing:?}"))
    })
    .await?;
    let summary = alert.annotations.get("summary").context("it says nothing")?;
    ensure!(!summary.contains("<no value>") && !summary.contains("error"), "{summary}");
    local::progress::say(format_args!("{name} after {:?}: {summary}", begun.elapsed()));
    Ok(())
}

async fn awaits_silence(prometheus: &Prometheus, name: &str) -> Result<()> {
    wait::until(&format!("{name} to be over"), SOON, || async {
        let firing = prometheus.firing().await?;
        let such = firing.iter().find(|alert| is_such(alert, name, &[]));
        ensure!(such.is_none(), "{such:?}");
        Ok(())
    })
    .await
}

/// Nobody can connect to a service's database, and whoever was connected isn't any more; or anybody may again.
async fn database_out_of_reach(world: &World, service: &str, out_of_reach: bool) -> Result<()> {
    let superuser = delay::superuser(world).await?;
    let url = world.replica(service, 0)?.database_url();
    let (_, database) = url.rsplit_once('/').context("a database")?;
    let allowed = !out_of_reach;
    superuser.batch_execute(&format!("ALTER DATABASE \"{database}\" WITH ALLOW_CONNECTIONS {allowed}")).await?;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    if out_of_reach {
        superuser.execute(end, &[&database]).await?;
    }
    Ok(())
}

/// Payments believes that an order's payment was declined, which the provider has yet to answer.
async fn is_believed_declined(world: &World, order_id: &str) -> Result<()> {
    let declined = format!(
        "UPDATE payments SET status = 3, failure_reason = 'card_declined' WHERE order_id = '{order_id}' AND status = 1"
    );
    let changed = delay::connect(world, "payments").await?.execute(&declined, &[]).await?;
    ensure!(changed == 1, "the provider has answered before");
    Ok(())
}

/// Writes to one partition of a topic what is no event, again and again.
async fn garbage(world: &World, topic: &str) -> Result<()> {
    let producer: FutureProducer = history::client(world).create()?;
    let topic = format!("{}{topic}", world.stack().topic_prefix());
    let begun = Instant::now();
    while begun.elapsed() < 4 * SOON {
        for _ in 0..20 {
            let record = FutureRecord::to(&topic).partition(2).key("nobody").payload(b"\xffno event");
            producer.send(record, SOON).await.map_err(|(error, _)| error)?;
        }
    }
    Ok(())
}
