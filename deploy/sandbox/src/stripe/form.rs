//! Forms in Stripe's bracket notation: `metadata[order_id]=1`, `payment_method_types[]=card`.

use std::collections::BTreeMap;

use super::Problem;

/// The fields of a form, or of a query, as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form(Vec<(String, String)>);

impl Form {
    /// Reads `application/x-www-form-urlencoded`, of which any text is one.
    pub fn parse(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// A field's value; the last one, if it is given twice.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// A field's value.
    ///
    /// # Errors
    ///
    /// It is missing or empty.
    pub fn required(&self, name: &'static str) -> Result<&str, Problem> {
        self.get(name).filter(|value| !value.is_empty()).ok_or_else(|| Problem::missing(name))
    }

    /// What stands in brackets behind `name`, by its own name: `metadata[a]=1` is `a` of `metadata`.
    pub fn map(&self, name: &str) -> BTreeMap<String, String> {
        let inner = |given: &str| Some(given.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']')?.to_owned());
        self.0.iter().filter_map(|(given, value)| Some((inner(given)?, value.clone()))).collect()
    }

    /// Only these are known: whole names, or what a bracket follows.
    ///
    /// # Errors
    ///
    /// The first field that is not.
    pub fn only(&self, known: &[&str]) -> Result<(), Problem> {
        let base = |name: &str| name.split('[').next().unwrap_or_default().to_owned();
        match self.0.iter().find(|(name, _)| !known.contains(&base(name).as_str())) {
            Some((name, _)) => Err(Problem::unknown_parameter(name)),
            None => Ok(()),
        }
    }

    /// All fields in one order, whichever they came in: by this a key's parameters are compared.
    pub fn sorted(&self) -> Vec<(&str, &str)> {
        let mut fields: Vec<_> = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        fields.sort_unstable();
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_are_read_whether_they_are_escaped_or_not() {
        let form =
            Form::parse(b"amount=1&metadata[order_id]=a+b&metadata%5Bpayment_id%5D=c%26d&payment_method_types[]=card");
        assert_eq!(form.get("amount"), Some("1"));
        let metadata = form.map("metadata");
        assert_eq!(metadata["order_id"], "a b");
        assert_eq!(metadata["payment_id"], "c&d");
        assert_eq!(form.only(&["amount", "metadata", "payment_method_types"]), Ok(()));
        assert_eq!(form.only(&["amount", "metadata"]), Err(Problem::unknown_parameter("payment_method_types[]")));
    }

    #[test]
    fn the_order_of_fields_makes_no_difference() {
        assert_eq!(Form::parse(b"a=1&b=2").sorted(), Form::parse(b"b=2&a=1").sorted());
        assert_ne!(Form::parse(b"a=1&b=2").sorted(), Form::parse(b"b=1&a=2").sorted());
    }
}
