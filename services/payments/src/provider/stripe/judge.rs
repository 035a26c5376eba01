//! What an answer says: something definite about what was asked for, or nothing. Pure.

use serde::de::DeserializeOwned;

use super::{
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
    let best = ours.or(given_back.first()).filter(|_| sum >= refund.amount.minor_units());
    Judged::Definite(best.map(|object| Refunded { reference: object.id.clone() }))
}

/// What all answers that are no objects have in common.
fn failure<T>(reply: &Reply) -> Judged<T> {
    let StripeError { code, message, .. } = error(reply);
    let broken = |fault| {
        let message = message.clone().unwrap_or_default();
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
        && intent.amount == charge.amount.minor_units()
        && intent.currency.eq_ignore_ascii_case(charge.amount.currency_code())
}

/// Whether a refund is the one that was asked for.
fn gives_back(object: &RefundObject, refund: &Refund) -> bool {
    object.payment_intent.as_ref() == Some(&refund.charge)
        && object.amount == refund.amount.minor_units()
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
