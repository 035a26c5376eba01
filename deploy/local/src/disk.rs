//! Room on disks: on a full one everything fails, each thing with a complaint of its own. In: a folder. Out: an error beforehand
//! that says what is missing where, or a hint afterwards.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::sys::statvfs::statvfs;

const GB: u64 = 1_000_000_000;

/// With less than this many bytes, a disk counts as full: servers write that much at once.
const FULL: u64 = GB / 2;

/// Asks that the disk of `dir`, which exists, has `gigabytes` (of 10^9 bytes) free for `what`.
///
/// # Errors
/// When it hasn't: how much there is, of how much, and where. When it can't be asked.
pub fn require(dir: &Path, gigabytes: u64, what: &str) -> Result<()> {
    let free = free(dir)?;
    let (whole, tenth) = (free / GB, free % GB / (GB / 10));
    ensure!(
        free / GB >= gigabytes,
        "{what} may take {gigabytes} GB, and the disk of {} has {whole}.{tenth} GB free",
        dir.display()
    );
    Ok(())
}

/// Whether the disk of `dir` has next to nothing left. One that can't be asked is not called full.
pub(crate) fn full(dir: &Path) -> bool {
    free(dir).is_ok_and(|free| free < FULL)
}

/// In bytes, without what is kept for root.
fn free(dir: &Path) -> Result<u64> {
    let disk = statvfs(dir).with_context(|| format!("asking the disk of {}", dir.display()))?;
    Ok(disk.blocks_available() * disk.fragment_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the kernel's own making: it has no bytes at all.
    const NO_ROOM: &str = "/proc";

    #[test]
    fn a_disk_without_room_is_full_and_refused() {
        assert!(full(Path::new(NO_ROOM)));
        let refused = require(Path::new(NO_ROOM), 1, "a test").unwrap_err().to_string();
        assert_eq!(refused, "a test may take 1 GB, and the disk of /proc has 0.0 GB free");
    }

    #[test]
    fn what_has_room_is_neither_full_nor_refused() {
        assert!(!full(&std::env::temp_dir()));
        require(&std::env::temp_dir(), 1, "a test").unwrap();
    }

    #[test]
    fn a_disk_that_cannot_be_asked_is_an_error_and_not_called_full() {
        let nowhere = Path::new("/proc/nowhere");
        assert!(!full(nowhere));
        assert_eq!(require(nowhere, 0, "a test").unwrap_err().to_string(), "asking the disk of /proc/nowhere");
    }
}
