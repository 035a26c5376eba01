//! Money: exact amounts in one currency.

use std::fmt;

/// An ISO 4217 currency in use.
pub use iso_currency::Currency;

/// An amount in the minor unit of one currency: USD 299.00 is 29,900 of USD. Never a fraction, never of two currencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Money {
    currency: Currency,
    minor_units: i64,
}

/// Why something is no amount of money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMoney {
    /// The code names no currency.
    #[error("must be an ISO 4217 currency code, like USD")]
    UnknownCurrency,
}

impl Money {
    /// That many minor units of a currency.
    pub const fn new(currency: Currency, minor_units: i64) -> Self {
        Self { currency, minor_units }
    }

    /// That many minor units of the currency with this code, in upper case.
    ///
    /// # Errors
    ///
    /// The code names no currency.
    pub fn from_code(code: &str, minor_units: i64) -> Result<Self, InvalidMoney> {
        // The library also takes lower case; one spelling keeps stored prices comparable as text.
        let currency = Currency::from_code(code).filter(|known| known.code() == code);
        currency.map(|currency| Self::new(currency, minor_units)).ok_or(InvalidMoney::UnknownCurrency)
    }

    /// The currency.
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// The currency's alphabetic code, in upper case.
    pub fn currency_code(self) -> &'static str {
        self.currency.code()
    }

    /// How many minor units.
    pub const fn minor_units(self) -> i64 {
        self.minor_units
    }

    /// This amount `count` times; `None` if that is more than an `i64` holds.
    #[must_use]
    pub fn times(self, count: i32) -> Option<Self> {
        let minor_units = self.minor_units.checked_mul(i64::from(count))?;
        Some(Self { minor_units, ..self })
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.currency.code(), self.minor_units)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_a_currency_only_as_iso_4217_spells_it() {
        for (code, known) in [("USD", true), ("EUR", true), ("JPY", true), ("usd", false), ("XYZ", false), ("", false)]
        {
            assert_eq!(Money::from_code(code, 1).is_ok(), known, "{code}");
        }
    }

    #[test]
    fn a_product_too_large_is_refused_rather_than_wrapped() {
        let price = Money::new(Currency::USD, i64::MAX / 2);
        assert_eq!(price.times(2), Some(Money::new(Currency::USD, i64::MAX - 1)));
        assert_eq!(price.times(3), None);
    }
}
