//! Who someone is: the subject of a token, as its issuer names them.

use std::{fmt, sync::Arc};

/// A user's id: 1 to 255 characters, in a form that is the token issuer's business. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Arc<str>);

/// What tokens may name, in Unicode scalar values (OpenID Connect's bound on `sub`).
const MAX_CHARS: usize = 255;

impl UserId {
    /// A user's id as a token names it. `None` if it is empty, longer than 255 characters, or has control characters,
    /// which neither logs nor databases take (U+0000) unharmed.
    pub fn new(text: &str) -> Option<Self> {
        let sound = !text.is_empty() && text.chars().count() <= MAX_CHARS && !text.chars().any(char::is_control);
        sound.then(|| Self::from_stored(text))
    }

    /// An id as it was stored or sent by a service, which had checked it.
    pub fn from_stored(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The bare text, for databases and messages.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_1_to_255_characters_none_of_them_a_control() {
        let (long, longer) = ("ü".repeat(255), "x".repeat(256));
        for (text, sound) in
            [("alice", true), ("auth0|7", true), (&long, true), ("", false), (&longer, false), ("a\u{0}", false)]
        {
            assert_eq!(UserId::new(text).is_some(), sound, "{text:?}");
        }
    }
}
