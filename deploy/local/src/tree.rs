//! The processes below a process, from /proc. In: a pid. Out: all that it has started, and signals to them. Postgres gives every
//! backend a session of its own, so a signal to the process group would miss them.

use std::collections::HashMap;
use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The pids of all processes.
pub(crate) fn all() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// All descendants of `root`, parents before children; not `root` itself.
pub(crate) fn below(root: Pid) -> Vec<Pid> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for pid in all() {
        if let Some((_, parent)) = state_and_parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root.as_raw()];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    found.into_iter().skip(1).map(Pid::from_raw).collect()
}

/// Sends `signal` to each. One that has ended meanwhile is passed over.
pub(crate) fn signal(pids: &[Pid], signal: Signal) {
    for pid in pids {
        let _ = kill(*pid, signal);
    }
}

/// Whether there is such a process; one that has ended and waits to be reaped doesn't count.
pub(crate) fn is_alive(pid: Pid) -> bool {
    state_and_parent(pid.as_raw()).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// Fields 3 and 4 of /proc/PID/stat; the second is the name, in parentheses, and may hold spaces and parentheses itself.
fn state_and_parent(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
