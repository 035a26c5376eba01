//! Collectors of traces that are silent, full, gone, or break every connection: spans are lost, and nothing else.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use contracts::orders::v1::OrderStatus;
use futures_util::future::try_join_all;
use local::{process::Process, progress::say, wait};
use stories::{SOON, World, metrics::Page, useless_collector::UselessCollector};

const ORDERS: usize = 150;
/// For what chance does to one of the two measurements.
const SLACK: Duration = Duration::from_secs(5);
/// How long the end of a service may take, with the 2 s in it that its last spans have.
const END: Duration = Duration::from_secs(30);
/// What a service says when spans are lost, now and then as long as that lasts.
const LOST: &str = "spans are lost";

#[tokio::test]
async fn collectors_that_take_nothing_cost_spans_and_neither_orders_nor_time() -> Result<()> {
    let begun = Instant::now();
    // Given services that export every span, each to a collector that is of no use in its own way.
    let (silent, resetting, full) =
        (UselessCollector::silent().await?, UselessCollector::resetting().await?, UselessCollector::full().await?);
    let gone = UselessCollector::gone()?;
    let collectors = [("orders", &silent), ("tickets", &resetting), ("payments", &full), ("expiration", &gone)];
    let world = World::with(|stack| {
        let stack = stack.env_for_all("OTEL_BSP_MAX_QUEUE_SIZE", "256").env("orders", "ORDER_TTL", "10m");
        Ok(collectors.into_iter().fold(stack, |stack, (service, collector)| {
            stack.env(service, "OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint())
        }))
    })
    .await?;

    let unwatched = World::start().await?;

    // When many orders are placed at once, there and where nothing is exported, beside each other: whatever else the machine
    // has to do, both suffer from it.
    let (took, alone) = tokio::try_join!(many_orders(&world), many_orders(&unwatched))?;
    unwatched.end().await?;

    // Then all of them go on, about as soon; and what is lost is counted and told, now and then.
    say(format_args!("{ORDERS} orders await payment after {took:?} with such collectors, after {alone:?} without any"));
    ensure!(took < 3 * alone + SLACK, "they slow the system down: {took:?} instead of {alone:?}");
    for (service, _) in collectors {
        let lost = wait::until(&format!("{service} to say that spans are lost"), SOON, || async {
            ensure!(lines(&world, service)? > 0, "it doesn't");
            let lost = Page::of(&world, service, 0).await?.sum("trace_spans_lost_total{")?;
            ensure!(lost > 0.0, "none is lost by its count");
            Ok(lost)
        })
        .await?;
        let exported = Page::of(&world, service, 0).await?.value("trace_spans_exported_total")?;
        ensure!(exported == 0.0, "nobody took any of {service}");
        say(format_args!("{service} has lost {lost} spans"));
    }

    // And nobody's end waits for a collector that doesn't answer, for more than the last spans are allowed.
    many_orders(&world).await?;
    let processes: Vec<&Process> = world.stack().services().iter().map(|service| service.process()).collect();
    let ends = processes.iter().map(|process| async move {
        let begun = Instant::now();
        process.terminate().await?;
        anyhow::Ok((process.name(), begun.elapsed()))
    });
    for (service, took) in try_join_all(ends).await? {
        ensure!(took < END, "{service} took {took:?} to end");
        let (told, within) = (lines(&world, &service)?, begun.elapsed());
        // Every half minute while it lasts, and anew after a quarter of a minute without.
        ensure!(
            told as u64 <= 1 + within.as_secs() / 15,
            "{service} says {told} times that spans are lost, in {within:?}"
        );
        say(format_args!("{service} ended after {took:?}"));
    }
    world.end().await
}

/// Places many orders, and says how long it takes until all of them await payment.
async fn many_orders(world: &World) -> Result<Duration> {
    let (alice, bob) = (world.user("alice")?, world.user("bob")?);
    let ticket = alice.lists("Concert", 29900, ORDERS.try_into()?).await?;
    let begun = Instant::now();
    let orders = (0..ORDERS).map(|_| async {
        let order = bob.places(&ticket, 1).await?;
        bob.awaits_order(&order.id, OrderStatus::AwaitingPayment).await
    });
    try_join_all(orders).await?;
    Ok(begun.elapsed())
}

/// How often a service has said that spans are lost.
fn lines(world: &World, service: &str) -> Result<usize> {
    let log = std::fs::read_to_string(world.replica(service, 0)?.process().log())?;
    Ok(log.lines().filter(|line| line.contains(LOST)).count())
}
