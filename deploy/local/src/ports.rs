//! TCP ports on 127.0.0.1. In: nothing, or a fixed number. Out: ports that nobody else has, also among test processes that run
//! at the same time. It never hands out a port that is merely free at this moment.
//!
//! Binding to port 0 and closing again gives a number that any other process may get a millisecond later. So a free port here is a
//! locked file, `<temp dir>/ticketing-ports-<uid>/<port>`: the lock goes with the process, however it ends, and a server may be
//! killed and started again while its port stays ours. The range lies below Linux's ephemeral ports (32768 and up), so no
//! outgoing connection takes one either.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};

use crate::tree;

const RANGE: Range<u16> = 22_000..32_000;

/// A port on 127.0.0.1; one from [`Port::free`] is kept from others until its last clone is dropped.
#[derive(Debug, Clone)]
pub struct Port {
    number: u16,
    _lock: Option<Arc<File>>,
}

impl Port {
    /// The port of this number, whoever else may want it.
    pub fn fixed(number: u16) -> Self {
        Self { number, _lock: None }
    }

    /// A port that nothing listens on and no other holder of a `Port` has.
    ///
    /// # Errors
    /// When the lock files can't be made, or all ports are taken.
    pub fn free() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("ticketing-ports-{}", nix::unistd::getuid()));
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let first = scatter() % u32::from(RANGE.end - RANGE.start);
        let size = u32::from(RANGE.end - RANGE.start);
        for step in 0..size {
            // Below the size of the range, which is u16.
            let number = RANGE.start + ((first + step) % size) as u16;
            let path = dir.join(number.to_string());
            let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
            if file.try_lock().is_ok() && is_free(number) {
                return Ok(Self { number, _lock: Some(Arc::new(file)) });
            }
        }
        bail!("no free port in {RANGE:?}")
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Whether a server could listen on this port now. All addresses are asked, so a listener on any of them counts.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind(("0.0.0.0", port)).is_ok()
}

/// Makes sure that nothing listens on any of these ports, each with the name of what wants it.
///
/// # Errors
/// Names every port in use, what wanted it, and who has it, if that can be seen.
pub fn check(wanted: &[(u16, &str)]) -> Result<()> {
    let in_use: String = wanted
        .iter()
        .filter(|(port, _)| !is_free(*port))
        .map(|(port, what)| {
            let holder = holder(*port).unwrap_or_else(|| "another process".to_owned());
            format!("\n  port {port}, which {what} wants, is in use by {holder}")
        })
        .collect();
    ensure!(
        in_use.is_empty(),
        "ports are in use:{in_use}\nend what has them, or move all ports: TICKETING_PORT_OFFSET=1000 make run"
    );
    Ok(())
}

/// The name and pid of the process that listens on `port`: /proc/net/tcp has the socket's inode, the process's folder a link to it.
/// `None` for another user's, unless we are root.
fn holder(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inode = tables.iter().flat_map(|table| table.lines()).find_map(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
        let listens = *fields.get(3)? == "0A" && u16::from_str_radix(local_port, 16) == Ok(port);
        listens.then(|| fields.get(9).map(|inode| format!("socket:[{inode}]")))?
    })?;
    tree::all().into_iter().find_map(|pid| {
        let process = Path::new("/proc").join(pid.to_string());
        let mut files = fs::read_dir(process.join("fd")).ok()?.flatten();
        files.find(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == inode.as_str()))?;
        let name = fs::read_to_string(process.join("comm")).ok()?;
        Some(format!("{} (pid {pid})", name.trim()))
    })
}

/// Where to begin looking: processes that start together begin far apart, and a port is not reused at once.
fn scatter() -> u32 {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    // A hasher of the standard library has random keys.
    let random = RandomState::new().hash_one(0u8) as u32;
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    std::process::id().wrapping_mul(7919) ^ random ^ call.wrapping_mul(104_729)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests end with the first thing that is wrong")]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nobody_gets_a_port_that_another_holds() {
        let held: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> =
                (0..8).map(|_| scope.spawn(|| (0..20).map(|_| Port::free().unwrap()).collect())).collect();
            all.into_iter().flat_map(|one| -> Vec<Port> { one.join().unwrap() }).collect()
        });

        assert_eq!(held.iter().map(Port::number).collect::<HashSet<_>>().len(), 160);
    }

    #[test]
    fn a_port_in_use_is_named_with_what_wanted_it_and_who_has_it() {
        let (taken, free) = (Port::free().unwrap(), Port::free().unwrap());
        let _listener = TcpListener::bind(("127.0.0.1", taken.number())).unwrap();

        let error = check(&[(taken.number(), "Postgres"), (free.number(), "Kafka")]).unwrap_err().to_string();

        assert!(error.contains(&format!("port {}, which Postgres wants", taken.number())), "{error}");
        assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
        assert!(!error.contains("Kafka"), "{error}");
    }
}
