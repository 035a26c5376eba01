//! Who calls: bearer tokens, checked against the keys of whoever issues them.
//!
//! In comes a token's text; out goes a [`Caller`](super::Caller) or a refusal that helps no attacker. It issues no
//! tokens and asks nobody else about them.

mod keys;
mod source;
mod token;

pub use token::Verifier;
