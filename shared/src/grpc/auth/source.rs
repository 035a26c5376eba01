//! Where keys are read: a file or a URL.

use std::{io, path::Path, time::Duration};

use reqwest::{Client, Url, redirect::Policy};
use tokio::{fs::File, io::AsyncReadExt as _};

use super::keys::{InvalidKeys, Keys};
use crate::config::{AuthConfig, JwksSource};

/// How long an answer may take as a whole.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest set that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Why keys couldn't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("{0}")]
    File(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] reqwest::Error),
    #[error("it is larger than {MAX_BYTES} bytes")]
    TooLarge,
    #[error(transparent)]
    Invalid(#[from] InvalidKeys),
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
        let json = match &self.config.jwks {
            JwksSource::File(path) => in_file(path).await?,
            JwksSource::Url(url) => self.over_http(url.clone()).await?,
        };
        Ok(Keys::read(&json, &self.config)?)
    }

    async fn over_http(&self, url: Url) -> Result<Vec<u8>, Unreadable> {
        let mut answer = self.client.get(url).send().await?.error_for_status()?;
        let mut json = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            json.extend_from_slice(&chunk);
            if json.len() as u64 > MAX_BYTES {
                return Err(Unreadable::TooLarge);
            }
        }
        Ok(json)
    }
}

async fn in_file(path: &Path) -> Result<Vec<u8>, Unreadable> {
    let mut json = Vec::new();
    File::open(path).await?.take(MAX_BYTES + 1).read_to_end(&mut json).await?;
    if json.len() as u64 > MAX_BYTES { Err(Unreadable::TooLarge) } else { Ok(json) }
}
