//! What this room is told.

use std::time::Duration;

use reqwest::Url;
use shared::config::{Default, Secret, Settings, parse};

/// Where the provider is, and how it is treated.
#[derive(Clone, Debug)]
pub struct ProviderConfig {
    /// Where its API begins, before `/v1`.
    pub base: Url,
    /// The secret key.
    pub key: Secret,
    /// Requests at once.
    pub calls: usize,
    /// How long one request may take; the caller's deadline bounds all of them together.
    pub timeout: Duration,
    /// How often a request is repeated at most, within the deadline.
    pub retries: u32,
    /// When it is left alone.
    pub breaker: BreakerConfig,
}

/// When a provider that fails is left alone, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerConfig {
    /// So many failures in a row.
    pub failures: u32,
    /// Until it is tried again, by one request.
    pub pause: Duration,
}

/// Shorter than what a caller gives for all requests together: else it would be the caller's impatience that ends one that
/// hangs, which says nothing about the provider.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(10);

impl ProviderConfig {
    /// The provider at this address, treated as usual.
    pub fn new(base: Url, key: Secret) -> Self {
        Self {
            base,
            key,
            calls: 256,
            timeout: Duration::from_secs(5),
            retries: 3,
            breaker: BreakerConfig { failures: 10, pause: Duration::from_secs(5) },
        }
    }

    /// Reads them; `None` if any has a fault.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let base = settings.get(
            "STRIPE_API_BASE",
            Default::To("https://api.stripe.com"),
            "where Stripe's API is, or what speaks it",
            parse::http_url,
        );
        let key = settings.secret_token("STRIPE_SECRET_KEY", "the secret key of Stripe's API");
        let calls = settings.get(
            "PROVIDER_CALLS",
            Default::To("256"),
            "requests to the payment provider at once; more wait, within their deadlines",
            parse::number(1..=10_000),
        );
        let timeout = settings.get(
            "PROVIDER_TIMEOUT",
            Default::To("5s"),
            "how long one request to the payment provider may take; all that a question needs take 15s at most",
            parse::duration_up_to(LONGEST_TIMEOUT),
        );
        let retries = settings.get(
            "PROVIDER_RETRIES",
            Default::To("3"),
            "how often a request to the payment provider is repeated, within its deadline",
            parse::number(0..=20),
        );
        let failures = settings.get(
            "PROVIDER_BREAKER_FAILURES",
            Default::To("10"),
            "failures in a row after which the payment provider is left alone",
            parse::number(1..=10_000),
        );
        let pause = settings.get(
            "PROVIDER_BREAKER_PAUSE",
            Default::To("5s"),
            "how long it is left alone then",
            parse::duration,
        );
        Some(Self {
            base: base?,
            key: key?,
            calls: calls?,
            timeout: timeout?,
            retries: retries?,
            breaker: BreakerConfig { failures: failures?, pause: pause? },
        })
    }
}
