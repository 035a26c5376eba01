//! Who calls, and where a page of a list begins: both are texts that anybody could have written.

use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::Result;
use local::keys::{AUDIENCE, ISSUER, Signer, jwks_path};
use serde_json::Value;
use shared::{
    config::{AuthConfig, JwksSource},
    grpc::{Health, Listing, Verifier},
    user::UserId,
};
use tempfile::TempDir;
use tokio::{runtime::Runtime, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// A verifier with its keys, and whoever signs with them.
struct House {
    /// One at a time: a fuzzer has one thread, tests have many.
    runtime: Mutex<Runtime>,
    verifier: Verifier,
    signer: Signer,
    _keeping: JoinHandle<()>,
    _keys: TempDir,
}

impl House {
    fn open() -> Result<Self> {
        let keys = TempDir::new()?;
        let signer = Signer::load_or_create(keys.path())?;
        let config = AuthConfig {
            jwks: JwksSource::File(jwks_path(keys.path())),
            issuer: ISSUER.to_owned(),
            audience: AUDIENCE.to_owned(),
            // Once, for the first key that isn't known.
            reread_after: std::time::Duration::from_secs(24 * 60 * 60),
        };
        let health = Health::starting();
        let verifier = Verifier::new(&config, &health)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let keeping = verifier.clone();
        let keeping = runtime.spawn(async move { keeping.keep_keys(CancellationToken::new()).await });
        runtime.block_on(async {
            health.ready();
            health.wait_for(true).await;
        });
        Ok(Self { runtime: Mutex::new(runtime), verifier, signer, _keeping: keeping, _keys: keys })
    }

    fn caller(&self, token: &str) -> Option<(String, bool)> {
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        match runtime.block_on(self.verifier.verify(token)) {
            Ok(caller) => Some((caller.user.to_string(), caller.operator)),
            Err(fault) => {
                assert!(["TOKEN_INVALID", "TOKEN_EXPIRED"].contains(&fault.reason()), "{fault}");
                None
            }
        }
    }
}

/// A text as a token, which nobody signed; and, if it is JSON, as the claims of one that was signed.
pub fn tokens(data: &[u8]) {
    static HOUSE: OnceLock<House> = OnceLock::new();
    let house = HOUSE.get_or_init(|| House::open().expect("a verifier"));
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert_eq!(house.caller(text), None, "nobody signed this: {text:?}");

    let Ok(claims) = serde_json::from_str::<Value>(text) else { return };
    let Ok(token) = house.signer.sign(&claims) else { return };
    if let Some((user, operator)) = house.caller(&token) {
        assert_eq!(claims["sub"], user.as_str());
        assert!(UserId::new(&user).is_some(), "{user:?}");
        assert_eq!(claims["iss"], ISSUER);
        let audience = &claims["aud"];
        assert!(audience == AUDIENCE || audience.as_array().is_some_and(|all| all.contains(&AUDIENCE.into())));
        assert!(claims["exp"].is_number());
        let roles = claims["roles"].as_array();
        assert_eq!(operator, roles.is_some_and(|roles| roles.contains(&"operator".into())));
    }
}

/// A text as a page's token. Whatever is one is the only way to write it, and of one list alone.
pub fn page_tokens(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let alice = UserId::from_stored("alice");
    let own = Listing::new("ListOrders", &alice).filter("status", Some(1));
    if let Some(last) = own.read(text) {
        assert_eq!(own.token(last), text);
        for other in [
            Listing::new("ListOrders", &alice),
            Listing::new("ListTickets", &alice).filter("status", Some(1)),
            Listing::new("ListOrders", &UserId::from_stored("bob")).filter("status", Some(1)),
        ] {
            assert_eq!(other.read(text), None);
        }
    }
}
