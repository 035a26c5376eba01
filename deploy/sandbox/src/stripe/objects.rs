//! Objects as Stripe shows them: <https://docs.stripe.com/api/payment_intents/object>, <https://docs.stripe.com/api/refunds/object>.

use serde_json::{Value, json};

use crate::ledger::{Intent, IntentStatus, Refund};

/// A payment intent.
pub fn intent_object(intent: &Intent) -> Value {
    let error = intent.declined.as_ref().map(|declined| {
        json!({
            "type": "card_error",
            "code": declined.code,
            "decline_code": declined.decline_code,
            "message": declined.message,
        })
    });
    let received = if intent.status == IntentStatus::Succeeded { intent.amount } else { 0 };
    json!({
        "id": intent.id,
        "object": "payment_intent",
        "amount": intent.amount,
        "amount_capturable": 0,
        "amount_received": received,
        "canceled_at": null,
        "cancellation_reason": null,
        "capture_method": "automatic",
        "client_secret": format!("{}_secret_sandbox", intent.id),
        "confirmation_method": "automatic",
        "created": intent.created.timestamp(),
        "currency": intent.currency,
        "customer": null,
        "description": intent.description,
        "last_payment_error": error,
        "latest_charge": intent.charge,
        "livemode": false,
        "metadata": intent.metadata,
        "next_action": null,
        "payment_method": intent.method,
        "payment_method_types": ["card"],
        "status": intent.status,
    })
}

/// A refund.
pub fn refund_object(refund: &Refund) -> Value {
    json!({
        "id": refund.id,
        "object": "refund",
        "amount": refund.amount,
        "balance_transaction": null,
        "charge": refund.charge,
        "created": refund.created.timestamp(),
        "currency": refund.currency,
        "metadata": refund.metadata,
        "payment_intent": refund.intent,
        "reason": refund.reason,
        "receipt_number": null,
        "status": "succeeded",
    })
}

/// A list of all that there is.
pub fn list(url: &str, data: Vec<Value>) -> Value {
    json!({ "object": "list", "data": data, "has_more": false, "url": url })
}

/// What a search found.
pub fn search_result(url: &str, data: Vec<Value>, has_more: bool) -> Value {
    json!({ "object": "search_result", "data": data, "has_more": has_more, "next_page": null, "url": url })
}
