//! What Stripe's answers hold, as far as it matters here.

use std::collections::HashMap;

use serde::Deserialize;

/// A payment intent.
#[derive(Debug, Deserialize)]
pub(super) struct Intent {
    pub(super) id: String,
    pub(super) status: String,
    pub(super) amount: i64,
    pub(super) currency: String,
    #[serde(default)]
    pub(super) metadata: HashMap<String, String>,
    pub(super) last_payment_error: Option<StripeError>,
}

/// A refund.
#[derive(Debug, Deserialize)]
pub(super) struct RefundObject {
    pub(super) id: String,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) status: Option<String>,
    pub(super) payment_intent: Option<String>,
    #[serde(default)]
    pub(super) metadata: HashMap<String, String>,
}

/// What went wrong.
#[derive(Debug, Default, Deserialize)]
pub(super) struct StripeError {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) code: Option<String>,
    pub(super) decline_code: Option<String>,
    pub(super) message: Option<String>,
    pub(super) param: Option<String>,
    /// What it is about.
    pub(super) payment_intent: Option<Box<Intent>>,
}

/// The body of an answer that is no object.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ErrorBody {
    #[serde(default)]
    pub(super) error: StripeError,
}

/// Several of a kind.
#[derive(Debug, Deserialize)]
pub(super) struct List<T> {
    pub(super) data: Vec<T>,
}

/// An intent of which only the id is needed.
#[derive(Debug, Deserialize)]
pub(super) struct Found {
    pub(super) id: String,
}
