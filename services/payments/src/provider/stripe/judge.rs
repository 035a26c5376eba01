//! What an answer says: something definite about what was asked for, or nothing. Pure.

use serde::de::DeserializeOwned;

use super::{
    amount,
    exchange::Reply,
    objects::{ErrorBody, Found, Intent, List, RefundObject, StripeError},
};
use crate::provider::{Charge, Fault, Outcome, Refund, Refunded, Trouble, UNKNOWN_METHOD, UNSUPPORTED_AMOUNT, Why};

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
        // Judged before anything begins, the same way for each request with this key.
        400 => match unchargeable(&error(reply)) {
            Some(code) => Judged::Definite(Outcome::Declined { code }),
            None => failure(reply),
        },
        _ => failure(reply),
    }
}

/// What voiding a charge's key comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voided {
    /// Nothing was charged under it, and never will be.
    Unused,
    /// It was used before, for what the kept answer tells.
    Used,
}

/// The answer to what voids a charge's key.
pub(super) fn void(reply: &Reply, charge: &Charge) -> Judged<Voided> {
    match reply.status {
        // New or kept: no other request has this key.
        200 => match parsed::<Intent>(reply).filter(|intent| names(intent, "voids", charge)) {
            Some(intent) if is_unconfirmed(&intent) => Judged::Definite(Voided::Unused),
            _ => Judged::Again(Why::Unreadable, None),
        },
        400 => match error(reply) {
            error if error.kind.as_deref() == Some("idempotency_error") => Judged::Definite(Voided::Used),
            // As the charge itself would be refused.
            error if unchargeable(&error).is_some() => Judged::Definite(Voided::Unused),
            _ => failure(reply),
        },
        _ => failure(reply),
    }
}

/// Why no request with this amount and this method can ever succeed, if that is what an error says.
fn unchargeable(error: &StripeError) -> Option<String> {
    // A key that was used for something else says nothing about the first thing it was used for.
    if error.kind.as_deref() != Some("invalid_request_error") {
        return None;
    }
    let (general, code) = match (error.param.as_deref()?, error.code.as_deref()) {
        ("currency", _) => (UNSUPPORTED_AMOUNT, None),
        // Left out, or written in a way that it can't be read: a bug of ours, to be told.
        (_, Some(code)) if code.starts_with("parameter_") => return None,
        ("payment_method", Some("resource_missing")) => (UNKNOWN_METHOD, None),
        ("payment_method", code) => (UNKNOWN_METHOD, code),
        ("amount", code) => (UNSUPPORTED_AMOUNT, code),
        _ => return None,
    };
    Some(code.and_then(known_code).unwrap_or_else(|| general.to_owned()))
}

/// An intent, as it is or as it was when its answer was kept.
pub(super) fn intent(reply: &Reply, charge: &Charge) -> Judged<Outcome> {
    if reply.status != 200 {
        return failure(reply);
    }
    let Some(intent) = parsed::<Intent>(reply).filter(|intent| is_of(intent, charge) && is_id(&intent.id)) else {
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

/// The answer to a refund; `None`: all of the charge's have to be looked at, for some of it was given back before, by
/// whomever.
pub(super) fn refund(reply: &Reply, refund: &Refund) -> Judged<Option<Refunded>> {
    match reply.status {
        200 => match parsed::<RefundObject>(reply).filter(|object| is_for(object, refund)) {
            Some(object) if !is_done(&object) => Judged::Stop(Trouble::unclear(Why::AnswerKept)),
            Some(object) if Some(object.amount) == amount::of(refund.amount) => {
                Judged::Definite(Some(Refunded { reference: object.id }))
            }
            Some(_) => Judged::Definite(None),
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
    if !list.data.iter().all(|object| is_for(object, refund)) {
        return Judged::Again(Why::Unreadable, None);
    }
    // By parts is as good as at once.
    let is_all = |objects: &[RefundObject]| {
        let sum = objects.iter().fold(0_i64, |sum, object| sum.saturating_add(object.amount));
        amount::of(refund.amount).is_some_and(|all| sum >= all)
    };
    let (done, others): (Vec<_>, Vec<_>) = list.data.into_iter().partition(is_done);
    if is_all(&done) {
        let payment_id = refund.payment_id.to_string();
        let ours = done.iter().find(|object| object.metadata.get("payment_id") == Some(&payment_id));
        return Judged::Definite(ours.or(done.first()).map(|object| Refunded { reference: object.id.clone() }));
    }
    // What is on its way may yet fail, and then it has to be done again; until that is known it must not be.
    if others.iter().any(is_under_way) {
        return Judged::Stop(Trouble::unclear(Why::UnderWay));
    }
    Judged::Definite(None)
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
    let code = [&error.decline_code, &error.code].into_iter().flatten().find_map(|code| known_code(code));
    Outcome::Declined { code: code.unwrap_or_else(|| "card_declined".to_owned()) }
}

/// A code as a payment may carry it, whoever answered: Stripe's are words of a few dozen letters.
fn known_code(code: &str) -> Option<String> {
    const LONGEST: usize = 100;
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    ((1..=LONGEST).contains(&code.len()) && code.chars().all(word)).then(|| code.to_owned())
}

/// Whether this may be an object's id: Stripe promises 255 characters at most.
fn is_id(id: &str) -> bool {
    (1..=255).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether an intent is that of a charge.
fn is_of(intent: &Intent, charge: &Charge) -> bool {
    names(intent, "payment_id", charge)
}

/// Whether an intent has a charge's payment under this name, and its amount.
fn names(intent: &Intent, name: &str, charge: &Charge) -> bool {
    intent.metadata.get(name) == Some(&charge.payment_id.to_string())
        && Some(intent.amount) == amount::of(charge.amount)
        && intent.currency.eq_ignore_ascii_case(charge.amount.currency_code())
}

/// Whether nobody has asked yet that an intent's money be taken.
fn is_unconfirmed(intent: &Intent) -> bool {
    matches!(intent.status.as_str(), "requires_payment_method" | "requires_confirmation")
}

/// Whether a refund is one of this charge's.
fn is_for(object: &RefundObject, refund: &Refund) -> bool {
    object.payment_intent.as_ref() == Some(&refund.charge)
        && object.currency.eq_ignore_ascii_case(refund.amount.currency_code())
}

/// Whether a refund's money is back.
fn is_done(object: &RefundObject) -> bool {
    object.status.as_deref() == Some("succeeded")
}

/// Whether it may be, at some time.
fn is_under_way(object: &RefundObject) -> bool {
    matches!(object.status.as_deref(), Some("pending" | "requires_action"))
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
            (json!({ "id": "pi_\u{0}" }), Judged::Again(Why::Unreadable, None)),
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
        let invalid =
            |param: &str, code: Option<&str>| json!({ "type": "invalid_request_error", "param": param, "code": code });
        for (status, error, expected) in [
            (402, json!({ "code": "card_declined", "decline_code": "lost_card" }), declined("lost_card")),
            (402, json!({ "code": "expired_card" }), declined("expired_card")),
            (402, json!({ "payment_intent": another }), Judged::Again(Why::Unreadable, None)),
            (402, json!({}), Judged::Again(Why::Unreadable, None)),
            (402, json!({ "code": "x".repeat(101) }), declined("card_declined")),
            (402, json!({ "decline_code": "a\u{0}b", "code": "expired_card" }), declined("expired_card")),
            (400, invalid("payment_method", Some("resource_missing")), declined(UNKNOWN_METHOD)),
            (400, invalid("payment_method", Some("payment_method_expired")), declined("payment_method_expired")),
            (400, invalid("payment_method", None), declined(UNKNOWN_METHOD)),
            (400, invalid("amount", Some("amount_too_small")), declined("amount_too_small")),
            (400, invalid("currency", None), declined(UNSUPPORTED_AMOUNT)),
            (400, invalid("currency", Some("parameter_invalid")), declined(UNSUPPORTED_AMOUNT)),
            (
                400,
                invalid("amount", Some("parameter_missing")),
                broken(400, Fault::BadRequest, Some("parameter_missing")),
            ),
            (400, invalid("metadata", None), broken(400, Fault::BadRequest, None)),
            (400, json!({ "type": "idempotency_error", "param": "amount" }), broken(400, Fault::BadRequest, None)),
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
    fn a_key_is_void_once_nothing_can_be_charged_under_it_and_used_only_if_that_is_said() {
        let unused = || Judged::Definite(Voided::Unused);
        let unreadable = || Judged::Again(Why::Unreadable, None);
        let broken =
            |status, fault| Judged::Stop(Trouble::Broken { fault, status, code: None, message: String::new() });
        let intent = |status: &str, amount: i64, metadata: Value| {
            intent_with(&json!({ "status": status, "amount": amount, "metadata": metadata }))
        };
        let ours = || json!({ "voids": Uuid::max() });
        let error = |error: Value| json!({ "error": error });
        let invalid = |param: &str| error(json!({ "type": "invalid_request_error", "param": param }));
        for (status, body, expected) in [
            (200, intent("requires_payment_method", 100, ours()), unused()),
            (200, intent("requires_confirmation", 100, ours()), unused()),
            (200, intent("succeeded", 100, ours()), unreadable()),
            (200, intent("processing", 100, ours()), unreadable()),
            (200, intent("requires_payment_method", 101, ours()), unreadable()),
            (200, intent("requires_payment_method", 100, json!({ "voids": Uuid::nil() })), unreadable()),
            // The charge's own, on a connection that was left in disorder.
            (200, intent("requires_payment_method", 100, json!({ "payment_id": Uuid::max() })), unreadable()),
            (200, json!({}), unreadable()),
            (400, error(json!({ "type": "idempotency_error" })), Judged::Definite(Voided::Used)),
            (400, invalid("amount"), unused()),
            (400, invalid("metadata"), broken(400, Fault::BadRequest)),
            (401, error(json!({})), broken(401, Fault::Unauthorized)),
            (402, error(json!({})), broken(402, Fault::BadRequest)),
            // Of the same type, but it says that the first request is under way.
            (409, error(json!({ "type": "idempotency_error" })), Judged::Again(Why::UnderWay, None)),
            (429, error(json!({})), Judged::Again(Why::RateLimited, None)),
            (500, error(json!({})), Judged::Again(Why::ServerError, None)),
        ] {
            assert_eq!(void(&reply(status, &body), &our_charge()), expected, "{status} {body}");
        }
        let kept = |status, body: &Value| Reply { replayed: true, ..reply(status, body) };
        assert_eq!(void(&kept(200, &intent("requires_payment_method", 100, ours())), &our_charge()), unused());
        assert_eq!(void(&kept(500, &json!({})), &our_charge()), Judged::Stop(Trouble::unclear(Why::AnswerKept)));
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

    fn our_refund() -> Refund {
        Refund {
            key: "r".to_owned(),
            order_id: Uuid::nil(),
            payment_id: Uuid::max(),
            charge: "pi_1".to_owned(),
            amount: Money::new(Currency::USD, 100),
        }
    }

    fn refund_object(id: &str, amount: i64, status: &str, payment_id: Uuid) -> Value {
        json!({
            "id": id, "amount": amount, "currency": "usd", "status": status, "payment_intent": "pi_1",
            "metadata": { "payment_id": payment_id },
        })
    }

    #[test]
    fn a_refund_is_done_when_its_money_is_back_and_all_of_it() {
        let object = |amount, status| refund_object("re_1", amount, status, Uuid::max());
        let done = Judged::Definite(Some(Refunded { reference: "re_1".to_owned() }));
        for (status, body, expected) in [
            (200, object(100, "succeeded"), done),
            // Somebody has given some of it back before: the rest alone is no answer.
            (200, object(40, "succeeded"), Judged::Definite(None)),
            (200, object(100, "pending"), Judged::Stop(Trouble::unclear(Why::AnswerKept))),
            (200, object(100, "failed"), Judged::Stop(Trouble::unclear(Why::AnswerKept))),
            (200, json!({}), Judged::Again(Why::Unreadable, None)),
            (400, json!({ "error": { "code": "charge_already_refunded" } }), Judged::Definite(None)),
            (
                400,
                json!({ "error": { "code": "balance_insufficient" } }),
                Judged::Stop(Trouble::unclear(Why::RefusedForNow)),
            ),
        ] {
            assert_eq!(refund(&reply(status, &body), &our_refund()), expected, "{status} {body}");
        }
        let mut about_another = object(100, "succeeded");
        about_another["payment_intent"] = json!("pi_2");
        assert_eq!(refund(&reply(200, &about_another), &our_refund()), Judged::Again(Why::Unreadable, None));
    }

    #[test]
    fn a_charge_is_given_back_when_its_refunds_add_up_whoever_made_them() {
        let (ours, theirs) = (Uuid::max(), Uuid::nil());
        let object = refund_object;
        let found = |id: Option<&str>| Judged::Definite(id.map(|id| Refunded { reference: id.to_owned() }));
        let under_way = || Judged::Stop(Trouble::unclear(Why::UnderWay));
        for (data, expected) in [
            (vec![], found(None)),
            (vec![object("re_1", 100, "succeeded", ours)], found(Some("re_1"))),
            (vec![object("re_1", 100, "failed", ours)], found(None)),
            (vec![object("re_1", 60, "succeeded", theirs)], found(None)),
            (vec![object("re_1", 60, "succeeded", theirs), object("re_2", 40, "succeeded", ours)], found(Some("re_2"))),
            (vec![object("re_1", 100, "succeeded", theirs)], found(Some("re_1"))),
            (vec![object("re_1", 100, "pending", ours)], under_way()),
            (vec![object("re_1", 60, "succeeded", theirs), object("re_2", 40, "requires_action", ours)], under_way()),
            (vec![object("re_1", 100, "succeeded", theirs), object("re_2", 1, "pending", ours)], found(Some("re_1"))),
        ] {
            let body = json!({ "data": data });
            assert_eq!(refunds(&reply(200, &body), &our_refund()), expected, "{body}");
        }
        let mut about_another = object("re_1", 100, "succeeded", ours);
        about_another["payment_intent"] = json!("pi_2");
        let judged = refunds(&reply(200, &json!({ "data": [about_another] })), &our_refund());
        assert_eq!(judged, Judged::Again(Why::Unreadable, None));
    }
}
