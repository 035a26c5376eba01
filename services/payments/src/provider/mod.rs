//! The payment provider: who takes the money, and gives it back.
//!
//! In: a charge or a refund with its idempotency key, and a deadline. Out: what has definitely become of it, or [`Trouble`],
//! which says nothing about the money at all. This room keeps no state of payments and decides nothing about them; it never
//! takes silence for a refusal.
//!
//! The way to use it: record the intent with its key, ask, record the outcome. After trouble, ask again **with the same key and
//! the same content**: that is safe for as long as keys are known ([`KEYS_KNOWN_FOR`]), and so is [`Provider::void_charge`], for a
//! charge that nobody wants any more. Where asking again can't tell
//! ([`Why::AnswerKept`]), or isn't safe any more, one looks the truth up, with [`Provider::find_charge`] and
//! [`Provider::find_refund`]; a definite "nothing" of theirs allows a new key.

mod breaker;
mod config;
mod metrics;
pub mod stripe;
mod trouble;

use std::{future::Future, time::Duration};

use shared::{money::Money, telemetry::TraceContext};
use tokio::time::Instant;
use uuid::Uuid;

pub use config::{BreakerConfig, ProviderConfig};
pub use metrics::ProviderMetrics;
pub use stripe::Stripe;
pub use trouble::{Fault, Trouble, Why};

/// Money to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// By which it is done once. Asked again, everything else has to be the same.
    pub key: String,
    /// What it pays for.
    pub order_id: Uuid,
    /// By which it is found again: unique to this charge.
    pub payment_id: Uuid,
    /// How much: more than nothing.
    pub amount: Money,
    /// With what, by the provider's name for it.
    pub method: String,
}

/// Money to be given back: all that a charge has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund {
    /// By which it is done once. Asked again, everything else has to be the same.
    pub key: String,
    /// What it paid for.
    pub order_id: Uuid,
    /// The charge's.
    pub payment_id: Uuid,
    /// The charge's reference at the provider.
    pub charge: String,
    /// How much the charge took.
    pub amount: Money,
}

/// What has definitely become of a charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The money was taken.
    Succeeded {
        /// By which the provider knows it.
        reference: String,
    },
    /// It was not, and will not be.
    Declined {
        /// Why: one of Stripe's decline codes, [`UNKNOWN_METHOD`] or [`UNSUPPORTED_AMOUNT`].
        code: String,
    },
}

/// The code of a charge whose payment method the provider doesn't know, or can't use.
pub const UNKNOWN_METHOD: &str = "unknown_payment_method";

/// The code of a charge whose amount the provider can't move: of a currency's last digits it moves only some, and not
/// every currency.
pub const UNSUPPORTED_AMOUNT: &str = "unsupported_amount";

/// The money was definitely given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refunded {
    /// By which the provider knows the refund.
    pub reference: String,
}

/// On whose behalf the provider is asked.
#[derive(Clone, Debug)]
pub struct Call {
    /// Until when an answer is of use. What was asked for may still happen after it.
    pub deadline: Instant,
    /// The work that asks.
    pub trace: TraceContext,
}

/// How long a key is known after its first request: Stripe forgets it after 24 hours at the earliest
/// (<https://docs.stripe.com/api/idempotent_requests>). Asked again with a key that was forgotten, it would charge again: so what is
/// older is looked up first. An hour is left for clocks that differ.
pub const KEYS_KNOWN_FOR: Duration = Duration::from_secs(23 * 60 * 60);

/// How old a charge has to be for "found nothing" to mean that there is nothing: an hour after it was last asked for, and ten
/// minutes for clocks that differ.
///
/// Stripe's search lags: "searchable in less than a minute" under normal conditions, longer in an outage
/// (<https://docs.stripe.com/search#data-freshness>). A wait that is too long costs patience, one that is too short money.
pub const SETTLED_AFTER: Duration = Duration::from_secs(70 * 60);

/// Somebody who takes money and gives it back.
pub trait Provider: Send + Sync + 'static {
    /// Takes money, once a key.
    ///
    /// # Errors
    ///
    /// [`Trouble`]: the money may have been taken, or be taken yet.
    fn charge(&self, charge: &Charge, call: &Call) -> impl Future<Output = Result<Outcome, Trouble>> + Send;

    /// Spends a charge's key on a request that moves no money, so that the charge can't be made any more, for as long as the
    /// provider knows keys ([`KEYS_KNOWN_FOR`]). `None`: it was never made, and never will be, for whoever still sends it is told
    /// that its key was used for something else. `Some`: the key was used before, and its kept answer says what became of the charge.
    ///
    /// # Errors
    ///
    /// [`Trouble`]: the money may have been taken, or be taken yet.
    fn void_charge(
        &self,
        charge: &Charge,
        call: &Call,
    ) -> impl Future<Output = Result<Option<Outcome>, Trouble>> + Send;

    /// Gives money back, once a key.
    ///
    /// # Errors
    ///
    /// [`Trouble`]: the money may have been given back, or be given back yet.
    fn refund(&self, refund: &Refund, call: &Call) -> impl Future<Output = Result<Refunded, Trouble>> + Send;

    /// Finds out, without its key, what has become of a charge that was last asked for `age` ago. `None`: there never was one,
    /// which is definite, for nothing younger than [`SETTLED_AFTER`] is answered so.
    ///
    /// # Errors
    ///
    /// [`Trouble`]: it isn't known, or not yet.
    fn find_charge(
        &self,
        charge: &Charge,
        age: Duration,
        call: &Call,
    ) -> impl Future<Output = Result<Option<Outcome>, Trouble>> + Send;

    /// Finds out, without its key, what has become of a refund. `None`: there is none, and none is under way, which is
    /// definite, for a charge's refunds are listed without a lag.
    ///
    /// # Errors
    ///
    /// [`Trouble`]: it isn't known.
    fn find_refund(
        &self,
        refund: &Refund,
        call: &Call,
    ) -> impl Future<Output = Result<Option<Refunded>, Trouble>> + Send;
}
