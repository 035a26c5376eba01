//! What is definite.

use std::time::Duration;

use payments::provider::{Charge, Fault, Outcome, Provider as _, Refund, Trouble, UNKNOWN_METHOD, Why};
use shared::{
    config::Secret,
    money::{Currency, Money},
};

use crate::support::{VISA, World, call, charge, declined};

#[tokio::test]
async fn money_is_taken_and_given_back_once_however_often_it_is_asked() {
    let world = World::new().await;
    let charge = charge(VISA);
    let first = world.charge(&charge).await.unwrap();
    assert_eq!(world.charge(&charge).await.unwrap(), first);
    let Outcome::Succeeded { reference } = first else { panic!("{first:?}") };
    assert!(reference.starts_with("pi_"));

    let refund = Refund {
        key: "r".to_owned(),
        order_id: charge.order_id,
        payment_id: charge.payment_id,
        charge: reference,
        amount: charge.amount,
    };
    let refunded = world.refund(&refund).await.unwrap();
    assert!(refunded.reference.starts_with("re_"));
    assert_eq!(world.refund(&refund).await.unwrap(), refunded);
    let by_another_key = Refund { key: "s".to_owned(), ..refund };
    assert_eq!(world.refund(&by_another_key).await.unwrap(), refunded, "what was given back is given back");
    assert_eq!(world.movements(charge.order_id).await, 2);
}

#[tokio::test]
async fn a_decline_is_definite_and_has_its_code() {
    let world = World::new().await;
    for (method, code) in [
        ("pm_card_chargeDeclined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card"),
        ("pm_card_unheard", UNKNOWN_METHOD),
    ] {
        let charge = charge(method);
        for _ in 0..2 {
            assert_eq!(world.charge(&charge).await, Ok(declined(code)), "{method}");
        }
        assert_eq!(world.movements(charge.order_id).await, 0);
    }
    for (amount, code) in [(49, "amount_too_small"), (100_000_000, "amount_too_large")] {
        let charge = Charge { amount: Money::new(Currency::USD, amount), ..charge(VISA) };
        assert_eq!(world.charge(&charge).await, Ok(declined(code)), "{amount}");
        assert_eq!(world.movements(charge.order_id).await, 0);
    }
}

#[tokio::test]
async fn a_charge_that_takes_its_time_is_under_way_until_it_is_done() {
    let world = World::with(|config| config.timeout = Duration::from_millis(200), "1500ms").await;
    let charge = charge("pm_sandbox_slow");
    let hurried = world.stripe.charge(&charge, &call(Duration::from_millis(300))).await;
    assert_eq!(hurried, Err(Trouble::Unclear { why: Why::TimedOut, retry_after: None }));
    let found = world.stripe.find_charge(&charge, Duration::MAX, &call(Duration::from_secs(1))).await;
    assert!(
        matches!(found, Ok(Some(Outcome::Succeeded { .. })) | Err(Trouble::Unclear { why: Why::UnderWay, .. })),
        "never nothing: {found:?}"
    );
    let patient = world.charge(&charge).await;
    assert!(matches!(patient, Ok(Outcome::Succeeded { .. })), "{patient:?}");
    assert_eq!(world.movements(charge.order_id).await, 1);
}

#[tokio::test]
async fn what_only_people_can_mend_is_told_apart_and_is_no_refusal() {
    let world = World::new().await;
    let charge = charge(VISA);
    world.charge(&charge).await.unwrap();
    let other_amount = Charge { amount: Money::new(Currency::USD, 50), ..charge.clone() };
    let reused = world.charge(&other_amount).await.unwrap_err();
    assert!(matches!(reused, Trouble::Broken { fault: Fault::BadRequest, status: 400, .. }), "{reused}");

    let shut_out = World::with(|config| config.key = Secret::new("sk_live_1"), "1h").await;
    let unauthorized = shut_out.charge(&charge).await.unwrap_err();
    assert!(matches!(unauthorized, Trouble::Broken { fault: Fault::Unauthorized, status: 401, .. }), "{unauthorized}");

    let garbled = World::with(|config| config.key = Secret::new("sk_test_\n"), "1h").await;
    let unaskable = garbled.charge(&charge).await.unwrap_err();
    assert!(matches!(unaskable, Trouble::Broken { fault: Fault::BadRequest, .. }), "{unaskable}");
    assert!(!unaskable.to_string().contains("sk_test_"), "{unaskable}");
}
