//! Temporary folders that don't pile up. In: nothing. Out: a folder that goes when it is dropped, and, if this process is killed before,
//! when the next such folder is made. It never touches one whose process lives.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::postgres;

const PREFIX: &str = "ticketing-scratch-";

/// Held as long as the folder is in use.
const LOCK: &str = "lock";

/// A temporary folder.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: TempDir,
    _lock: File,
}

impl Scratch {
    pub(crate) fn new() -> Result<Self> {
        sweep();
        let mut builder = tempfile::Builder::new();
        // Postgres runs as another user when we are root, and must find its way to its own folder in here.
        let dir = builder.prefix(PREFIX).permissions(Permissions::from_mode(0o755)).tempdir();
        let dir = dir.context("making a temporary folder")?;
        // It has its name only once it is locked: nobody meets it free.
        let unnamed = dir.path().join("lock.new");
        let lock = File::create(&unnamed)?;
        lock.lock()?;
        fs::rename(unnamed, dir.path().join(LOCK))?;
        Ok(Self { dir, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Leaves it where it is, for a person to look at.
    pub(crate) fn keep(self) -> PathBuf {
        let path = self.dir.keep();
        // Without the lock's file nobody takes it for abandoned.
        let _ = fs::remove_file(path.join(LOCK));
        path
    }

    pub(crate) fn remove(self) -> Result<()> {
        self.dir.close().context("removing the temporary folder")
    }
}

/// Removes what killed processes have left: the folders whose lock nobody holds.
fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for dir in entries.flatten().map(|entry| entry.path()) {
        let ours = dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        let abandoned = || File::open(dir.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        if ours && abandoned() {
            postgres::free_shared_memory(&dir.join("postgres"));
            // Another process may be at it, too, or it is another user's.
            let _ = fs::remove_dir_all(&dir);
        }
    }
}
