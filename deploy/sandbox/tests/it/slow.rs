//! The method that takes its time: `pm_sandbox_slow`.

use std::time::Duration;

use serde_json::json;

use crate::{
    raw,
    support::{SOON, Sandbox, eventually},
};

/// Long enough to look at what is under way, on a busy machine.
const SLOW: (&str, &str) = ("SANDBOX_SLOW", "2s");

#[tokio::test]
async fn the_money_is_taken_at_the_end_of_the_time_and_the_key_is_in_use_until_then() {
    let sandbox = Sandbox::with(&[SLOW]).await;
    let begun = std::time::Instant::now();
    let charging = sandbox.charge("a", "pm_sandbox_slow");
    let meanwhile = async {
        let found = async || sandbox.get("/v1/payment_intents/search?query=metadata['order_id']:'a'").await;
        eventually("the intent", async || found().await.body["data"][0]["status"] == "processing").await;
        let ledger = sandbox.ledger("").await;
        let again = sandbox.charge("a", "pm_sandbox_slow").await.unwrap();
        // Unless all of that took longer than the charge does.
        if begun.elapsed() < Duration::from_secs(2) {
            assert!(ledger.is_empty());
            assert_eq!(again.fault(), (409, "idempotency_key_in_use"));
        }
    };
    let (charged, ()) = tokio::join!(charging, meanwhile);

    let charged = charged.unwrap();
    assert_eq!((charged.status, &charged.body["status"]), (200, &json!("succeeded")));
    assert!(begun.elapsed() >= Duration::from_secs(2));
    let again = sandbox.charge("a", "pm_sandbox_slow").await.unwrap();
    assert_eq!((again.replayed, again.body), (true, charged.body));
    assert_eq!(sandbox.ledger("").await.len(), 1);
}

#[tokio::test]
async fn neither_a_caller_that_hangs_up_nor_a_kill_stops_it() {
    let sandbox = Sandbox::with(&[SLOW]).await;
    for key in ["a", "b"] {
        let caller = raw::charge(sandbox.address, key, "pm_sandbox_slow").await;
        let query = format!("/v1/payment_intents/search?query=metadata['order_id']:'{key}'");
        eventually("the intent", async || sandbox.get(&query).await.body["data"][0]["status"].is_string()).await;
        drop(caller);
    }
    sandbox.process.kill().await.unwrap();
    sandbox.process.start().await.unwrap();

    eventually("the money", async || sandbox.ledger("").await.len() == 2).await;
    for key in ["a", "b"] {
        let again = sandbox.charge(key, "pm_sandbox_slow").await.unwrap();
        assert_eq!((again.status, again.replayed, &again.body["status"]), (200, true, &json!("succeeded")));
    }
    assert_eq!(sandbox.ledger("").await.len(), 2);
}

#[tokio::test]
async fn the_end_doesnt_wait_for_it() {
    let sandbox = Sandbox::with(&[("SANDBOX_SLOW", "1h")]).await;
    let charging = sandbox.charge("a", "pm_sandbox_slow");
    let ending = async {
        let query = "/v1/payment_intents/search?query=metadata['order_id']:'a'";
        eventually("the intent", async || sandbox.get(query).await.body["data"][0]["status"].is_string()).await;
        tokio::time::timeout(SOON, sandbox.process.terminate()).await.unwrap().unwrap()
    };
    let (charged, ended) = tokio::join!(charging, ending);
    assert!(charged.is_err(), "no answer says more than is known");
    assert!(ended.unwrap().success());
}
