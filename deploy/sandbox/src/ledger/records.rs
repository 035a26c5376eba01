//! What the ledger's tables hold, as JSON: a ledger is to be read for longer than its program is the same.

use serde::{Deserialize, Serialize};
use shared::clock::Timestamp;

use crate::stripe::{Metadata, method::Declined};

/// What has become of an intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntentStatus {
    /// Under way: a slow one.
    Processing,
    /// The money was taken.
    Succeeded,
    /// The card was declined, or none was named.
    RequiresPaymentMethod,
    /// It is only intended.
    RequiresConfirmation,
}

/// A charge, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// `pi_…`
    pub id: String,
    /// In the currency's minor unit.
    pub amount: i64,
    /// ISO 4217, in lower case.
    pub currency: String,
    /// The payment method's name, if one was named.
    pub method: Option<String>,
    /// What has become of it.
    pub status: IntentStatus,
    /// `ch_…`, once there was an attempt.
    pub charge: Option<String>,
    /// How much of it was given back.
    pub refunded: i64,
    /// Why the card was declined.
    pub declined: Option<Declined>,
    /// The caller's own.
    pub metadata: Metadata,
    /// For people.
    pub description: Option<String>,
    /// When it was made.
    pub created: Timestamp,
}

/// Money that was given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// `re_…`
    pub id: String,
    /// From which intent.
    pub intent: String,
    /// From which charge of it.
    pub charge: String,
    /// In the currency's minor unit.
    pub amount: i64,
    /// ISO 4217, in lower case.
    pub currency: String,
    /// The caller's own.
    pub metadata: Metadata,
    /// One of Stripe's three.
    pub reason: Option<String>,
    /// When it was made.
    pub created: Timestamp,
}

/// Which way money went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MovementKind {
    /// It was taken.
    Charge,
    /// It was given back.
    Refund,
}

/// A movement of money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Movement {
    /// Its place among all movements, from 1, without a gap.
    pub seq: u64,
    /// Which way.
    pub kind: MovementKind,
    /// The intent's id, or the refund's.
    pub id: String,
    /// The intent's id, of a refund too.
    pub payment_intent: String,
    /// In the currency's minor unit.
    pub amount: i64,
    /// ISO 4217, in lower case.
    pub currency: String,
    /// The charge's or the refund's own; a refund without an `order_id` is told with its charge's.
    pub metadata: Metadata,
    /// By which it was asked for.
    pub idempotency_key: Option<String>,
    /// When it was made.
    pub time: Timestamp,
}

/// Sums of one currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// How many charges.
    pub charges: u64,
    /// How much they took, in the minor unit.
    pub charged: i128,
    /// How many refunds.
    pub refunds: u64,
    /// How much they gave back.
    pub refunded: i128,
}

/// What is known of an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeyRecord {
    /// Of the first request.
    pub(super) fingerprint: String,
    /// `None` while that is under way.
    pub(super) answer: Option<KeptAnswer>,
}

/// An answer that repetitions are given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptAnswer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// A slow charge that isn't due yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Slow {
    /// Whose money is taken then.
    pub(super) intent: String,
    /// By which it was asked for.
    pub(super) key: Option<String>,
    /// Whether a 500 is what is answered then.
    pub(super) answer_500: bool,
}
