//! The payment methods, by Stripe's test names, and one of our own.
//!
//! Stripe's list: <https://docs.stripe.com/testing#declined-payments>, the tab "PaymentMethods".

use serde::{Deserialize, Serialize};

/// What becomes of a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The money is taken.
    Succeeds,
    /// The card is declined.
    Declines(Decline),
    /// The money is taken, but only after a while.
    SucceedsLate,
}

/// Why a card is declined, as Stripe's errors have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Decline {
    /// The error's `code`.
    pub code: &'static str,
    /// Its `decline_code`.
    pub decline_code: &'static str,
    /// For people.
    pub message: &'static str,
}

/// Why a card was declined, as the ledger keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declined {
    /// The error's `code`.
    pub code: String,
    /// Its `decline_code`.
    pub decline_code: String,
    /// For people.
    pub message: String,
}

impl From<Decline> for Declined {
    fn from(Decline { code, decline_code, message }: Decline) -> Self {
        Self { code: code.to_owned(), decline_code: decline_code.to_owned(), message: message.to_owned() }
    }
}

/// Succeeds after `SANDBOX_SLOW`.
pub const SLOW: &str = "pm_sandbox_slow";

/// What a payment method does; `None` if there is no such one.
pub fn verdict(method: &str) -> Option<Verdict> {
    let declines = |code, decline_code, message| Some(Verdict::Declines(Decline { code, decline_code, message }));
    match method {
        "pm_card_visa" | "pm_card_visa_debit" | "pm_card_mastercard" | "pm_card_amex" => Some(Verdict::Succeeds),
        SLOW => Some(Verdict::SucceedsLate),
        // Stripe renamed it; the short name still works.
        "pm_card_chargeDeclined" | "pm_card_visa_chargeDeclined" => {
            declines("card_declined", "generic_decline", "Your card was declined.")
        }
        "pm_card_visa_chargeDeclinedInsufficientFunds" | "pm_card_chargeDeclinedInsufficientFunds" => {
            declines("card_declined", "insufficient_funds", "Your card has insufficient funds.")
        }
        "pm_card_visa_chargeDeclinedLostCard" => declines("card_declined", "lost_card", "Your card was declined."),
        "pm_card_visa_chargeDeclinedStolenCard" => declines("card_declined", "stolen_card", "Your card was declined."),
        "pm_card_visa_chargeDeclinedVelocityLimitExceeded" => declines(
            "card_declined",
            "card_velocity_exceeded",
            "Your card was declined for making repeated attempts too frequently or exceeding its amount limit.",
        ),
        "pm_card_chargeDeclinedExpiredCard" => declines("expired_card", "expired_card", "Your card has expired."),
        "pm_card_chargeDeclinedIncorrectCvc" => {
            declines("incorrect_cvc", "incorrect_cvc", "Your card's security code is incorrect.")
        }
        "pm_card_chargeDeclinedProcessingError" => declines(
            "processing_error",
            "processing_error",
            "An error occurred while processing your card. Try again in a little bit.",
        ),
        _ => None,
    }
}
