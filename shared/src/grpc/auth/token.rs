//! Checking tokens, and keeping the keys for that.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jsonwebtoken::{decode, decode_header, errors::ErrorKind};
use serde::Deserialize;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{keys::Keys, source::Source};
use crate::{
    backoff::Backoff,
    clock,
    config::AuthConfig,
    grpc::{Caller, Fault, Health},
    telemetry::Spell,
    user::UserId,
};

/// Tokens whose checking is remembered: it is public-key cryptography, and a caller comes again and again with the same
/// one.
const REMEMBERED: usize = 8192;
/// How many times as long as they are kept at least, whatever tokens name, keys are kept at most.
const REREADS: u32 = 10;
/// And how long, where they are kept for no time at all.
const LEAST_ANYWAY: Duration = Duration::from_secs(1);
/// The part of a service that waits for keys, as its health names it.
const PART: &str = "auth";
/// The role of those who see all.
const OPERATOR: &str = "operator";

/// Checks tokens. Cheap to clone: all clones are one.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    source: Source,
    health: Health,
    reread_after: Duration,
    known: watch::Sender<Known>,
    /// Somebody needs a key that isn't known.
    wanted: Notify,
    remembered: Mutex<Remembered>,
}

/// The keys as they were read last.
struct Known {
    keys: Option<Arc<Keys>>,
    /// How often they were read again, or tried to.
    rereads: u64,
    last_reread: Option<Instant>,
}

/// Tokens that were found sound.
#[derive(Default)]
struct Remembered(HashMap<Box<str>, Sound>);

/// Who a token speaks for, and until when that holds.
struct Sound {
    caller: Caller,
    /// Seconds since 1970.
    expires: i64,
    /// Under which reading of the keys: later ones may not have its key any more.
    rereads: u64,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    // Beyond what the library checks: one issuer, not a list of them.
    #[serde(rename = "iss")]
    _iss: String,
    exp: f64,
    #[serde(default)]
    roles: Vec<String>,
}

impl Verifier {
    /// A verifier of tokens by this issuer, for this audience. It has no keys until [`Verifier::keep_keys`] runs, and
    /// holds the service's health back until then.
    ///
    /// # Errors
    ///
    /// No HTTP client can be made on this machine.
    pub fn new(config: &AuthConfig, health: &Health) -> Result<Self, reqwest::Error> {
        health.hold(PART, "the keys that sign tokens have not been read yet");
        Ok(Self(Arc::new(Inner {
            source: Source::new(config)?,
            health: health.clone(),
            reread_after: config.reread_after,
            known: watch::Sender::new(Known { keys: None, rereads: 0, last_reread: None }),
            wanted: Notify::new(),
            remembered: Mutex::default(),
        })))
    }

    /// Reads the keys, again and again until it is done once; then again whenever a token names a key that isn't known,
    /// but not more often than configured, and every ten times as long anyway, for a key may have been revoked. Keys that
    /// can't be read again stay as they were.
    pub async fn keep_keys(&self, stop: CancellationToken) {
        stop.run_until_cancelled(self.keep(&stop)).await;
    }

    async fn keep(&self, stop: &CancellationToken) {
        let mut backoff = Backoff::new();
        let spell = Spell::new();
        loop {
            match self.0.source.read().await {
                Ok(keys) => {
                    tracing::info!(keys = keys.len(), "the keys that sign tokens are read");
                    self.0.known.send_modify(|known| known.keys = Some(Arc::new(keys)));
                    break;
                }
                Err(error) => {
                    if let Some(left_out) = spell.happens(std::time::Instant::now()) {
                        tracing::warn!(%error, left_out, "the keys that sign tokens can't be read");
                    }
                    self.0.health.hold(PART, format!("the keys that sign tokens can't be read: {error}"));
                }
            }
            backoff.wait(stop).await;
        }
        self.0.health.release(PART);
        let anyway = self.0.reread_after.saturating_mul(REREADS).max(LEAST_ANYWAY);
        loop {
            if timeout(anyway, self.0.wanted.notified()).await.is_err() {
                self.reread().await;
                continue;
            }
            // Who asked while the last reading went on was answered by it.
            if self.0.known.borrow().may_reread(self.0.reread_after) {
                self.reread().await;
            }
        }
    }

    async fn reread(&self) {
        let keys = self.0.source.read().await;
        if let Err(error) = &keys {
            tracing::warn!(%error, "the keys that sign tokens can't be read again; the old ones stay");
        }
        self.0.known.send_modify(|known| {
            known.rereads += 1;
            known.last_reread = Some(Instant::now());
            if let Ok(keys) = keys {
                known.keys = Some(Arc::new(keys));
            }
        });
    }

    /// Who a token says that its bearer is.
    ///
    /// # Errors
    ///
    /// `UNAUTHENTICATED` if it isn't sound, was issued by or for another, isn't valid yet, or no longer (of that alone
    /// the reason tells); `UNAVAILABLE` while there are no keys.
    pub async fn verify(&self, token: &str) -> Result<Caller, Fault> {
        let rereads = self.0.known.borrow().rereads;
        if let Some(caller) = self.remembered().recall(token, rereads) {
            return Ok(caller);
        }
        let header = decode_header(token).map_err(|_| invalid())?;
        // Extensions that a verifier must understand (RFC 7515, 4.1.11); we know none.
        if header.crit.is_some() {
            return Err(invalid());
        }
        let keys = self.keys_with(header.kid.as_deref()).await?;
        let key = keys.find(header.kid.as_deref()).ok_or_else(invalid)?;
        let claims = decode::<Claims>(token, &key.decoding, &key.validation).map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => Fault::unauthenticated("TOKEN_EXPIRED", "the token has expired"),
            _ => invalid(),
        })?;
        let Claims { sub, exp, roles, .. } = claims.claims;
        let user = UserId::new(&sub).ok_or_else(invalid)?;
        let caller = Caller { user, operator: roles.iter().any(|role| role == OPERATOR) };
        // Whole seconds, rounded down: at worst it is checked once more. Floats saturate where they don't fit.
        self.remembered().remember(token, Sound { caller: caller.clone(), expires: exp as i64, rereads });
        Ok(caller)
    }

    /// The keys; read again before if this one isn't among them.
    async fn keys_with(&self, id: Option<&str>) -> Result<Arc<Keys>, Fault> {
        let mut changes = self.0.known.subscribe();
        let rereads = {
            let known = changes.borrow_and_update();
            let Some(keys) = &known.keys else {
                return Err(Fault::unavailable("KEYS_UNAVAILABLE", "tokens can't be checked yet"));
            };
            if keys.find(id).is_some() || !known.may_reread(self.0.reread_after) {
                return Ok(Arc::clone(keys));
            }
            known.rereads
        };
        self.0.wanted.notify_one();
        // The sender is in `self`, so it can't be gone. The call's own deadline bounds the wait.
        let known = changes.wait_for(|known| known.rereads > rereads).await;
        known.ok().and_then(|known| known.keys.clone()).ok_or_else(invalid)
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.0.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn may_reread(&self, after: Duration) -> bool {
        self.last_reread.is_none_or(|last| last.elapsed() >= after)
    }
}

impl Remembered {
    fn recall(&self, token: &str, rereads: u64) -> Option<Caller> {
        let sound = self.0.get(token)?;
        let holds = sound.rereads == rereads && clock::now().timestamp() < sound.expires;
        holds.then(|| sound.caller.clone())
    }

    fn remember(&mut self, token: &str, sound: Sound) {
        if self.0.len() >= REMEMBERED {
            // Rare, and cheaper than keeping an order: all are checked once more.
            self.0.clear();
        }
        self.0.insert(token.into(), sound);
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

/// One answer to all that is wrong with a token: which part it was would help only who forges them.
fn invalid() -> Fault {
    Fault::unauthenticated("TOKEN_INVALID", "the token is not valid here")
}
