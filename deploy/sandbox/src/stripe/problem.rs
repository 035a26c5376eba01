//! Errors, in Stripe's shape: <https://docs.stripe.com/api/errors>.

use serde_json::{Map, Value, json};

use super::method::Declined;

/// Why a request isn't done, or not as it was meant.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// What the answer's `error` holds.
    error: Map<String, Value>,
}

const INVALID_REQUEST: &str = "invalid_request_error";
const API: &str = "api_error";
const IDEMPOTENCY: &str = "idempotency_error";

impl Problem {
    fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, error: Map::new() }.with("type", kind).with("message", message.into())
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.error.insert(name.to_owned(), value.into());
        self
    }

    fn coded(self, code: &str) -> Self {
        self.with("code", code)
    }

    fn about(self, param: &str) -> Self {
        self.with("param", param)
    }

    /// A parameter that has to be there.
    pub fn missing(param: &str) -> Self {
        Self::new(400, INVALID_REQUEST, format!("Missing required param: {param}."))
            .coded("parameter_missing")
            .about(param)
    }

    /// A parameter that has another form than it should.
    pub fn invalid(param: &str, message: impl Into<String>) -> Self {
        Self::new(400, INVALID_REQUEST, message).coded("parameter_invalid").about(param)
    }

    /// A charge that isn't worth its price.
    pub fn amount_too_small(currency: &str, least: i64) -> Self {
        let message = format!("Amount must be at least {least} in the minor unit of {currency}.");
        Self::new(400, INVALID_REQUEST, message).coded("amount_too_small").about("amount")
    }

    /// A charge beyond what one may be.
    pub fn amount_too_large(largest: i64) -> Self {
        let message = format!("Amount must be no more than {largest}.");
        Self::new(400, INVALID_REQUEST, message).coded("amount_too_large").about("amount")
    }

    /// A parameter that nobody knows.
    pub fn unknown_parameter(param: &str) -> Self {
        let message = format!("Received unknown parameter: {param}");
        Self::new(400, INVALID_REQUEST, message).coded("parameter_unknown").about(param)
    }

    /// A thing that a parameter names, which isn't there.
    pub fn no_such(thing: &str, id: &str, param: &str) -> Self {
        Self::new(400, INVALID_REQUEST, format!("No such {thing}: '{id}'")).coded("resource_missing").about(param)
    }

    /// The same, where the path names it.
    pub fn not_found(thing: &str, id: &str, param: &str) -> Self {
        Self { status: 404, ..Self::no_such(thing, id, param) }
    }

    /// No such path, or not by this method.
    pub fn unrecognized(method: &str, path: &str) -> Self {
        Self::new(404, INVALID_REQUEST, format!("Unrecognized request URL ({method}: {path})."))
    }

    /// No key, or none of a test's.
    pub fn unauthorized(given: bool) -> Self {
        let message = match given {
            true => "Invalid API Key provided.",
            false => "You did not provide an API key. Use the Authorization header, like 'Bearer sk_test_…'.",
        };
        Self::new(401, INVALID_REQUEST, message)
    }

    /// More than a limit of ours allows.
    pub fn too_large() -> Self {
        Self::new(413, INVALID_REQUEST, "The request's body is too large, or didn't come in time.")
    }

    /// The card was declined; with the intent as it is now.
    pub fn declined(declined: &Declined, intent: Value) -> Self {
        let Declined { code, decline_code, message } = declined;
        let problem = Self::new(402, "card_error", message.as_str()).coded(code);
        problem.with("decline_code", decline_code.as_str()).with("payment_intent", intent)
    }

    /// There is nothing left to give back.
    pub fn already_refunded(charge: &str) -> Self {
        let message = format!("Charge {charge} has already been refunded.");
        Self::new(400, INVALID_REQUEST, message).coded("charge_already_refunded")
    }

    /// More than is left is to be given back.
    pub fn refund_too_large(asked: i64, left: i64) -> Self {
        let message = format!("Refund amount ({asked}) is greater than unrefunded amount on charge ({left})");
        Self::new(400, INVALID_REQUEST, message).about("amount")
    }

    /// Nothing was ever taken.
    pub fn nothing_to_refund(intent: &str) -> Self {
        let message = format!("This PaymentIntent ({intent}) does not have a successful charge to refund.");
        Self::new(400, INVALID_REQUEST, message).coded("payment_intent_unexpected_state").about("payment_intent")
    }

    /// The account can't afford the refund now.
    pub fn insufficient_balance() -> Self {
        let message = "Insufficient funds in your Stripe balance to refund this amount.";
        Self::new(400, INVALID_REQUEST, message).coded("balance_insufficient")
    }

    /// A key that was used for something else.
    pub fn key_reused(key: &str) -> Self {
        let message = format!(
            "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using \
             a key other than '{key}' if you meant to execute a different request."
        );
        Self::new(400, IDEMPOTENCY, message)
    }

    /// A key whose first request is still under way.
    pub fn key_in_use(key: &str) -> Self {
        let message = format!("There is currently another in-progress request using this idempotency key: {key}");
        Self::new(409, IDEMPOTENCY, message).coded("idempotency_key_in_use")
    }

    /// Too many requests.
    pub fn rate_limited() -> Self {
        Self::new(429, INVALID_REQUEST, "Too many requests. Please retry later.").coded("rate_limit")
    }

    /// Something went wrong inside.
    pub fn internal() -> Self {
        Self::new(500, API, "An unknown error occurred.")
    }

    /// It can't be done now: nothing was begun.
    pub fn unavailable() -> Self {
        Self::new(503, API, "The service is over capacity. Please retry later.")
    }

    /// What belongs into the answer's body.
    pub fn body(&self) -> Value {
        json!({ "error": self.error })
    }
}
