//! Who may call: the local stack's own issuer of tokens. In: a user, roles, or claims of any kind. Out: JWTs, and the JWKS by which
//! services check them. The signing key never leaves its file.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

/// The tokens' `iss`: what services get as `JWT_ISSUER`.
pub const ISSUER: &str = "ticketing-local";
/// The tokens' `aud`: what services get as `JWT_AUDIENCE`.
pub const AUDIENCE: &str = "ticketing";
/// How long a token is valid.
pub const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// What a token says. Tests change fields before they sign.
#[derive(Debug, Clone, Serialize)]
pub struct Claims {
    /// Who issued it.
    pub iss: String,
    /// For whom it is meant.
    pub aud: String,
    /// The user.
    pub sub: String,
    /// What else the user may do: `operator`.
    pub roles: Vec<String>,
    /// When it was issued, in seconds since 1970, as are the next two.
    pub iat: u64,
    /// From when it is valid.
    pub nbf: u64,
    /// From when it no longer is.
    pub exp: u64,
}

impl Claims {
    /// Those of a user with these roles, valid from now for a day.
    #[allow(clippy::disallowed_methods, reason = "the clock of services is no dependency of the tool that starts them")]
    pub fn new(user: &str, roles: &[&str]) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user.to_owned(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            iat: now,
            nbf: now,
            exp: now + LIFETIME.as_secs(),
        }
    }
}

/// An Ed25519 key that signs tokens.
pub struct Signer {
    key: EncodingKey,
    jwk: Jwk,
    kid: String,
}

impl Signer {
    /// With a new key that is kept nowhere: a stranger, as long as its JWKS isn't given to the services.
    ///
    /// # Errors
    /// When the key can't be made.
    pub fn generate() -> Result<Self> {
        Self::from_pem(&new_key()?)
    }

    /// With the key in `dir`, made if there is none; beside it lies `jwks.json` afterwards. Several processes may do this at once.
    ///
    /// # Errors
    /// When the files can't be read or written, or hold no such key.
    pub fn load_or_create(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let path = dir.join("signing-key.pem");
        if !path.exists() {
            // The first to put its key there wins; all go on with what is there then. The file is its owner's alone (0600).
            let mut file = tempfile::NamedTempFile::new_in(dir)?;
            file.write_all(new_key()?.as_bytes())?;
            match file.persist_noclobber(&path) {
                Err(error) if error.error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(error.error.into());
                }
                _ => {}
            }
        }
        let pem = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let signer = Self::from_pem(&pem).with_context(|| format!("the key in {}", path.display()))?;
        signer.write_jwks(&jwks_path(dir))?;
        Ok(signer)
    }

    /// A token for `user` with `roles`, valid for a day.
    ///
    /// # Errors
    /// When it can't be signed.
    pub fn token(&self, user: &str, roles: &[&str]) -> Result<String> {
        self.sign(&Claims::new(user, roles))
    }

    /// A token with these claims, whatever they are: [`Claims`], or any map.
    ///
    /// # Errors
    /// When they can't be written as JSON or signed.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String> {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, claims, &self.key).context("signing a token")
    }

    /// The key's id in the JWKS: its thumbprint (RFC 7638).
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public half, as services read it.
    pub fn jwks(&self) -> JwkSet {
        JwkSet { keys: vec![self.jwk.clone()] }
    }

    /// Writes the JWKS, in one step: services may read it at any time.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_jwks(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.jwks())? + "\n";
        if fs::read_to_string(path).is_ok_and(|present| present == text) {
            return Ok(());
        }
        let write = || -> Result<()> {
            let dir = path.parent().unwrap_or(Path::new("."));
            let mut file = tempfile::Builder::new().permissions(public()).tempfile_in(dir)?;
            file.write_all(text.as_bytes())?;
            file.persist(path)?;
            Ok(())
        };
        write().with_context(|| format!("writing {}", path.display()))
    }

    fn from_pem(pem: &str) -> Result<Self> {
        let key = EncodingKey::from_ed_pem(pem.as_bytes())?;
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::EdDSA)?;
        let kid = jwk.thumbprint(ThumbprintHash::SHA256)?;
        jwk.common.key_id = Some(kid.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self { key, jwk, kid })
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// Where [`Signer::load_or_create`] puts the JWKS: what services get as `JWKS`.
pub fn jwks_path(dir: &Path) -> PathBuf {
    dir.join("jwks.json")
}

/// PKCS#8 version 1, as OpenSSL writes it; jsonwebtoken knows an Ed25519 key by that form's 48 bytes.
fn new_key() -> Result<String> {
    let key = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).ok().context("making an Ed25519 key")?;
    Ok(pem::encode(&pem::Pem::new("PRIVATE KEY", key.as_ref())))
}

fn public() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o644)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests end with the first thing that is wrong")]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
    use serde_json::{Value, json};

    use super::*;

    /// As a service checks it.
    fn check(token: &str, jwks: &JwkSet) -> Result<Value> {
        let kid = decode_header(token)?.kid.context("no kid")?;
        let key = DecodingKey::from_jwk(jwks.find(&kid).context("unknown kid")?)?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.validate_nbf = true;
        Ok(decode::<Value>(token, &key, &validation)?.claims)
    }

    #[test]
    fn a_token_says_who_calls_and_is_accepted_by_its_jwks_alone() {
        let (issuer, stranger) = (Signer::generate().unwrap(), Signer::generate().unwrap());

        let token = issuer.token("alice", &["operator"]).unwrap();

        let claims = check(&token, &issuer.jwks()).unwrap();
        assert_eq!((&claims["sub"], &claims["roles"]), (&json!("alice"), &json!(["operator"])));
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 24 * 60 * 60);
        check(&token, &stranger.jwks()).unwrap_err();
    }

    #[test]
    fn any_claims_can_be_signed_expired_ones_too() {
        let signer = Signer::generate().unwrap();
        let mut claims = Claims::new("alice", &[]);
        claims.exp -= 2 * LIFETIME.as_secs();

        let expired = signer.sign(&claims).unwrap();
        let without_user = signer.sign(&json!({ "iss": ISSUER })).unwrap();

        assert!(check(&expired, &signer.jwks()).unwrap_err().to_string().contains("ExpiredSignature"));
        check(&without_user, &signer.jwks()).unwrap_err();
    }

    #[test]
    fn all_who_ask_at_once_get_the_same_key_and_only_its_owner_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();

        let signers: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(|| Signer::load_or_create(dir.path()).unwrap())).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });

        assert!(signers.iter().all(|signer| signer.kid() == signers[0].kid()));
        let jwks: JwkSet = serde_json::from_slice(&fs::read(jwks_path(dir.path())).unwrap()).unwrap();
        check(&signers[7].token("alice", &[]).unwrap(), &jwks).unwrap();
        let key = fs::metadata(dir.path().join("signing-key.pem")).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
    }
}
