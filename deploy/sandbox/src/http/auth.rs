//! Who may call: whoever has a test's secret key, `sk_test_…`, as Stripe takes it.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, header::AUTHORIZATION};

use crate::stripe::Problem;

/// Looks for a key: as a bearer token, or as the user of basic authentication.
pub(super) fn check(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(AUTHORIZATION).ok_or_else(|| Problem::unauthorized(false))?;
    let key = given.to_str().ok().and_then(key).ok_or_else(|| Problem::unauthorized(true))?;
    match key.strip_prefix("sk_test_") {
        Some(rest) if !rest.is_empty() => Ok(()),
        _ => Err(Problem::unauthorized(true)),
    }
}

fn key(authorization: &str) -> Option<String> {
    let (scheme, credentials) = authorization.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        Some(credentials.trim().to_owned())
    } else if scheme.eq_ignore_ascii_case("basic") {
        let pair = String::from_utf8(BASE64_STANDARD.decode(credentials.trim()).ok()?).ok()?;
        Some(pair.split(':').next()?.to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tests_key_opens_in_either_way_and_no_other_does() {
        let basic = |pair: &str| format!("Basic {}", BASE64_STANDARD.encode(pair));
        for (authorization, opens) in [
            ("Bearer sk_test_1".to_owned(), true),
            ("bearer sk_test_1".to_owned(), true),
            (basic("sk_test_1:"), true),
            (basic("sk_test_1"), true),
            ("Bearer sk_live_1".to_owned(), false),
            ("Bearer sk_test_".to_owned(), false),
            ("Bearer".to_owned(), false),
            ("sk_test_1".to_owned(), false),
            (basic(":sk_test_1"), false),
            ("Basic sk_test_1".to_owned(), false),
        ] {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, authorization.parse().unwrap())]);
            assert_eq!(check(&headers).is_ok(), opens, "{authorization}");
        }
        assert!(check(&HeaderMap::new()).is_err());
    }
}
