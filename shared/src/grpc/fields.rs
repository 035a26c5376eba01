//! Checking a request's fields: all of them, before answering.

use std::{borrow::Cow, fmt::Display, ops::RangeInclusive};

use super::{Fault, FieldFault, Listing, Page};
use crate::{id::Id, money::Money, user::UserId};

/// The characters that a title may have.
const TITLE_CHARS: RangeInclusive<usize> = 1..=200;
/// Items of a page whose size nobody gave.
const DEFAULT_PAGE: i64 = 50;
/// Items of the largest page; who asks for more is given this many.
const MAX_PAGE: i64 = 200;

/// Collects every fault of one request.
///
/// Each check answers the field's value, or `None` after noting its fault; [`Fields::finish`] then has all values or
/// all faults:
///
/// ```
/// # use shared::{grpc::Fields, id::Id};
/// # enum Thing {}
/// # fn take(id: &str, quantity: Option<i32>) -> Result<(Id<Thing>, i32), shared::grpc::Fault> {
/// let mut fields = Fields::new();
/// let id = fields.id("id", id);
/// let quantity = fields.number("quantity", quantity.unwrap_or(1), 1..=1_000_000);
/// fields.finish(|| Some((id?, quantity?)))
/// # }
/// # assert!(take("no id", Some(0)).is_err());
/// ```
#[derive(Debug, Default)]
#[must_use = "faults are answered by `finish`"]
pub struct Fields {
    faults: Vec<FieldFault>,
}

impl Fields {
    /// No faults so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a fault: the field's path, and what it should be (“must be …”).
    pub fn fault(&mut self, field: impl Into<Cow<'static, str>>, description: impl Into<Cow<'static, str>>) {
        self.faults.push(FieldFault { field: field.into(), description: description.into() });
    }

    /// Checks a field if it was given: `Some(None)` if it wasn't.
    pub fn optional<T, U>(
        &mut self,
        given: Option<T>,
        check: impl FnOnce(&mut Self, T) -> Option<U>,
    ) -> Option<Option<U>> {
        match given {
            None => Some(None),
            Some(given) => check(self, given).map(Some),
        }
    }

    /// A UUID of any version, in either case, with its hyphens.
    pub fn id<K>(&mut self, field: &'static str, text: &str) -> Option<Id<K>> {
        // The library also reads other spellings, which would be other texts for the same thing in keys and logs.
        let id = text.parse().ok().filter(|_| text.len() == 36);
        if id.is_none() {
            self.fault(field, "must be a UUID");
        }
        id
    }

    /// A UUID, if it was given.
    pub fn optional_id<K>(&mut self, field: &'static str, text: Option<&str>) -> Option<Option<Id<K>>> {
        self.optional(text, |fields, text| fields.id(field, text))
    }

    /// A user, as tokens may name one: so that a filter never asks a database for what it can't hold.
    pub fn user(&mut self, field: &'static str, text: &str) -> Option<UserId> {
        let user = UserId::new(text);
        if user.is_none() {
            self.fault(field, "must have 1 to 255 characters, none of them a control character");
        }
        user
    }

    /// 1 to 200 Unicode scalar values, none of them a control character (category Cc). All else stays as it is.
    pub fn title(&mut self, field: &'static str, text: &str) -> Option<String> {
        self.text(field, text, TITLE_CHARS)
    }

    /// So many Unicode scalar values, none of them a control character (category Cc). All else stays as it is. Two faults if both
    /// are wrong.
    pub fn text(&mut self, field: &'static str, text: &str, chars: RangeInclusive<usize>) -> Option<String> {
        let fits = chars.contains(&text.chars().count());
        if !fits {
            self.fault(field, format!("must have {} to {} characters", chars.start(), chars.end()));
        }
        let plain = !text.chars().any(char::is_control);
        if !plain {
            self.fault(field, "must have no control characters");
        }
        (fits && plain).then(|| text.to_owned())
    }

    /// A whole number within bounds.
    pub fn number<T: PartialOrd + Display>(
        &mut self,
        field: &'static str,
        number: T,
        bounds: RangeInclusive<T>,
    ) -> Option<T> {
        if bounds.contains(&number) {
            return Some(number);
        }
        self.fault(field, format!("must be from {} to {}", bounds.start(), bounds.end()));
        None
    }

    /// A price: a currency's code and how many of its minor units, at least 0. Two faults if both are wrong.
    pub fn price(&mut self, field: &'static str, given: Option<(&str, i64)>) -> Option<Money> {
        let Some((code, minor_units)) = given else {
            self.fault(field, "is required");
            return None;
        };
        let money = Money::from_code(code, minor_units);
        if let Err(unknown) = money {
            self.fault(format!("{field}.currency_code"), unknown.to_string());
        }
        if minor_units < 0 {
            self.fault(format!("{field}.minor_units"), "must be at least 0");
            return None;
        }
        money.ok()
    }

    /// One of an enum's values that this version knows, and not the unspecified one.
    pub fn choice<E: TryFrom<i32>>(&mut self, field: &'static str, number: i32) -> Option<E> {
        let choice = E::try_from(number).ok().filter(|_| number != 0);
        if choice.is_none() {
            self.fault(field, "must be one of the values that the enum names, and not UNSPECIFIED");
        }
        choice
    }

    /// Which page of a list (AIP-158) is asked for: `page_size` and `page_token`, whose token must be of this listing.
    pub fn page(&mut self, listing: &Listing, size: Option<i32>, token: &str) -> Option<Page> {
        let size = match size.map_or(0, i64::from) {
            0 => Some(DEFAULT_PAGE),
            size if size < 0 => {
                self.fault("page_size", "must not be negative");
                None
            }
            size => Some(size.min(MAX_PAGE)),
        };
        let after = match token {
            "" => Some(None),
            token => listing.read(token).map(Some),
        };
        if after.is_none() {
            self.fault("page_token", "must be the next_page_token of this very list, with the same filters");
        }
        Some(Page { size: size?, after: after? })
    }

    /// The request as its fields made it.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` with every fault that was noted. `INTERNAL` if none was, and yet `build` misses something:
    /// then a check that failed forgot to say so.
    pub fn finish<T>(self, build: impl FnOnce() -> Option<T>) -> Result<T, Fault> {
        if !self.faults.is_empty() {
            return Err(Fault::invalid(self.faults));
        }
        build().ok_or_else(|| {
            tracing::error!("a request's field was refused without a fault");
            Fault::internal()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::UserId;

    enum Thing {}

    /// The fields that a check finds at fault.
    fn faults<T>(check: impl FnOnce(&mut Fields) -> T) -> Vec<String> {
        let mut fields = Fields::new();
        let _ = check(&mut fields);
        fields.faults.into_iter().map(|fault| fault.field.into_owned()).collect()
    }

    #[test]
    fn any_uuid_with_its_hyphens_is_an_id() {
        for (text, sound) in [
            ("0197a6c1-7d3e-7c1a-9b5e-0123456789ab", true),
            ("0197A6C1-7D3E-7C1A-9B5E-0123456789AB", true),
            ("00000000-0000-0000-0000-000000000000", true),
            ("550e8400-e29b-41d4-a716-446655440000", true),
            ("", false),
            ("550e8400e29b41d4a716446655440000", false),
            ("{550e8400-e29b-41d4-a716-446655440000}", false),
            ("urn:uuid:550e8400-e29b-41d4-a716-446655440000", false),
            ("550e8400-e29b-41d4-a716-44665544000g", false),
            (" 550e8400-e29b-41d4-a716-44665544000", false),
        ] {
            assert_eq!(faults(|fields| fields.id::<Thing>("id", text)).is_empty(), sound, "{text:?}");
        }
        assert_eq!(Fields::new().optional_id::<Thing>("request_id", None), Some(None));
        assert_eq!(faults(|fields| fields.optional_id::<Thing>("request_id", Some(""))), ["request_id"]);
    }

    #[test]
    fn a_title_has_up_to_200_characters_none_of_them_a_control() {
        let long = "🎫".repeat(200);
        let longer = "x".repeat(201);
        for (text, sound) in [
            ("a", true),
            (" ", true),
            (" Fête à Zürich \u{202e}\u{200b} ", true), // formats (Cf) are no controls (Cc)
            (&long, true),
            ("", false),
            (&longer, false),
            ("a\nb", false),
            ("a\u{0}", false),
            ("\u{7f}", false),
            ("\u{85}", false),
        ] {
            let mut fields = Fields::new();
            assert_eq!(fields.title("title", text).as_deref(), sound.then_some(text), "{text:?}");
            assert_eq!(fields.faults.is_empty(), sound);
        }
        assert_eq!(faults(|fields| fields.title("title", &"\n".repeat(201))), ["title", "title"], "both at once");
    }

    #[test]
    fn a_number_is_within_bounds_which_are_named_when_it_isnt() {
        let mut fields = Fields::new();
        assert_eq!(fields.number("quantity", 1, 1..=1_000_000), Some(1));
        assert_eq!(fields.number("quantity", 1_000_000, 1..=1_000_000), Some(1_000_000));
        assert_eq!(fields.number("quantity", 0, 1..=1_000_000), None);
        assert_eq!(fields.number("version", i64::MIN, 0..=i64::MAX), None);
        let fault = fields.finish(|| Some(())).unwrap_err();
        assert_eq!(
            fault.to_string(),
            "InvalidArgument INVALID_ARGUMENT: \
             quantity must be from 1 to 1000000; version must be from 0 to 9223372036854775807"
        );
    }

    #[test]
    fn a_price_is_in_a_known_currency_and_not_negative() {
        for (given, expected) in [
            (Some(("USD", 0)), vec![]),
            (Some(("JPY", i64::MAX)), vec![]),
            (None, vec!["price"]),
            (Some(("USD", -1)), vec!["price.minor_units"]),
            (Some(("usd", 1)), vec!["price.currency_code"]),
            (Some(("", i64::MIN)), vec!["price.currency_code", "price.minor_units"]),
        ] {
            assert_eq!(faults(|fields| fields.price("price", given)), expected, "{given:?}");
        }
    }

    #[test]
    fn a_choice_is_one_that_this_version_knows_and_not_unspecified() {
        #[derive(Debug, PartialEq)]
        struct Color(i32);
        impl TryFrom<i32> for Color {
            type Error = ();
            fn try_from(number: i32) -> Result<Self, ()> {
                (0..=2).contains(&number).then_some(Self(number)).ok_or(())
            }
        }
        for (number, choice) in [(0, None), (1, Some(Color(1))), (2, Some(Color(2))), (3, None), (-1, None)] {
            let mut fields = Fields::new();
            assert_eq!(fields.choice::<Color>("color", number), choice, "{number}");
            assert_eq!(fields.faults.is_empty(), choice.is_some());
        }
    }

    #[test]
    fn a_page_has_50_items_if_nobody_says_and_200_at_most() {
        let listing = Listing::new("ListThings", &UserId::from_stored("alice"));
        for (size, expected) in [
            (None, Some(50)),
            (Some(0), Some(50)),
            (Some(1), Some(1)),
            (Some(200), Some(200)),
            (Some(201), Some(200)),
            (Some(i32::MAX), Some(200)),
            (Some(-1), None),
            (Some(i32::MIN), None),
        ] {
            let page = Fields::new().page(&listing, size, "");
            assert_eq!(page.map(|page| page.size), expected, "{size:?}");
        }
        assert_eq!(
            faults(|fields| fields.page(&listing, Some(-1), "forged")),
            ["page_size", "page_token"],
            "both at once"
        );
        let last = uuid::Uuid::now_v7();
        let page = Fields::new().page(&listing, None, &listing.token(last));
        assert_eq!(page.and_then(|page| page.after), Some(last));
    }

    #[test]
    fn a_check_that_refuses_without_a_fault_is_our_mistake() {
        let fault = Fields::new().finish(|| None::<()>).unwrap_err();
        assert_eq!(fault.reason(), "INTERNAL");
    }
}
