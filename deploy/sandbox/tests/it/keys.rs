//! Every rule of `Idempotency-Key`.

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{Reply, Sandbox, charge_form};

#[tokio::test]
async fn a_key_is_answered_the_same_again_whatever_the_answer_was() {
    let sandbox = Sandbox::start().await;
    for (key, method, status) in [("a", "pm_card_visa", 200), ("b", "pm_card_chargeDeclined", 402)] {
        let first = sandbox.charge(key, method).await.unwrap();
        let again = sandbox.charge(key, method).await.unwrap();
        assert_eq!((first.status, first.replayed), (status, false));
        assert_eq!((again.status, again.replayed), (status, true));
        assert_eq!(first.body, again.body);
    }
    let charged = sandbox.charge("a", "pm_card_visa").await.unwrap();
    let refunds = [sandbox.refund("r", charged.id()).await.unwrap(), sandbox.refund("r", charged.id()).await.unwrap()];
    assert_eq!(refunds[0].body, refunds[1].body);
    assert_eq!(refunds.each_ref().map(|reply| (reply.status, reply.replayed)), [(200, false), (200, true)]);
    assert_eq!(sandbox.ledger("").await.len(), 2);
}

#[tokio::test]
async fn a_key_outlives_its_process() {
    let sandbox = Sandbox::start().await;
    let first = sandbox.charge("a", "pm_card_visa").await.unwrap();
    sandbox.process.restart().await.unwrap();
    let again = sandbox.charge("a", "pm_card_visa").await.unwrap();
    assert_eq!((again.replayed, again.body), (true, first.body));
    assert_eq!(sandbox.ledger("").await.len(), 1);
}

#[tokio::test]
async fn a_key_is_for_one_request_alone() {
    let sandbox = Sandbox::start().await;
    let charged = sandbox.charge("a", "pm_card_visa").await.unwrap();
    let other_amount = charge_form("a", "pm_card_visa").replace("1000", "1001");
    for reused in [
        sandbox.post("/v1/payment_intents", &other_amount, Some("a")).await.unwrap(),
        sandbox.charge("a", "pm_card_chargeDeclined").await.unwrap(),
        sandbox.refund("a", charged.id()).await.unwrap(),
    ] {
        assert_eq!((reused.status, &reused.body["error"]["type"]), (400, &json!("idempotency_error")));
    }
    // The order of parameters makes no other request.
    let mut fields: Vec<_> = charge_form("a", "pm_card_visa").split('&').map(ToOwned::to_owned).collect();
    fields.reverse();
    let again = sandbox.post("/v1/payment_intents", &fields.join("&"), Some("a")).await.unwrap();
    assert!(again.replayed, "{again:?}");
    assert_eq!(sandbox.ledger("").await.len(), 1);
}

#[tokio::test]
async fn a_key_is_spent_on_what_moves_no_money_or_on_the_charge_whichever_comes_first() {
    let sandbox = Sandbox::start().await;
    let intend = async |key| {
        let form = "amount=1000&currency=usd&metadata[order_id]=a";
        sandbox.post("/v1/payment_intents", form, Some(key)).await.unwrap()
    };
    let refused = |reply: &Reply| (reply.status, reply.body["error"]["type"].clone());

    let intended = intend("a").await;
    assert_eq!((intended.status, intended.replayed), (200, false));
    assert_eq!(refused(&sandbox.charge("a", "pm_card_visa").await.unwrap()), (400, json!("idempotency_error")));
    let again = intend("a").await;
    assert_eq!((again.replayed, again.body), (true, intended.body));
    assert!(sandbox.ledger("").await.is_empty());

    let charged = sandbox.charge("b", "pm_card_visa").await.unwrap();
    assert_eq!(refused(&intend("b").await), (400, json!("idempotency_error")));
    let again = sandbox.charge("b", "pm_card_visa").await.unwrap();
    assert_eq!((again.replayed, again.body), (true, charged.body));
    assert_eq!(sandbox.ledger("").await.len(), 1);
}

#[tokio::test]
async fn what_was_refused_before_it_began_leaves_its_key_free() {
    let sandbox = Sandbox::start().await;
    assert_eq!(sandbox.charge("a", "pm_card_unheard").await.unwrap().status, 400);
    assert_eq!(sandbox.post("/v1/payment_intents", "amount=1", Some("a")).await.unwrap().status, 400);
    assert_eq!(sandbox.refund("a", "pi_0").await.unwrap().status, 404);
    let charged = sandbox.charge("a", "pm_card_visa").await.unwrap();
    assert_eq!((charged.status, charged.replayed), (200, false));
}

#[tokio::test]
async fn without_a_key_each_request_is_another() {
    let sandbox = Sandbox::start().await;
    for _ in 0..2 {
        let form = charge_form("a", "pm_card_visa");
        assert_eq!(sandbox.post("/v1/payment_intents", &form, None).await.unwrap().status, 200);
    }
    assert_eq!(sandbox.ledger("").await.len(), 2);
    let key = "k".repeat(256);
    assert_eq!(sandbox.charge(&key, "pm_card_visa").await.unwrap().status, 400);
}

#[tokio::test]
async fn two_hundred_callers_with_one_key_make_one_charge() {
    let sandbox = Sandbox::start().await;
    let replies = join_all((0..200).map(|_| sandbox.charge("a", "pm_card_visa"))).await;

    let replies: Vec<_> = replies.into_iter().map(Result::unwrap).collect();
    let charged: Vec<_> = replies.iter().filter(|reply| reply.status == 200).collect();
    assert!(charged.iter().all(|reply| reply.id() == charged[0].id()));
    assert_eq!(charged.iter().filter(|reply| !reply.replayed).count(), 1);
    let others = replies.iter().filter(|reply| reply.status != 200);
    assert!(others.into_iter().all(|reply| reply.fault() == (409, "idempotency_key_in_use")));
    assert_eq!(sandbox.ledger("").await.len(), 1);
}
