//! What an answer says: something definite about what was asked for, or nothing. Pure.

use serde::de::DeserializeOwned;

use super::{
    amount,
    exchange::Reply,
    objects::{ErrorBody, Found, Intent, List, RefundObject, StripeError},
};
use crate::provider::{Charge, Fault, Outcome, Refund, Refunded, Trouble, UNKNOWN_METHOD, Why};

/// What an answer comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judged<T> {
    /// This is so.
    Definite(T),
    /// Nothing is known: the same request may be made again, but not before this time has passed.
    Again(Why, Option<std::time::Duration>),
    /// Nothing is known, and making the same request again now would not tell.
    Stop(Trouble),
}

/// Stripe's own advice goes before our judgement, where that isn't definite.
pub(super) fn heed_advice<T>(reply: &Reply, judged: Judged<T>) -> Judged<T> {
    match (reply.should_retry, judged) {
        (Some(false), Judged::Again(why, retry_after)) => Judged::Stop(Trouble::Unclear { why, retry_after }),
        (Some(true), Judged::Stop(Trouble::Unclear { why, .. })) => Judged::Again(why, reply.retry_after),
        (_, judged) => judged,
    }
}

/// The answer to a charge.
pub(super) fn charge(reply: &Reply, charge: &Charge) -> Judged<Outcome> {
    match reply.status {
        200 => intent(reply, charge),
        402 => {
            let error = error(reply);
            match &error.payment_intent {
                // Somebody else's answer, on a connection that was left in disorder.
                Some(intent) if !is_of(intent, charge) => Judged::Again(Why::Unreadable, None),
                // Not Stripe's, who names a reason: somebody's on the way there.
                None if error.code.is_none() && error.decline_code.is_none() => Judged::Again(Why::Unreadable, None),
                _ => Judged::Definite(declined(&error)),
            }
        }
        400 => {
            let error = error(reply);
            // Judged before anything begins, the same way for each request with this key.
            match (error.code.as_deref(), error.param.as_deref()) {
                (Some("resource_missing"), Some("payment_method")) => {
                    Judged::Definite(Outcome::Declined { code: UNKNOWN_METHOD.to_owned() })
                }
                _ => failure(reply),
            }
        }
        _ => failure(reply),
    }
}

/// An intent, as it is or as it was when its answer was kept.
pub(super) fn intent(reply: &Reply, charge: &Charge) -> Judged<Outcome> {
    if reply.status != 200 {
        return failure(reply);
    }
    let Some(intent) = parsed::<Intent>(reply).filter(|intent| is_of(intent, charge)) else {
        return Judged::Again(Why::Unreadable, None);
    };
    match (intent.status.as_str(), &intent.last_payment_error) {
        ("succeeded", _) => Judged::Definite(Outcome::Succeeded { reference: intent.id }),
        ("requires_payment_method", Some(error)) => Judged::Definite(declined(error)),
        ("canceled", _) => Judged::Definite(Outcome::Declined { code: "canceled".to_owned() }),
        // Its key's answer stays like this; the intent doesn't.
        _ if reply.replayed => Judged::Stop(Trouble::unclear(Why::AnswerKept)),
        _ => Judged::Stop(Trouble::unclear(Why::UnderWay)),
    }
}

/// The ids that a search has found.
pub(super) fn found(reply: &Reply) -> Judged<Vec<String>> {
    match reply.status {
        200 => match parsed::<List<Found>>(reply) {
            Some(list) => Judged::Definite(list.data.into_iter().map(|found| found.id).collect()),
            None => Judged::Again(Why::Unreadable, None),
        },
        _ => failure(reply),
    }
}

/// The answer to a refund; `None`: it was done before, by whomever.
pub(super) fn refund(reply: &Reply, refund: &Refund) -> Judged<Option<Refunded>> {
    match reply.status {
        200 => match parsed::<RefundObject>(reply).filter(|object| gives_back(object, refund)) {
            Some(object) if counts(&object) => Judged::Definite(Some(Refunded { reference: object.id })),
            Some(_) => Judged::Stop(Trouble::unclear(Why::AnswerKept)),
            None => Judged::Again(Why::Unreadable, None),
        },
        400 => match error(reply).code.as_deref() {
            Some("charge_already_refunded") => Judged::Definite(None),
            Some("balance_insufficient" | "insufficient_funds") => Judged::Stop(Trouble::unclear(Why::RefusedForNow)),
            _ => failure(reply),
        },
        _ => failure(reply),
    }
}

/// The refund that gives a charge back, among all of the charge's: ours before others'.
pub(super) fn refunds(reply: &Reply, refund: &Refund) -> Judged<Option<Refunded>> {
    if reply.status != 200 {
        return failure(reply);
    }
    let Some(list) = parsed::<List<RefundObject>>(reply) else { return Judged::Again(Why::Unreadable, None) };
    let about_another = |object: &RefundObject| object.payment_intent.as_ref() != Some(&refund.charge);
    if list.data.iter().any(about_another) {
        return Judged::Again(Why::Unreadable, None);
    }
    let given_back: Vec<_> = list.data.into_iter().filter(counts).collect();
    // By parts is as good as at once.
    let sum = given_back.iter().fold(0_i64, |sum, object| sum.saturating_add(object.amount));
    let payment_id = refund.payment_id.to_string();
    let ours = given_back.iter().find(|object| object.metadata.get("payment_id") == Some(&payment_id));
    let best = ours.or(given_back.first()).filter(|_| amount::of(refund.amount).is_some_and(|all| sum >= all));
    Judged::Definite(best.map(|object| Refunded { reference: object.id.clone() }))
}

/// What a log may hold of what the provider says: one line, not too long, and no key, not even a masked one.
fn loggable(message: &str) -> String {
    const LONGEST: usize = 200;
    let words = message.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let words = words.map(|word| if word.contains("sk_") || word.contains("rk_") { "[key]" } else { word });
    words.collect::<Vec<_>>().join(" ").chars().take(LONGEST).collect()
}

/// What all answers that are no objects have in common.
fn failure<T>(reply: &Reply) -> Judged<T> {
    let StripeError { code, message, .. } = error(reply);
    let broken = |fault| {
        let message = loggable(message.as_deref().unwrap_or_default());
        Judged::Stop(Trouble::Broken { fault, status: reply.status, code: code.clone(), message })
    };
    match (reply.status, code.as_deref()) {
        (401 | 403, _) => broken(Fault::Unauthorized),
        (409, _) => Judged::Again(Why::UnderWay, reply.retry_after),
        (429, _) => Judged::Again(Why::RateLimited, reply.retry_after),
        (500.., _) if reply.replayed => Judged::Stop(Trouble::unclear(Why::AnswerKept)),
        (500.., _) => Judged::Again(Why::ServerError, reply.retry_after),
        (400..=499, _) => broken(Fault::BadRequest),
        _ => Judged::Again(Why::Unreadable, None),
    }
}

fn declined(error: &StripeError) -> Outcome {
    let code = error.decline_code.as_ref().or(error.code.as_ref());
    Outcome::Declined { code: code.map_or_else(|| "card_declined".to_owned(), Clone::clone) }
}

/// Whether an intent is that of a charge.
fn is_of(intent: &Intent, charge: &Charge) -> bool {
    intent.metadata.get("payment_id") == Some(&charge.payment_id.to_string())
        && Some(intent.amount) == amount::of(charge.amount)
        && intent.currency.eq_ignore_ascii_case(charge.amount.currency_code())
}

/// Whether a refund is the one that was asked for.
fn gives_back(object: &RefundObject, refund: &Refund) -> bool {
    object.payment_intent.as_ref() == Some(&refund.charge)
        && Some(object.amount) == amount::of(refund.amount)
        && object.currency.eq_ignore_ascii_case(refund.amount.currency_code())
}

/// Whether a refund's money is back or on its way.
fn counts(object: &RefundObject) -> bool {
    matches!(object.status.as_deref(), Some("succeeded" | "pending"))
}

fn parsed<T: DeserializeOwned>(reply: &Reply) -> Option<T> {
    serde_json::from_slice(&reply.body).ok()
}

fn error(reply: &Reply) -> StripeError {
    parsed::<ErrorBody>(reply).unwrap_or_default().error
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};
    use shared::money::{Currency, Money};
    use uuid::Uuid;

    use super::*;

    const SECOND: Option<Duration> = Some(Duration::from_secs(1));

    fn our_charge() -> Charge {
        Charge {
            key: "k".to_owned(),
            order_id: Uuid::nil(),
            payment_id: Uuid::max(),
            amount: Money::new(Currency::USD, 100),
            method: "pm_card_visa".to_owned(),
        }
    }

    fn reply(status: u16, body: &Value) -> Reply {
        Reply { status, replayed: false, should_retry: None, retry_after: None, body: body.to_string().into() }
    }

    fn intent_with(change: &Value) -> Value {
        let mut intent = json!({
            "id": "pi_1", "status": "succeeded", "amount": 100, "currency": "usd", "last_payment_error": null,
            "metadata": { "payment_id": Uuid::max() },
        });
        for (name, value) in change.as_object().into_iter().flatten() {
            intent[name] = value.clone();
        }
        intent
    }

    #[test]
    fn an_intent_counts_only_if_it_is_this_charges_and_has_come_to_an_end() {
        let declined = |code: &str| Judged::Definite(Outcome::Declined { code: code.to_owned() });
        let error = json!({ "code": "card_declined", "decline_code": "lost_card" });
        for (change, expected) in [
            (json!({}), Judged::Definite(Outcome::Succeeded { reference: "pi_1".to_owned() })),
            (json!({ "status": "requires_payment_method", "last_payment_error": error }), declined("lost_card")),
            (json!({ "status": "canceled" }), declined("canceled")),
            (json!({ "status": "processing" }), Judged::Stop(Trouble::unclear(Why::UnderWay))),
            (json!({ "status": "requires_payment_method" }), Judged::Stop(Trouble::unclear(Why::UnderWay))),
            (json!({ "status": "unheard" }), Judged::Stop(Trouble::unclear(Why::UnderWay))),
            (json!({ "amount": 101 }), Judged::Again(Why::Unreadable, None)),
            (json!({ "currency": "eur" }), Judged::Again(Why::Unreadable, None)),
            (json!({ "metadata": { "payment_id": Uuid::nil() } }), Judged::Again(Why::Unreadable, None)),
            (json!({ "metadata": {} }), Judged::Again(Why::Unreadable, None)),
            (json!({ "id": null }), Judged::Again(Why::Unreadable, None)),
        ] {
            assert_eq!(charge(&reply(200, &intent_with(&change)), &our_charge()), expected, "{change}");
        }
    }

    #[test]
    fn an_error_is_a_refusal_only_if_it_says_so_of_this_charge() {
        let broken = |status, fault, code: Option<&str>| {
            let code = code.map(ToOwned::to_owned);
            Judged::Stop(Trouble::Broken { fault, status, code, message: String::new() })
        };
        let declined = |code: &str| Judged::Definite(Outcome::Declined { code: code.to_owned() });
        let another = intent_with(&json!({ "metadata": { "payment_id": Uuid::nil() } }));
        for (status, error, expected) in [
            (402, json!({ "code": "card_declined", "decline_code": "lost_card" }), declined("lost_card")),
            (402, json!({ "code": "expired_card" }), declined("expired_card")),
            (402, json!({ "payment_intent": another }), Judged::Again(Why::Unreadable, None)),
            (402, json!({}), Judged::Again(Why::Unreadable, None)),
            (400, json!({ "code": "resource_missing", "param": "payment_method" }), declined(UNKNOWN_METHOD)),
            (400, json!({}), broken(400, Fault::BadRequest, None)),
            (404, json!({ "code": "resource_missing" }), broken(404, Fault::BadRequest, Some("resource_missing"))),
            (401, json!({}), broken(401, Fault::Unauthorized, None)),
            (403, json!({}), broken(403, Fault::Unauthorized, None)),
            (409, json!({ "code": "idempotency_key_in_use" }), Judged::Again(Why::UnderWay, None)),
            (429, json!({}), Judged::Again(Why::RateLimited, None)),
            (500, json!({}), Judged::Again(Why::ServerError, None)),
            (503, json!({}), Judged::Again(Why::ServerError, None)),
            (302, json!({}), Judged::Again(Why::Unreadable, None)),
        ] {
            let judged = charge(&reply(status, &json!({ "error": error })), &our_charge());
            assert_eq!(judged, expected, "{status} {error}");
        }
        let kept = Reply { replayed: true, ..reply(500, &json!({})) };
        assert_eq!(charge(&kept, &our_charge()), Judged::Stop(Trouble::unclear(Why::AnswerKept)));
        let page = Reply { body: b"<html>".to_vec(), ..reply(502, &json!({})) };
        assert_eq!(charge(&page, &our_charge()), Judged::Again(Why::ServerError, None));
    }

    #[test]
    fn stripes_advice_settles_whether_to_ask_again_and_nothing_else() {
        let advised = |advice| Reply { should_retry: advice, retry_after: SECOND, ..reply(500, &json!({})) };
        let again = || Judged::Again(Why::ServerError, SECOND);
        let stop = || Judged::Stop(Trouble::unclear(Why::UnderWay));
        let broken = || {
            let message = String::new();
            Judged::Stop(Trouble::Broken { fault: Fault::Unauthorized, status: 401, code: None, message })
        };
        for (advice, judged, expected) in [
            (None, again(), again()),
            (Some(true), again(), again()),
            (Some(false), again(), { Judged::Stop(Trouble::Unclear { why: Why::ServerError, retry_after: SECOND }) }),
            (Some(true), stop(), Judged::Again(Why::UnderWay, SECOND)),
            (Some(false), stop(), stop()),
            (Some(true), broken(), broken()),
            (Some(false), Judged::Definite(()), Judged::Definite(())),
        ] {
            assert_eq!(heed_advice(&advised(advice), judged), expected, "{advice:?}");
        }
    }

    #[test]
    fn what_the_provider_says_is_logged_in_one_line_and_without_keys() {
        for (message, expected) in [
            ("No such PaymentMethod: 'pm_1'", "No such PaymentMethod: 'pm_1'"),
            ("Invalid API Key provided: sk_test_****abcd", "Invalid API Key provided: [key]"),
            ("The key 'rk_live_1' may not.\r\nAsk\u{1b}[31m again", "The key [key] may not. Ask [31m again"),
        ] {
            assert_eq!(loggable(message), expected);
        }
        assert_eq!(loggable(&"é".repeat(1000)), "é".repeat(200));
    }

    #[test]
    fn a_charge_is_given_back_when_its_refunds_add_up_whoever_made_them() {
        let refund = Refund {
            key: "r".to_owned(),
            order_id: Uuid::nil(),
            payment_id: Uuid::max(),
            charge: "pi_1".to_owned(),
            amount: Money::new(Currency::USD, 100),
        };
        let object = |id: &str, amount: i64, status: &str, payment_id: Uuid| {
            json!({
                "id": id, "amount": amount, "currency": "usd", "status": status, "payment_intent": "pi_1",
                "metadata": { "payment_id": payment_id },
            })
        };
        let (ours, theirs) = (Uuid::max(), Uuid::nil());
        for (data, expected) in [
            (vec![], None),
            (vec![object("re_1", 100, "succeeded", ours)], Some("re_1")),
            (vec![object("re_1", 100, "pending", ours)], Some("re_1")),
            (vec![object("re_1", 100, "failed", ours)], None),
            (vec![object("re_1", 60, "succeeded", theirs)], None),
            (vec![object("re_1", 60, "succeeded", theirs), object("re_2", 40, "succeeded", ours)], Some("re_2")),
            (vec![object("re_1", 100, "succeeded", theirs)], Some("re_1")),
        ] {
            let body = json!({ "data": data });
            let expected = expected.map(|id: &str| Refunded { reference: id.to_owned() });
            assert_eq!(refunds(&reply(200, &body), &refund), Judged::Definite(expected), "{body}");
        }
        let mut about_another = object("re_1", 100, "succeeded", ours);
        about_another["payment_intent"] = json!("pi_2");
        let judged = refunds(&reply(200, &json!({ "data": [about_another] })), &refund);
        assert_eq!(judged, Judged::Again(Why::Unreadable, None));
    }
}
