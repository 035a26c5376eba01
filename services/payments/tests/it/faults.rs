//! Everything that the sandbox can do wrong: whatever happens, money moves once, and what is told is true.

use std::time::Duration;

use futures_util::future::join_all;
use payments::provider::{Outcome, Provider as _, Trouble, Why};
use serde_json::json;

use crate::support::{SOON, VISA, World, call, charge};

const FAULTS: [&str; 6] =
    ["charge_then_hang", "answer_twice", "error_500", "execute_then_500", "rate_limited", "drop_mid_answer"];

fn hurried() -> impl Future<Output = World> {
    // What hangs is given up soon.
    World::with(|config| config.timeout = Duration::from_secs(1), "1h")
}

#[tokio::test]
async fn a_charge_succeeds_once_whatever_goes_wrong_at_first() {
    let world = hurried().await;
    for fault in FAULTS {
        let charge = charge(VISA);
        world.switch(json!({ "operation": "charge", "fault": fault, "times": 1, "order_id": charge.order_id })).await;
        let outcome = world.charge(&charge).await;
        assert!(matches!(outcome, Ok(Outcome::Succeeded { .. })), "{fault}: {outcome:?}");
        assert_eq!(world.movements(charge.order_id).await, 1, "{fault}");
        // The next one is not answered with what was left of this one.
        let (next, _) = world.charged().await;
        assert_eq!(world.movements(next.order_id).await, 1, "after {fault}");
    }
}

#[tokio::test]
async fn a_refund_is_done_once_whatever_goes_wrong_at_first() {
    let world = hurried().await;
    for fault in FAULTS {
        let (charge, refund) = world.charged().await;
        world.switch(json!({ "operation": "refund", "fault": fault, "times": 1, "order_id": charge.order_id })).await;
        let refunded = world.refund(&refund).await;
        assert!(refunded.is_ok(), "{fault}: {refunded:?}");
        assert_eq!(world.movements(charge.order_id).await, 2, "{fault}");
        assert_eq!(world.refund(&refund).await, refunded, "{fault}");
    }
}

#[tokio::test]
async fn a_refund_that_is_refused_for_now_is_done_with_the_same_key_later() {
    let world = World::new().await;
    let (charge, refund) = world.charged().await;
    world.switch(json!({ "operation": "refund", "fault": "refuse_refund", "times": 2 })).await;
    for _ in 0..2 {
        let refused = world.refund(&refund).await;
        assert_eq!(refused, Err(Trouble::Unclear { why: Why::RefusedForNow, retry_after: None }));
    }
    world.refund(&refund).await.unwrap();
    assert_eq!(world.movements(charge.order_id).await, 2);
}

#[tokio::test]
async fn what_goes_on_failing_is_trouble_and_never_an_outcome() {
    let world = World::with(|config| config.retries = 1, "1h").await;
    for (fault, why) in [("error_500", Why::ServerError), ("rate_limited", Why::RateLimited)] {
        let charge = charge(VISA);
        world.switch(json!({ "operation": "charge", "fault": fault, "times": 2, "order_id": charge.order_id })).await;
        let trouble = world.charge(&charge).await.unwrap_err();
        let Trouble::Unclear { why: got, retry_after } = trouble else { panic!("{trouble}") };
        assert_eq!((got, retry_after.is_some()), (why, why == Why::RateLimited), "{fault}");
        assert_eq!(world.movements(charge.order_id).await, 0);
        assert!(world.charge(&charge).await.is_ok(), "with the same key, later");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_charges_at_once_through_all_of_it_are_each_made_once() {
    let world = hurried().await;
    for fault in FAULTS {
        world.switch(json!({ "operation": "charge", "fault": fault, "times": 8 })).await;
    }
    let charges: Vec<_> = (0..64).map(|_| charge(VISA)).collect();
    let outcomes = join_all(charges.iter().map(|charge| async {
        loop {
            match world.stripe.charge(charge, &call(SOON)).await {
                Ok(outcome) => return outcome,
                Err(Trouble::Unclear { .. }) => {}
                Err(broken) => panic!("{broken}"),
            }
        }
    }));
    let outcomes = tokio::time::timeout(2 * SOON, outcomes).await.expect("all charged");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Succeeded { .. })));
    for charge in &charges {
        assert_eq!(world.movements(charge.order_id).await, 1);
    }
}
