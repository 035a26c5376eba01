//! Stripe's search, as far as anybody here asks: `metadata['order_id']:'1' AND metadata["payment_id"]:"2"`.
//!
//! The language: <https://docs.stripe.com/search#search-query-language>.

use super::Problem;

/// Metadata that has to have exactly this value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// The entry's name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl Term {
    /// Reads a query: at least one term, all of which have to hold.
    ///
    /// # Errors
    ///
    /// Anything else that Stripe's language has, or hasn't.
    pub fn parse_all(query: &str) -> Result<Vec<Self>, Problem> {
        let unreadable = || {
            let message =
                "We were unable to parse your search query. This sandbox knows metadata['name']:'value' and AND.";
            Problem::invalid("query", message)
        };
        let mut terms = Vec::new();
        let mut rest = query.trim();
        loop {
            let (term, behind) = Self::parse(rest).ok_or_else(unreadable)?;
            terms.push(term);
            let behind = behind.trim_start();
            if behind.is_empty() {
                return Ok(terms);
            }
            rest = behind.strip_prefix("AND ").or(behind.strip_prefix("and ")).ok_or_else(unreadable)?.trim_start();
        }
    }

    fn parse(text: &str) -> Option<(Self, &str)> {
        let (name, rest) = quoted(text.strip_prefix("metadata[")?)?;
        let (value, rest) = quoted(rest.strip_prefix("]:")?)?;
        Some((Self { name, value }, rest))
    }
}

/// A text in quotes of either kind, with backslashes before quotes in it; and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|first| matches!(first, '\'' | '"'))?;
    let mut unquoted = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => unquoted.push(characters.next()?.1),
            end if end == quote => return Some((unquoted, &text[at + end.len_utf8()..])),
            other => unquoted.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_one_term_or_several_that_all_hold() {
        let term = |name: &str, value: &str| Term { name: name.to_owned(), value: value.to_owned() };
        for (query, expected) in [
            ("metadata['payment_id']:'1'", Some(vec![term("payment_id", "1")])),
            (r#"metadata["payment_id"]:"1""#, Some(vec![term("payment_id", "1")])),
            ("metadata['a']:'1' AND metadata[\"b\"]:'2'", Some(vec![term("a", "1"), term("b", "2")])),
            (r"metadata['a']:'it\'s'", Some(vec![term("a", "it's")])),
            ("", None),
            ("status:'succeeded'", None),
            ("metadata['a']:'1' OR metadata['b']:'2'", None),
            ("metadata['a']:'1' AND ", None),
            ("metadata['a']:'1", None),
            ("metadata['a']~'1'", None),
        ] {
            assert_eq!(Term::parse_all(query).ok(), expected, "{query}");
        }
    }
}
