//! Every switch, and that it is one charge whatever goes wrong.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::{
    raw,
    support::{Sandbox, eventually},
};

fn once(operation: &str, fault: &str) -> Value {
    json!({ "operation": operation, "fault": fault, "times": 1 })
}

#[tokio::test]
async fn charge_then_hang_takes_the_money_and_holds_the_connection() {
    let sandbox = Sandbox::start().await;
    sandbox.switch(once("charge", "charge_then_hang")).await;
    let mut caller = raw::charge(sandbox.address, "a", "pm_card_visa").await;
    eventually("the money", async || sandbox.ledger("").await.len() == 1).await;
    let mut byte = [0];
    let silence = tokio::time::timeout(Duration::from_millis(200), caller.read(&mut byte)).await;
    assert!(silence.is_err(), "neither an answer nor an end");

    let again = sandbox.charge("a", "pm_card_visa").await.unwrap();
    assert_eq!((again.status, again.replayed), (200, true));
    assert_eq!(sandbox.ledger("").await.len(), 1);
    assert!(sandbox.process.terminate().await.unwrap().unwrap().success(), "the end doesn't wait for it");
}

#[tokio::test]
async fn answer_twice_writes_the_same_bytes_again() {
    let sandbox = Sandbox::start().await;
    sandbox.switch(once("charge", "answer_twice")).await;
    let mut caller = raw::charge(sandbox.address, "a", "pm_card_visa").await;
    let mut seen = String::new();
    let mut chunk = [0; 4096];
    while seen.matches("HTTP/1.1 200 OK").count() < 2 || !seen.ends_with("}") {
        let read = caller.read(&mut chunk).await.unwrap();
        assert!(read > 0, "ended after {seen}");
        seen.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
    }
    let (one, two) = seen.split_at(seen.len() / 2);
    assert_eq!(one, two);
    assert_eq!(sandbox.ledger("").await.len(), 1);
}

#[tokio::test]
async fn drop_mid_answer_takes_the_money_and_cuts_the_answer() {
    let sandbox = Sandbox::start().await;
    sandbox.switch(once("charge", "drop_mid_answer")).await;
    let seen = raw::read_to_end(raw::charge(sandbox.address, "a", "pm_card_visa").await).await;
    assert!(seen.starts_with("HTTP/1.1 200 OK") && !seen.ends_with('}'), "{seen}");
    assert!(sandbox.charge("a", "pm_card_visa").await.unwrap().replayed);
    assert_eq!(sandbox.ledger("").await.len(), 1);
}

#[tokio::test]
async fn error_500_does_nothing_and_keeps_nothing() {
    let sandbox = Sandbox::start().await;
    sandbox.switch(once("charge", "error_500")).await;
    let failed = sandbox.charge("a", "pm_card_visa").await.unwrap();
    assert_eq!((failed.status, &failed.body["error"]["type"]), (500, &json!("api_error")));
    assert!(sandbox.ledger("").await.is_empty());
    let again = sandbox.charge("a", "pm_card_visa").await.unwrap();
    assert_eq!((again.status, again.replayed), (200, false));
}

#[tokio::test]
async fn execute_then_500_takes_the_money_and_keeps_the_500() {
    let sandbox = Sandbox::with(&[("SANDBOX_SLOW", "100ms")]).await;
    for (key, method) in [("a", "pm_card_visa"), ("b", "pm_sandbox_slow")] {
        sandbox.switch(once("charge", "execute_then_500")).await;
        let failed = sandbox.charge(key, method).await.unwrap();
        let again = sandbox.charge(key, method).await.unwrap();
        assert_eq!([failed.status, again.status], [500, 500]);
        assert_eq!([failed.replayed, again.replayed], [false, true]);
        let found = sandbox.get(&format!("/v1/payment_intents/search?query=metadata['order_id']:'{key}'")).await;
        assert_eq!(found.body["data"][0]["status"], "succeeded");
        assert_eq!(sandbox.ledger(&format!("order_id={key}")).await.len(), 1);
    }
}

#[tokio::test]
async fn rate_limited_says_when_to_come_again() {
    let sandbox = Sandbox::start().await;
    sandbox.switch(once("charge", "rate_limited")).await;
    let request = sandbox.request(reqwest::Method::POST, "/v1/payment_intents").header("idempotency-key", "a");
    let limited = request.body(crate::support::charge_form("a", "pm_card_visa")).send().await.unwrap();
    assert_eq!((limited.status().as_u16(), limited.headers()["retry-after"].to_str().unwrap()), (429, "1"));
    assert!(sandbox.ledger("").await.is_empty());
    assert!(!sandbox.charge("a", "pm_card_visa").await.unwrap().replayed);
}

#[tokio::test]
async fn refuse_refund_passes_with_time_and_then_the_same_key_is_done() {
    let sandbox = Sandbox::start().await;
    let charged = sandbox.charge("a", "pm_card_visa").await.unwrap();
    sandbox.switch(json!({ "operation": "refund", "fault": "refuse_refund", "for": "1h" })).await;
    let refused = sandbox.refund("r", charged.id()).await.unwrap();
    assert_eq!(refused.fault(), (400, "balance_insufficient"));
    assert_eq!(sandbox.get("/sandbox/faults").await.body["faults"].as_array().unwrap().len(), 1);

    let cleared = sandbox.request(reqwest::Method::DELETE, "/sandbox/faults").send().await.unwrap();
    assert_eq!(cleared.text().await.unwrap(), r#"{"faults":[]}"#);
    let refunded = sandbox.refund("r", charged.id()).await.unwrap();
    assert_eq!((refunded.status, refunded.replayed), (200, false));
}

#[tokio::test]
async fn a_switch_is_for_the_order_that_it_names_also_when_only_the_charge_does() {
    let sandbox = Sandbox::start().await;
    for operation in ["charge", "refund"] {
        sandbox.switch(json!({ "operation": operation, "fault": "error_500", "order_id": "b" })).await;
    }
    let a = sandbox.charge("a", "pm_card_visa").await.unwrap();
    assert_eq!(sandbox.charge("b", "pm_card_visa").await.unwrap().status, 500);
    let b = sandbox.charge("b", "pm_card_visa").await.unwrap();
    assert_eq!(sandbox.refund("r-a", a.id()).await.unwrap().status, 200);
    assert_eq!(sandbox.refund("r-b", b.id()).await.unwrap().status, 500);
    assert_eq!(sandbox.refund("r-b", b.id()).await.unwrap().status, 200);
}
