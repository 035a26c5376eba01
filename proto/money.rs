//! What the generated `Money` is made of and taken apart into, so that no adapter spells it out again.

use crate::r#type::v1::Money;

impl Money {
    /// That many minor units of the currency with this code.
    pub fn of(currency_code: &str, minor_units: i64) -> Self {
        Self { currency_code: currency_code.to_owned(), minor_units }
    }

    /// The currency's code and how many of its minor units, unchecked.
    pub fn parts(&self) -> (&str, i64) {
        (&self.currency_code, self.minor_units)
    }
}
