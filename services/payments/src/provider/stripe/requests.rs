//! What is asked for, in Stripe's form: fields in bracket notation, currencies in lower case.

use crate::provider::{Charge, Refund};

/// How a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
}

/// A request, to be made as often as it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    /// The body of a POST, the query of a GET.
    form: Vec<(&'static str, String)>,
    /// By which a POST is done once.
    pub(super) key: Option<String>,
}

impl Request {
    /// The fields as a body or a query.
    pub(super) fn encoded(&self) -> String {
        let mut encoder = form_urlencoded::Serializer::new(String::new());
        encoder.extend_pairs(self.form.iter().map(|(name, value)| (*name, value.as_str())));
        encoder.finish()
    }

    fn get(path: impl Into<String>, form: Vec<(&'static str, String)>) -> Self {
        Self { method: Method::Get, path: path.into(), form, key: None }
    }

    fn post(path: impl Into<String>, form: Vec<(&'static str, String)>, key: &str) -> Self {
        Self { method: Method::Post, path: path.into(), form, key: Some(key.to_owned()) }
    }
}

/// Nobody is there to answer a bank's questions: a card that needs it is declined (`error_on_requires_action`), and no method is
/// taken that would send the buyer elsewhere.
pub(super) fn charge(charge: &Charge, amount: i64) -> Request {
    let form = vec![
        ("amount", amount.to_string()),
        ("currency", charge.amount.currency_code().to_lowercase()),
        ("payment_method", charge.method.clone()),
        ("confirm", "true".to_owned()),
        ("error_on_requires_action", "true".to_owned()),
        ("automatic_payment_methods[enabled]", "true".to_owned()),
        ("automatic_payment_methods[allow_redirects]", "never".to_owned()),
        ("metadata[order_id]", charge.order_id.to_string()),
        ("metadata[payment_id]", charge.payment_id.to_string()),
    ];
    Request::post("/v1/payment_intents", form, &charge.key)
}

/// What uses a charge's key up: an intent that nobody confirms, and that no search for the charge finds.
/// <https://docs.stripe.com/api/idempotent_requests>: "The idempotency layer compares incoming parameters to those of the original
/// request and errors if they're not the same".
pub(super) fn void(charge: &Charge, amount: i64) -> Request {
    let form = vec![
        ("amount", amount.to_string()),
        ("currency", charge.amount.currency_code().to_lowercase()),
        ("metadata[order_id]", charge.order_id.to_string()),
        ("metadata[voids]", charge.payment_id.to_string()),
    ];
    Request::post("/v1/payment_intents", form, &charge.key)
}

/// All that was charged, which needs no amount.
pub(super) fn refund(refund: &Refund) -> Request {
    let form = vec![
        ("payment_intent", refund.charge.clone()),
        ("metadata[order_id]", refund.order_id.to_string()),
        ("metadata[payment_id]", refund.payment_id.to_string()),
    ];
    Request::post("/v1/refunds", form, &refund.key)
}

/// Intents of this payment. A UUID needs no escaping in a query.
pub(super) fn search(charge: &Charge) -> Request {
    let query = format!("metadata['payment_id']:'{}'", charge.payment_id);
    Request::get("/v1/payment_intents/search", vec![("query", query)])
}

/// An intent as it is now.
pub(super) fn retrieve(id: &str) -> Request {
    Request::get(format!("/v1/payment_intents/{id}"), Vec::new())
}

/// A charge's refunds.
pub(super) fn refunds(refund: &Refund) -> Request {
    Request::get("/v1/refunds", vec![("payment_intent", refund.charge.clone()), ("limit", "100".to_owned())])
}

#[cfg(test)]
mod tests {
    use shared::money::{Currency, Money};
    use uuid::Uuid;

    use super::*;

    fn asked() -> Charge {
        Charge {
            key: "k".to_owned(),
            order_id: Uuid::nil(),
            payment_id: Uuid::max(),
            amount: Money::new(Currency::USD, 29900),
            method: "pm & co".to_owned(),
        }
    }

    #[test]
    fn a_charge_is_asked_for_in_stripes_form() {
        let request = charge(&asked(), 29900);
        assert_eq!(
            request.encoded(),
            "amount=29900&currency=usd&payment_method=pm+%26+co&confirm=true&error_on_requires_action=true&\
             automatic_payment_methods%5Benabled%5D=true&automatic_payment_methods%5Ballow_redirects%5D=never&\
             metadata%5Border_id%5D=00000000-0000-0000-0000-000000000000&\
             metadata%5Bpayment_id%5D=ffffffff-ffff-ffff-ffff-ffffffffffff"
        );
        assert_eq!((request.path.as_str(), request.key.as_deref()), ("/v1/payment_intents", Some("k")));
    }

    #[test]
    fn a_charge_is_voided_by_its_own_key_with_what_moves_no_money_and_is_not_found_in_its_place() {
        let (charge, void) = (charge(&asked(), 29900), void(&asked(), 29900));
        assert_eq!((&void.path, &void.key), (&charge.path, &charge.key));
        assert_eq!(
            void.encoded(),
            "amount=29900&currency=usd&metadata%5Border_id%5D=00000000-0000-0000-0000-000000000000&\
             metadata%5Bvoids%5D=ffffffff-ffff-ffff-ffff-ffffffffffff"
        );
    }
}
