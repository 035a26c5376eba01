//! A set of keys, read from its JSON (RFC 7517).

use std::collections::HashMap;

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;

use crate::config::AuthConfig;

/// How far clocks may differ, in seconds.
const LEEWAY: u64 = 5;

/// The keys that sign tokens, each with the one algorithm it signs by and what its tokens must claim.
pub(super) struct Keys(HashMap<String, Key>);

/// A key, and how what it signed is checked.
pub(super) struct Key {
    pub(super) decoding: DecodingKey,
    pub(super) validation: Validation,
}

/// Why a text is no set of keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidKeys {
    #[error("it is no JSON Web Key Set: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("it holds no key for EdDSA (Ed25519), ES256 or RS256")]
    NoneUsable,
}

#[derive(Deserialize)]
struct KeySet {
    // One by one, since a set may also hold keys of kinds that we don't know.
    keys: Vec<serde_json::Value>,
}

impl Keys {
    /// Reads a set; keys that can't be used here are passed over.
    pub(super) fn read(json: &[u8], config: &AuthConfig) -> Result<Self, InvalidKeys> {
        let set: KeySet = serde_json::from_slice(json)?;
        let mut keys = HashMap::new();
        for jwk in set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok()) {
            let Some((id, key)) = usable(&jwk, config) else { continue };
            if keys.contains_key(&id) {
                // Which of them a token means can't be told, and guessing would let it choose.
                tracing::warn!(kid = id, "two keys have the same id: the first is used");
                continue;
            }
            keys.insert(id, key);
        }
        if keys.is_empty() { Err(InvalidKeys::NoneUsable) } else { Ok(Self(keys)) }
    }

    /// The key that a token names. One that names none means the only one there is.
    pub(super) fn find(&self, id: Option<&str>) -> Option<&Key> {
        match id {
            Some(id) => self.0.get(id),
            None if self.0.len() == 1 => self.0.values().next(),
            None => None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

fn usable(jwk: &Jwk, config: &AuthConfig) -> Option<(String, Key)> {
    let id = jwk.common.key_id.clone().unwrap_or_default();
    let signs = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let verifies = jwk.common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
    if !signs || !verifies {
        return None;
    }
    let algorithm = algorithm(jwk)?;
    let decoding = DecodingKey::from_jwk(jwk).ok()?;
    Some((id, Key { decoding, validation: validation(algorithm, config) }))
}

/// The one algorithm that a key is for: its own kind and curve say so, and never the token, which an attacker writes.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    let (algorithm, stated) = match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        _ => return None,
    };
    jwk.common.key_algorithm.is_none_or(|alg| alg == stated).then_some(algorithm)
}

fn validation(algorithm: Algorithm, config: &AuthConfig) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = LEEWAY;
    validation.validate_nbf = true;
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.set_issuer(&[&config.issuer]);
    validation.set_audience(&[&config.audience]);
    validation
}
