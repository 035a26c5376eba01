//! What Stripe's API does.

use serde_json::json;

use crate::support::{Reply, Sandbox, charge_form};

#[tokio::test]
async fn a_charge_can_be_read_found_and_given_back() {
    let sandbox = Sandbox::start().await;
    let charged = sandbox.charge("a", "pm_card_visa").await.unwrap();
    assert_eq!(charged.status, 200, "{charged:?}");
    for (field, value) in [
        ("object", json!("payment_intent")),
        ("status", json!("succeeded")),
        ("amount", json!(1000)),
        ("amount_received", json!(1000)),
        ("currency", json!("usd")),
        ("metadata", json!({ "order_id": "a", "payment_id": "p-a" })),
        ("livemode", json!(false)),
    ] {
        assert_eq!(charged.body[field], value, "{field}");
    }
    let id = charged.id();

    let read = sandbox.get(&format!("/v1/payment_intents/{id}")).await;
    assert_eq!((read.status, &read.body), (200, &charged.body));
    for (query, found) in [
        ("metadata['payment_id']:'p-a'", 1),
        ("metadata['payment_id']:'p-a' AND metadata[\"order_id\"]:\"a\"", 1),
        ("metadata['payment_id']:'p-a' AND metadata['order_id']:'b'", 0),
        ("metadata['payment_id']:'p-'", 0),
    ] {
        let query: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let found_now = sandbox.get(&format!("/v1/payment_intents/search?query={query}")).await;
        assert_eq!(found_now.body["data"].as_array().unwrap().len(), found, "{query}: {found_now:?}");
        assert_eq!(found_now.body["object"], "search_result");
    }

    let half = sandbox.post("/v1/refunds", &format!("payment_intent={id}&amount=400"), Some("r1")).await.unwrap();
    assert_eq!((half.status, &half.body["amount"], &half.body["status"]), (200, &json!(400), &json!("succeeded")));
    let rest = sandbox.refund("r2", id).await.unwrap();
    assert_eq!((rest.status, &rest.body["amount"]), (200, &json!(600)));
    let none = sandbox.refund("r3", id).await.unwrap();
    assert_eq!(none.fault(), (400, "charge_already_refunded"));

    let refund = sandbox.get(&format!("/v1/refunds/{}", half.id())).await;
    assert_eq!(refund.body, half.body);
    let refunds = sandbox.get(&format!("/v1/refunds?payment_intent={id}")).await;
    assert_eq!(refunds.body["data"], json!([rest.body, half.body]), "newest first");
}

#[tokio::test]
async fn a_card_is_declined_with_its_code_and_no_money_moves() {
    let sandbox = Sandbox::start().await;
    for (method, code, decline_code) in [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_visa_chargeDeclinedLostCard", "card_declined", "lost_card"),
        ("pm_card_visa_chargeDeclinedStolenCard", "card_declined", "stolen_card"),
        ("pm_card_visa_chargeDeclinedVelocityLimitExceeded", "card_declined", "card_velocity_exceeded"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", "incorrect_cvc"),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", "processing_error"),
    ] {
        let declined = sandbox.charge(method, method).await.unwrap();
        assert_eq!(declined.fault(), (402, code), "{method}");
        let error = &declined.body["error"];
        assert_eq!((&error["type"], &error["decline_code"]), (&json!("card_error"), &json!(decline_code)));
        let intent = &error["payment_intent"];
        assert_eq!((&intent["status"], &intent["amount_received"]), (&json!("requires_payment_method"), &json!(0)));
        let refund = sandbox.refund(&format!("r-{method}"), intent["id"].as_str().unwrap()).await.unwrap();
        assert_eq!(refund.status, 400, "nothing was taken, so nothing can be given back");
    }
    assert!(sandbox.ledger("").await.is_empty());
}

#[tokio::test]
async fn an_intent_that_nobody_confirms_moves_no_money() {
    let sandbox = Sandbox::start().await;
    for (fields, status, method) in [
        ("", "requires_payment_method", json!(null)),
        ("&confirm=false", "requires_payment_method", json!(null)),
        ("&payment_method=pm_card_visa", "requires_confirmation", json!("pm_card_visa")),
    ] {
        let form = format!("amount=1000&currency=usd&metadata[order_id]=a{fields}");
        let intended = sandbox.post("/v1/payment_intents", &form, None).await.unwrap();
        let body = &intended.body;
        assert_eq!((intended.status, &body["status"], &body["payment_method"]), (200, &json!(status), &method));
        assert_eq!((&body["amount_received"], &body["latest_charge"]), (&json!(0), &json!(null)), "{fields}");
        assert_eq!(sandbox.get(&format!("/v1/payment_intents/{}", intended.id())).await.body, intended.body);
        let refund = sandbox.refund(&format!("r{fields}"), intended.id()).await.unwrap();
        assert_eq!(refund.fault(), (400, "payment_intent_unexpected_state"));
    }
    assert!(sandbox.ledger("").await.is_empty());
}

#[tokio::test]
async fn what_is_unknown_or_missing_is_named_as_stripe_names_it() {
    let sandbox = Sandbox::start().await;
    let charged = sandbox.charge("a", "pm_card_visa").await.unwrap();
    let too_much = format!("payment_intent={}&amount=1001", charged.id());
    for (reply, fault, param) in [
        (sandbox.get("/v1/payment_intents/pi_0").await, (404, "resource_missing"), "intent"),
        (sandbox.get("/v1/refunds/re_0").await, (404, "resource_missing"), "id"),
        (sandbox.get("/v1/refunds?payment_intent=pi_0").await, (404, "resource_missing"), "payment_intent"),
        (sandbox.refund("b", "pi_0").await.unwrap(), (404, "resource_missing"), "payment_intent"),
        (sandbox.charge("b", "pm_card_unheard").await.unwrap(), (400, "resource_missing"), "payment_method"),
        (sandbox.post("/v1/payment_intents", "", Some("b")).await.unwrap(), (400, "parameter_missing"), "amount"),
        (sandbox.post("/v1/refunds", "", Some("b")).await.unwrap(), (400, "parameter_missing"), "payment_intent"),
        (sandbox.post("/v1/refunds", &too_much, Some("b")).await.unwrap(), (400, ""), "amount"),
        (sandbox.get("/v1/payment_intents/search?query=all").await, (400, "parameter_invalid"), "query"),
        (sandbox.get("/v1/customers").await, (404, ""), ""),
    ] {
        assert_eq!(reply.fault(), fault, "{reply:?}");
        assert_eq!(reply.body["error"]["param"].as_str().unwrap_or_default(), param);
        assert_eq!(reply.body["error"]["type"], "invalid_request_error");
    }
    assert_eq!(sandbox.ledger("").await.len(), 1);
}

#[tokio::test]
async fn nobody_calls_without_a_tests_key() {
    let sandbox = Sandbox::start().await;
    let url = format!("http://{}/v1/payment_intents", sandbox.address);
    let form = charge_form("a", "pm_card_visa");
    for (user, status) in [(Some("sk_test_1"), 200), (Some("sk_live_1"), 401), (None, 401)] {
        let mut request = sandbox.http.post(&url).body(form.clone());
        if let Some(user) = user {
            request = request.basic_auth(user, Some(""));
        }
        let reply = Reply::read(request.send().await.unwrap()).await.unwrap();
        assert_eq!(reply.status, status, "{user:?}: {reply:?}");
    }
}

#[tokio::test]
async fn the_ledger_tells_every_movement_in_order_and_its_sums() {
    let sandbox = Sandbox::start().await;
    let first = sandbox.charge("a", "pm_card_visa").await.unwrap();
    sandbox.charge("b", "pm_card_visa").await.unwrap();
    sandbox.charge("c", "pm_card_chargeDeclined").await.unwrap();
    let refund = sandbox.refund("r", first.id()).await.unwrap();

    let all = sandbox.ledger("").await;
    let brief: Vec<_> = all.iter().map(|line| (&line["seq"], &line["kind"], &line["idempotency_key"])).collect();
    let expected = [(1, "charge", "a"), (2, "charge", "b"), (3, "refund", "r")]
        .map(|(seq, kind, key)| (json!(seq), json!(kind), json!(key)));
    assert_eq!(brief, expected.iter().map(|(a, b, c)| (a, b, c)).collect::<Vec<_>>());
    assert_eq!(
        (&all[2]["id"], &all[2]["amount"], &all[2]["currency"]),
        (&json!(refund.id()), &json!(1000), &json!("usd"))
    );

    for (query, seqs) in [
        ("order_id=a", &[1, 3][..]),
        ("order_id=b", &[2]),
        ("order_id=c", &[]),
        ("after=1", &[2, 3]),
        ("after=1&limit=1", &[2]),
        ("order_id=a&after=1", &[3]),
        ("limit=2", &[1, 2]),
        ("after=3", &[]),
    ] {
        let found: Vec<_> = sandbox.ledger(query).await.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
        assert_eq!(found, seqs, "{query}");
    }
    let totals = sandbox.get("/sandbox/totals").await;
    assert_eq!(totals.body, json!({ "usd": { "charges": 2, "charged": 2000, "refunds": 1, "refunded": 1000 } }));
}

#[tokio::test]
async fn sums_may_be_more_than_any_amount() {
    let sandbox = Sandbox::start().await;
    for key in ["a", "b", "c"] {
        let form = charge_form(key, "pm_card_visa").replace("1000", "99999999");
        assert_eq!(sandbox.post("/v1/payment_intents", &form, Some(key)).await.unwrap().status, 200);
    }
    let totals = sandbox.request(reqwest::Method::GET, "/sandbox/totals").send().await.unwrap();
    let text = totals.text().await.unwrap();
    assert!(text.contains(&format!("\"charged\":{}", 3 * 99_999_999)), "{text}");
}
