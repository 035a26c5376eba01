//! What is asked for, once its form has been judged.

use std::collections::BTreeMap;

use shared::money::Money;

use super::{
    Form, Problem,
    method::{self, Verdict},
};

/// What a caller attaches to an object, for itself.
pub type Metadata = BTreeMap<String, String>;

/// Stripe's bounds: <https://docs.stripe.com/metadata>.
const METADATA_ENTRIES: usize = 50;
const METADATA_NAME: usize = 40;
const METADATA_VALUE: usize = 500;

/// What a charge may be at most, in any currency, and at least, in some:
/// <https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts>.
const LARGEST: i64 = 99_999_999;
const LEAST: [(&str, i64); 5] = [("chf", 50), ("eur", 50), ("gbp", 30), ("jpy", 50), ("usd", 50)];

/// A charge, to be made at once, or only intended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargeRequest {
    /// How much, in the currency's minor unit: at least 1.
    pub amount: i64,
    /// ISO 4217, in lower case, as Stripe has it.
    pub currency: String,
    /// By its name. Only what is confirmed needs one.
    pub method: Option<String>,
    /// What that will do; `None`: it isn't confirmed, so no money moves.
    pub verdict: Option<Verdict>,
    /// The caller's own.
    pub metadata: Metadata,
    /// For people.
    pub description: Option<String>,
}

impl ChargeRequest {
    /// Judges the form of `POST /v1/payment_intents`.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it, as Stripe would say.
    pub fn parse(form: &Form) -> Result<Self, Problem> {
        form.only(&[
            "amount",
            "currency",
            "payment_method",
            "confirm",
            "error_on_requires_action",
            "metadata",
            "automatic_payment_methods",
            "payment_method_types",
            "off_session",
            "description",
        ])?;
        let amount = amount(form.required("amount")?)?;
        let currency = currency(form.required("currency")?)?;
        if amount > LARGEST {
            return Err(Problem::amount_too_large(LARGEST));
        }
        if let Some((_, least)) = LEAST.iter().find(|(of, least)| *of == currency && amount < *least) {
            return Err(Problem::amount_too_small(&currency, *least));
        }
        let confirmed = match form.get("confirm") {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => return Err(Problem::invalid("confirm", format!("Invalid boolean: {other}"))),
        };
        let method = if confirmed { Some(form.required("payment_method")?) } else { form.get("payment_method") };
        let no_such = |method| Problem::no_such("PaymentMethod", method, "payment_method");
        let verdict = method.map(|method| method::verdict(method).ok_or_else(|| no_such(method))).transpose()?;
        Ok(Self {
            amount,
            currency,
            method: method.map(ToOwned::to_owned),
            verdict: verdict.filter(|_| confirmed),
            metadata: metadata(form)?,
            description: form.get("description").map(ToOwned::to_owned),
        })
    }
}

/// Money to be given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefundRequest {
    /// From which intent.
    pub intent: String,
    /// How much; `None`: all that is left.
    pub amount: Option<i64>,
    /// The caller's own.
    pub metadata: Metadata,
    /// One of Stripe's three.
    pub reason: Option<String>,
}

impl RefundRequest {
    /// Judges the form of `POST /v1/refunds`.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it, as Stripe would say.
    pub fn parse(form: &Form) -> Result<Self, Problem> {
        form.only(&["payment_intent", "amount", "metadata", "reason"])?;
        let reason = form.get("reason").map(ToOwned::to_owned);
        if let Some(unknown) = reason.as_deref().filter(|reason| !REASONS.contains(reason)) {
            return Err(Problem::invalid(
                "reason",
                format!("Invalid reason: must be one of {REASONS:?}, not {unknown}"),
            ));
        }
        Ok(Self {
            intent: form.required("payment_intent")?.to_owned(),
            amount: form.get("amount").map(amount).transpose()?,
            metadata: metadata(form)?,
            reason,
        })
    }
}

const REASONS: [&str; 3] = ["duplicate", "fraudulent", "requested_by_customer"];

fn amount(text: &str) -> Result<i64, Problem> {
    let amount = text.parse().map_err(|_| Problem::invalid("amount", format!("Invalid integer: {text}")))?;
    match amount {
        1.. => Ok(amount),
        _ => Err(Problem::invalid("amount", "This value must be greater than or equal to 1.")),
    }
}

fn currency(text: &str) -> Result<String, Problem> {
    match Money::from_code(&text.to_uppercase(), 1) {
        Ok(_) => Ok(text.to_lowercase()),
        Err(_) => Err(Problem::invalid("currency", format!("Invalid currency: {text}."))),
    }
}

fn metadata(form: &Form) -> Result<Metadata, Problem> {
    let metadata = form.map("metadata");
    let too_long = |(name, value): (&String, &String)| {
        name.chars().count() > METADATA_NAME || value.chars().count() > METADATA_VALUE
    };
    match metadata.len() > METADATA_ENTRIES || metadata.iter().any(too_long) {
        true => Err(Problem::invalid("metadata", "Metadata has at most 50 names of 40 characters and values of 500.")),
        false => Ok(metadata),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHARGE: &str = "amount=50&currency=usd&payment_method=pm_card_visa&confirm=true&metadata[a]=b";

    #[test]
    fn a_charge_is_judged_as_stripe_would() {
        let charge = ChargeRequest::parse(&Form::parse(CHARGE.as_bytes())).unwrap();
        assert_eq!((charge.amount, charge.currency.as_str(), charge.verdict), (50, "usd", Some(Verdict::Succeeds)));

        for (change, code, param) in [
            (("amount=50&", ""), "parameter_missing", "amount"),
            (("amount=50&", "amount=&"), "parameter_missing", "amount"),
            (("currency=usd&", ""), "parameter_missing", "currency"),
            (("payment_method=pm_card_visa&", ""), "parameter_missing", "payment_method"),
            (("amount=50", "amount=0"), "parameter_invalid", "amount"),
            (("amount=50", "amount=-5"), "parameter_invalid", "amount"),
            (("amount=50", "amount=1.5"), "parameter_invalid", "amount"),
            (("amount=50", "amount=9223372036854775808"), "parameter_invalid", "amount"),
            (("amount=50", "amount=49"), "amount_too_small", "amount"),
            (("amount=50", "amount=100000000"), "amount_too_large", "amount"),
            (("usd", "xyz"), "parameter_invalid", "currency"),
            (("pm_card_visa", "pm_card_unheard"), "resource_missing", "payment_method"),
            (("pm_card_visa&confirm=true", "pm_card_unheard"), "resource_missing", "payment_method"),
            (("confirm=true", "confirm=perhaps"), "parameter_invalid", "confirm"),
            (("confirm", "capture=1&confirm"), "parameter_unknown", "capture"),
        ] {
            let form = CHARGE.replacen(change.0, change.1, 1);
            let problem = ChargeRequest::parse(&Form::parse(form.as_bytes())).unwrap_err();
            let error = problem.body()["error"].clone();
            assert_eq!((problem.status, &error["code"], &error["param"]), (400, &code.into(), &param.into()), "{form}");
        }
    }

    #[test]
    fn what_is_not_confirmed_is_only_intended_and_needs_no_method() {
        for (change, method) in [
            (("&confirm=true", ""), Some("pm_card_visa")),
            (("confirm=true", "confirm=false"), Some("pm_card_visa")),
            (("&payment_method=pm_card_visa&confirm=true", ""), None),
        ] {
            let form = CHARGE.replacen(change.0, change.1, 1);
            let intended = ChargeRequest::parse(&Form::parse(form.as_bytes())).unwrap();
            assert_eq!((intended.method.as_deref(), intended.verdict), (method, None), "{form}");
        }
    }

    #[test]
    fn metadata_has_stripes_bounds() {
        let form = |name: usize, value: usize| format!("{CHARGE}&metadata[{}]={}", "n".repeat(name), "v".repeat(value));
        for (name, value, fits) in [(40, 500, true), (41, 1, false), (1, 501, false)] {
            let charge = ChargeRequest::parse(&Form::parse(form(name, value).as_bytes()));
            assert_eq!(charge.is_ok(), fits, "{name} {value}");
        }
    }
}
