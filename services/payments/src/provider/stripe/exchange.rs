//! One request and its answer: a place among those under way, the breaker's leave, a bound on time and size.

use std::time::Duration;

use reqwest::{Response, header::HeaderMap};
use tokio::time::{Instant, timeout_at};

use super::{API_VERSION, Judged, Request, Stripe, requests::Method};
use crate::provider::{Fault, Trouble, Why, breaker::Refusal};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an idle connection is kept: less than Stripe and the sandbox do, who would close it under a request.
const IDLE: Duration = Duration::from_secs(30);
/// An answer of ours has a few kilobytes.
const ANSWER_BYTES: usize = 1 << 20;

/// An answer, whole.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// Kept from an earlier request with the key.
    pub(super) replayed: bool,
    /// What Stripe advises, if it does.
    pub(super) should_retry: Option<bool>,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Stopped {
    /// What came instead, and when to come again.
    Unanswered(Why, Option<Duration>),
    /// It wasn't asked at all, and won't be for a while.
    Refused(Duration),
    /// There can't be such a request.
    Unaskable(String),
}

impl<T> From<Stopped> for Judged<T> {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            // Waiting for a place has used the deadline up.
            Stopped::Unanswered(why @ Why::Busy, _) => Self::Stop(Trouble::unclear(why)),
            Stopped::Unanswered(why, retry_after) => Self::Again(why, retry_after),
            Stopped::Refused(time) => Self::Stop(Trouble::Unclear { why: Why::CircuitOpen, retry_after: Some(time) }),
            Stopped::Unaskable(message) => {
                Self::Stop(Trouble::Broken { fault: Fault::BadRequest, status: 0, code: None, message })
            }
        }
    }
}

pub(super) fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .user_agent(concat!("ticketing-payments/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .redirect(reqwest::redirect::Policy::none())
        // Repeating is decided in one place, and the environment is read in another.
        .retry(reqwest::retry::never())
        .no_proxy()
        .build()
}

impl Stripe {
    /// Makes a request, once.
    pub(super) async fn exchange(&self, request: &Request, deadline: Instant) -> Result<Reply, Stopped> {
        let Ok(Ok(_place)) = timeout_at(deadline, self.places.acquire()).await else {
            return Err(Stopped::Unanswered(Why::Busy, None));
        };
        self.admit()?;
        let _in_flight = self.metrics.in_flight();
        let own_limit = Instant::now() + self.config.timeout;
        let answered = timeout_at(own_limit.min(deadline), self.send(request)).await;

        let now = Instant::now();
        let mut breaker = self.breaker();
        let outcome = match answered {
            Ok(Ok(reply)) => {
                match reply.status {
                    429 => breaker.hold(now, reply.retry_after.unwrap_or_default()),
                    // One that is kept shows that the provider is there.
                    500.. if !reply.replayed => breaker.failed(now),
                    _ => breaker.answered(),
                }
                Ok(reply)
            }
            Ok(Err(stopped)) => {
                if matches!(stopped, Stopped::Unanswered(..)) {
                    breaker.failed(now);
                }
                Err(stopped)
            }
            Err(_) => {
                // A caller in a hurry says nothing about the provider.
                if own_limit <= deadline {
                    breaker.failed(now);
                }
                Err(Stopped::Unanswered(Why::TimedOut, None))
            }
        };
        self.metrics.breaker(breaker.position());
        outcome
    }

    fn admit(&self) -> Result<(), Stopped> {
        let mut breaker = self.breaker();
        let admitted = breaker.admit(Instant::now());
        self.metrics.breaker(breaker.position());
        admitted.map_err(|refusal| match refusal {
            Refusal::Open(time) => Stopped::Refused(time),
            Refusal::Held(time) => Stopped::Unanswered(Why::RateLimited, Some(time)),
        })
    }

    async fn send(&self, request: &Request) -> Result<Reply, Stopped> {
        let base = self.config.base.as_str().trim_end_matches('/');
        let url = format!("{base}{}", request.path);
        let form = request.encoded();
        let mut sending = match request.method {
            Method::Get if form.is_empty() => self.http.get(url),
            Method::Get => self.http.get(format!("{url}?{form}")),
            Method::Post => self.http.post(url).header("content-type", "application/x-www-form-urlencoded").body(form),
        };
        sending = sending.bearer_auth(self.config.key.expose()).header("stripe-version", API_VERSION);
        if let Some(key) = &request.key {
            sending = sending.header("idempotency-key", key);
        }
        let response = sending.send().await.map_err(unanswered)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Reply {
            status,
            replayed: text(&headers, "idempotent-replayed") == Some("true"),
            should_retry: text(&headers, "stripe-should-retry").and_then(|advice| advice.parse().ok()),
            // Stripe gives seconds; HTTP would also allow a date, which nobody here sends.
            retry_after: text(&headers, "retry-after")
                .and_then(|time| time.parse().ok())
                .map(|seconds| Duration::from_secs(seconds).min(LONGEST_PAUSE)),
            body: read(response).await?,
        })
    }
}

/// A provider that asks for more than this is asked again all the same: it may have meant something else.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

async fn read(mut response: Response) -> Result<Vec<u8>, Stopped> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unanswered)? {
        if body.len() + chunk.len() > ANSWER_BYTES {
            return Err(Stopped::Unanswered(Why::Unreadable, None));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[allow(clippy::needless_pass_by_value, reason = "the form of map_err")]
fn unanswered(error: reqwest::Error) -> Stopped {
    if error.is_builder() {
        // The URL, or a header that holds what no header may. Neither is shown: one of them is the secret key.
        Stopped::Unaskable("the request can't be made: is STRIPE_SECRET_KEY or STRIPE_API_BASE malformed?".to_owned())
    } else if error.is_timeout() {
        Stopped::Unanswered(Why::TimedOut, None)
    } else {
        Stopped::Unanswered(Why::ConnectionLost, None)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
