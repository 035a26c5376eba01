//! Amounts as Stripe counts them: in the smallest unit of most currencies, but not of all
//! (<https://docs.stripe.com/currencies#special-cases>).

use shared::money::Money;

/// This amount in Stripe's unit; none if Stripe can't move it.
pub(super) fn of(amount: Money) -> Option<i64> {
    let minor_units = amount.minor_units();
    match amount.currency_code() {
        // Without a minor unit in ISO 4217, and yet counted in hundredths.
        "ISK" | "UGX" => minor_units.checked_mul(100),
        // With one in ISO 4217, and counted in whole ones.
        "MGA" => (minor_units % 100 == 0).then_some(minor_units / 100),
        // In thousandths, of which the last digit has to be zero.
        "BHD" | "JOD" | "KWD" | "OMR" | "TND" => (minor_units % 10 == 0).then_some(minor_units),
        _ => Some(minor_units),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripe_counts_some_currencies_otherwise_than_iso_4217() {
        for (code, ours, stripes) in [
            ("USD", 29900, Some(29900)),
            ("JPY", 500, Some(500)),
            ("HUF", 50000, Some(50000)),
            ("ISK", 500, Some(50000)),
            ("UGX", i64::MAX, None),
            ("MGA", 1200, Some(12)),
            ("MGA", 1250, None),
            ("KWD", 1230, Some(1230)),
            ("KWD", 1234, None),
        ] {
            let amount = Money::from_code(code, ours).unwrap();
            assert_eq!(of(amount), stripes, "{amount}");
        }
    }
}
