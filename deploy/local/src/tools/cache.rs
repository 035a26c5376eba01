//! The cache. In: a folder's name, and how it is filled. Out: the folder, complete, filled once whoever asks.
//!
//! A tool is a folder of the cache whose name holds its version, complete once it holds the file `complete`. It is made under a lock,
//! in its final place: a Python venv has its own path written into it, and can't be renamed into place. A folder without the mark is
//! what an interrupted run has left, and made anew.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Tools;
use crate::progress::{say, step};

/// The mark of a folder that is complete.
const COMPLETE: &str = "complete";

impl Tools {
    /// The folder `name` of the cache, filled by `fill` unless it is there already.
    pub(super) async fn fetched(
        &self,
        name: &str,
        what: &str,
        fill: impl AsyncFn(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        if let Some(dir) = self.complete(name) {
            return Ok(dir);
        }
        let _lock = self.lock(name).await?;
        if let Some(dir) = self.complete(name) {
            return Ok(dir);
        }
        let dir = self.cache.join(name);
        let fetch = async {
            match fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => fs::create_dir_all(&dir)?,
            }
            fill(&dir).await?;
            File::create(dir.join(COMPLETE)).with_context(|| format!("marking {}", dir.display()))
        };
        step(&format!("{what}, into {}", dir.display()), fetch).await?;
        Ok(dir)
    }

    /// The folder `name` of the cache, if it is complete.
    pub(super) fn complete(&self, name: &str) -> Option<PathBuf> {
        let dir = self.cache.join(name);
        dir.join(COMPLETE).exists().then_some(dir)
    }

    /// Held while something is fetched, so that two runs don't fetch it both; goes with the process, however it ends.
    pub(super) async fn lock(&self, name: &str) -> Result<File> {
        fs::create_dir_all(&self.cache).with_context(|| format!("making the cache {}", self.cache.display()))?;
        let path = self.cache.join(format!("{name}.lock"));
        let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        if file.try_lock().is_err() {
            say(format_args!("waiting for another run that fetches {name}"));
            return Ok(tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await??);
        }
        Ok(file)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests end with the first thing that is wrong")]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use anyhow::bail;

    use super::*;

    #[tokio::test]
    async fn what_many_want_at_once_is_fetched_once() {
        let cache = tempfile::tempdir().unwrap();
        let fetches = AtomicU32::new(0);
        // Two of them, as two processes have: the lock is between them.
        let (one, other) = (Tools::at(cache.path().into()), Tools::at(cache.path().into()));
        let fetch = async |dir: &Path| {
            fetches.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok(fs::write(dir.join("tool"), "it")?)
        };

        let (a, b) = tokio::join!(one.fetched("tool-1", "fetching", fetch), other.fetched("tool-1", "fetching", fetch));

        assert_eq!(a.unwrap(), b.unwrap());
        assert_eq!(fetches.into_inner(), 1);
    }

    #[tokio::test]
    async fn what_an_interrupted_run_has_left_is_fetched_anew() {
        let cache = tempfile::tempdir().unwrap();
        let tools = Tools::at(cache.path().into());
        fs::create_dir_all(cache.path().join("tool-1")).unwrap();
        fs::write(cache.path().join("tool-1/half"), "").unwrap();

        tools.fetched("tool-1", "fetching", async |_| bail!("no network")).await.unwrap_err();
        let dir = tools.fetched("tool-1", "fetching", async |dir| Ok(fs::write(dir.join("tool"), "")?)).await.unwrap();

        assert!(dir.join("tool").exists() && !dir.join("half").exists());
    }
}
