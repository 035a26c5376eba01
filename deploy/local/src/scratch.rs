//! Temporary folders that don't pile up. In: nothing. Out: a folder that goes when it is dropped, and, if this process is killed before,
//! when the next such folder is made. It never touches one whose process lives.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

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
            free_shared_memory(&dir.join("postgres/data/postmaster.pid"));
            // Another process may be at it, too, or it is another user's.
            let _ = fs::remove_dir_all(&dir);
        }
    }
}

/// A Postgres that was killed leaves a System V memory segment, which nobody will attach to again; a machine has a few thousand. The
/// seventh line of its pid file has the segment's key and id, and the kernel's list whether it is still that one and unused.
fn free_shared_memory(pid_file: &Path) -> Option<()> {
    let text = fs::read_to_string(pid_file).ok()?;
    let (key, id) = text.lines().nth(6)?.trim().split_once(' ')?;
    let list = fs::read_to_string("/proc/sysvipc/shm").ok()?;
    // key shmid perms size cpid lpid nattch …; the key is signed there.
    let unused = list.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>()).any(|fields| {
        let listed = fields.first().and_then(|key| key.parse::<i32>().ok());
        listed == key.parse::<u32>().ok().map(u32::cast_signed)
            && fields.get(1) == Some(&id.trim())
            && fields.get(6) == Some(&"0")
    });
    if unused {
        std::process::Command::new("ipcrm").args(["-m", id.trim()]).status().ok()?;
    }
    Some(())
}
