//! Where keys are read: a file or a URL.

use std::{error::Error, io, path::Path, time::Duration};

use reqwest::{Client, Url, redirect::Policy};
use tokio::{fs::File, io::AsyncReadExt as _};

use super::keys::{InvalidKeys, Keys};
use crate::config::{AuthConfig, JwksSource};

/// How long an answer may take as a whole.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest set that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Keys couldn't be read: where, and why.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {why}")]
pub(super) struct Unreadable {
    place: String,
    why: Why,
}

#[derive(Debug, thiserror::Error)]
enum Why {
    #[error("{0}")]
    File(#[from] io::Error),
    #[error("{}", innermost(.0))]
    Http(#[from] reqwest::Error),
    #[error("it is larger than {MAX_BYTES} bytes")]
    TooLarge,
    #[error(transparent)]
    Invalid(#[from] InvalidKeys),
}

/// What was the matter in the first place: an error of HTTP says of itself no more than that there is one.
fn innermost(error: &reqwest::Error) -> &dyn Error {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost
}

/// Reads keys again and again from the same place.
pub(super) struct Source {
    config: AuthConfig,
    client: Client,
}

impl Source {
    pub(super) fn new(config: &AuthConfig) -> Result<Self, reqwest::Error> {
        let client = Client::builder().timeout(TIMEOUT).redirect(Policy::limited(3)).build()?;
        Ok(Self { config: config.clone(), client })
    }

    /// Reads the keys as they are now.
    pub(super) async fn read(&self) -> Result<Keys, Unreadable> {
        self.keys().await.map_err(|why| Unreadable { place: self.place(), why })
    }

    async fn keys(&self) -> Result<Keys, Why> {
        let json = match &self.config.jwks {
            JwksSource::File(path) => in_file(path).await?,
            JwksSource::Url(url) => self.over_http(url.clone()).await?,
        };
        Ok(Keys::read(&json, &self.config)?)
    }

    /// For people. Without what a URL's query or its user may hold: that may be a secret.
    fn place(&self) -> String {
        match &self.config.jwks {
            JwksSource::File(path) => path.display().to_string(),
            JwksSource::Url(url) => format!("{}{}", url.origin().ascii_serialization(), url.path()),
        }
    }

    async fn over_http(&self, url: Url) -> Result<Vec<u8>, Why> {
        let mut answer = self.client.get(url).send().await?.error_for_status().map_err(reqwest::Error::without_url)?;
        let mut json = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            json.extend_from_slice(&chunk);
            if json.len() as u64 > MAX_BYTES {
                return Err(Why::TooLarge);
            }
        }
        Ok(json)
    }
}

async fn in_file(path: &Path) -> Result<Vec<u8>, Why> {
    let mut json = Vec::new();
    File::open(path).await?.take(MAX_BYTES + 1).read_to_end(&mut json).await?;
    if json.len() as u64 > MAX_BYTES { Err(Why::TooLarge) } else { Ok(json) }
}
