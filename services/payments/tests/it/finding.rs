//! Looking the truth up, where asking again can't tell it.

use std::time::Duration;

use payments::provider::{Charge, Fault, Outcome, Provider as _, SETTLED_AFTER, Trouble, Why};
use serde_json::json;
use shared::money::{Currency, Money};

use crate::support::{SOON, VISA, World, call, charge, declined};

#[tokio::test]
async fn a_charge_is_found_by_its_payment_and_nothing_counts_only_when_it_has_settled() {
    let world = World::new().await;
    let find = async |charge, age| world.stripe.find_charge(charge, age, &call(SOON)).await;

    let (taken, _) = world.charged().await;
    let found = find(&taken, Duration::ZERO).await;
    assert!(matches!(found, Ok(Some(Outcome::Succeeded { .. }))), "{found:?}");

    let refused = charge("pm_card_visa_chargeDeclinedLostCard");
    world.charge(&refused).await.unwrap();
    assert_eq!(find(&refused, Duration::ZERO).await, Ok(Some(declined("lost_card"))));

    let never = charge(VISA);
    let just_before = SETTLED_AFTER.saturating_sub(Duration::from_millis(1));
    assert_eq!(find(&never, just_before).await, Err(Trouble::Unclear { why: Why::NotSettled, retry_after: None }));
    assert_eq!(find(&never, SETTLED_AFTER).await, Ok(None));
}

#[tokio::test]
async fn a_charge_that_was_never_made_never_is_once_it_is_voided() {
    let world = World::new().await;
    for method in [VISA, "pm_card_chargeDeclined"] {
        let charge = charge(method);
        for _ in 0..2 {
            assert_eq!(world.void(&charge).await, Ok(None), "{method}");
        }
        // By whoever was to make it, and comes after all.
        let late = world.charge(&charge).await.unwrap_err();
        assert!(matches!(late, Trouble::Broken { fault: Fault::BadRequest, status: 400, .. }), "{method}: {late}");
        let find = world.stripe.find_charge(&charge, SETTLED_AFTER, &call(SOON)).await;
        assert_eq!(find, Ok(None), "{method}: what voids it isn't taken for it");
        assert_eq!(world.movements(charge.order_id).await, 0, "{method}");
    }
    let unsupported = Charge { amount: Money::new(Currency::USD, 1), ..charge(VISA) };
    assert_eq!(world.void(&unsupported).await, Ok(None));
}

#[tokio::test]
async fn a_charge_that_was_made_is_heard_of_when_it_is_to_be_voided() {
    let world = World::with(|_| {}, "1s").await;
    // Whoever asks for it is gone before the answer comes.
    let ask = async |charge: &Charge| {
        let fault = json!({ "operation": "charge", "fault": "charge_then_hang", "order_id": charge.order_id });
        world.switch(fault).await;
        let begun = async {
            let unknown = Err(Trouble::Unclear { why: Why::NotSettled, retry_after: None });
            while world.stripe.find_charge(charge, Duration::ZERO, &call(SOON)).await == unknown {}
        };
        tokio::select! {
            answered = world.charge(charge) => panic!("{answered:?}"),
            () = begun => {}
        }
    };
    for (method, movements) in [(VISA, 1), ("pm_card_chargeDeclined", 0), ("pm_sandbox_slow", 1)] {
        let charge = charge(method);
        ask(&charge).await;
        let outcome = world.void(&charge).await.unwrap().unwrap();
        match &outcome {
            Outcome::Succeeded { .. } => assert_eq!(movements, 1, "{method}"),
            other => assert_eq!((other, movements), (&declined("generic_decline"), 0), "{method}"),
        }
        assert_eq!(world.charge(&charge).await, Ok(outcome), "{method}");
        assert_eq!(world.movements(charge.order_id).await, movements, "{method}");
    }
}

#[tokio::test]
async fn a_refund_is_found_by_its_charge_and_none_is_none_at_once() {
    let world = World::new().await;
    let (_, refund) = world.charged().await;
    assert_eq!(world.stripe.find_refund(&refund, &call(SOON)).await, Ok(None));
    let refunded = world.refund(&refund).await.unwrap();
    assert_eq!(world.stripe.find_refund(&refund, &call(SOON)).await, Ok(Some(refunded)));
}

#[tokio::test]
async fn a_kept_500_is_no_outcome_but_the_truth_behind_it_is() {
    let world = World::new().await;
    for (method, expected) in [(VISA, None), ("pm_card_chargeDeclined", Some(declined("generic_decline")))] {
        let charge = charge(method);
        let fault = json!({ "operation": "charge", "fault": "execute_then_500", "order_id": charge.order_id });
        world.switch(fault).await;
        let outcome = world.charge(&charge).await.unwrap();
        match expected {
            Some(expected) => assert_eq!(outcome, expected),
            None => assert!(matches!(outcome, Outcome::Succeeded { .. })),
        }
    }
}
