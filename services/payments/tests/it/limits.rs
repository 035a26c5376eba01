//! Deadlines, places, and the breaker.

use std::time::Duration;

use payments::provider::{BreakerConfig, Provider as _, Trouble, Why};
use serde_json::json;
use tokio::time::Instant;

use crate::support::{SOON, VISA, World, call, charge};

fn why<T>(result: Result<T, Trouble>) -> Option<Why> {
    match result {
        Err(Trouble::Unclear { why, .. }) => Some(why),
        _ => None,
    }
}

#[tokio::test]
async fn the_deadline_holds_and_what_was_asked_for_may_have_happened_all_the_same() {
    let world = World::new().await;
    world.switch(json!({ "operation": "charge", "fault": "charge_then_hang" })).await;
    let charge = charge(VISA);
    let begun = Instant::now();
    assert_eq!(why(world.stripe.charge(&charge, &call(Duration::from_secs(1))).await), Some(Why::TimedOut));
    assert!(begun.elapsed() < Duration::from_secs(4), "within its deadline, not the request's limit");
    assert_eq!(world.movements(charge.order_id).await, 1);
}

#[tokio::test]
async fn waiting_for_a_place_counts_against_the_deadline() {
    let world = World::with(|config| config.calls = 1, "1h").await;
    world.switch(json!({ "operation": "charge", "fault": "charge_then_hang" })).await;
    let (first, second) = (charge(VISA), charge(VISA));
    let hang = call(Duration::from_secs(3));
    let hanging = world.stripe.charge(&first, &hang);
    let waiting = async {
        while world.movements(first.order_id).await == 0 {}
        world.stripe.charge(&second, &call(Duration::from_millis(200))).await
    };
    let (_, busy) = tokio::join!(hanging, waiting);
    assert_eq!(why(busy), Some(Why::Busy));
    assert_eq!(world.movements(second.order_id).await, 0);
    assert!(world.charge(&second).await.is_ok(), "the place is free again");
}

#[tokio::test]
async fn a_provider_that_is_gone_is_left_alone_and_tried_again_after_the_pause() {
    let pause = Duration::from_secs(1);
    let change = |config: &mut payments::provider::ProviderConfig| {
        config.retries = 0;
        config.breaker = BreakerConfig { failures: 2, pause };
    };
    let mut world = World::with(change, "1h").await;
    world.go_away().await;
    let charge = charge(VISA);
    for _ in 0..2 {
        assert_eq!(why(world.charge(&charge).await), Some(Why::ConnectionLost));
    }
    let open = world.charge(&charge).await.unwrap_err();
    let Trouble::Unclear { why: Why::CircuitOpen, retry_after: Some(time) } = open else { panic!("{open}") };
    assert!(time <= pause);
    assert!(world.metrics.encode().contains("provider_breaker 2"));

    world.come_back().await;
    let deadline = Instant::now() + SOON;
    while world.charge(&charge).await.is_err() {
        assert!(Instant::now() < deadline, "waited {SOON:?} for the breaker to close");
    }
    assert_eq!(world.movements(charge.order_id).await, 1);
    let page = world.metrics.encode();
    for line in [
        "provider_breaker 0",
        "provider_requests_in_flight 0",
        "provider_calls_total{operation=\"charge\",outcome=\"succeeded\"} 1",
        "provider_calls_total{operation=\"charge\",outcome=\"connection_lost\"} 2",
        "provider_calls_total{operation=\"refund\",outcome=\"succeeded\"} 0",
    ] {
        assert!(page.contains(line), "{line} in\n{page}");
    }
}

#[tokio::test]
async fn a_rate_limit_holds_all_calls_for_as_long_as_was_asked_for() {
    let world = World::with(|config| config.retries = 0, "1h").await;
    world.switch(json!({ "operation": "charge", "fault": "rate_limited" })).await;
    assert_eq!(why(world.charge(&charge(VISA)).await), Some(Why::RateLimited));
    // Held back by this client: the switch was for one request.
    let held = world.charge(&charge(VISA)).await.unwrap_err();
    let Trouble::Unclear { why: Why::RateLimited, retry_after: Some(time) } = held else { panic!("{held}") };
    assert!(time <= Duration::from_secs(1));
}
