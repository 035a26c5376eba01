//! The processes below a process, from /proc. In: a pid. Out: all that it has started, and signals to them. Postgres gives every
//! backend a session of its own, so a signal to the process group would miss them.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

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

fn state_and_parent(pid: i32) -> Option<(char, i32)> {
    let stat = stat(pid)?;
    Some((stat.first()?.chars().next()?, stat.get(1)?.parse().ok()?))
}

/// The CPU time that a process has used so far, with that of its children that have ended.
pub(crate) fn cpu_time(pid: i32) -> Option<Duration> {
    let stat = stat(pid)?;
    let ticks: u64 = stat.get(11..15)?.iter().filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Some(Duration::from_millis(ticks * MS_PER_TICK))
}

/// The resident memory of a process, in bytes.
pub(crate) fn memory(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The kernel shows times in units of its `USER_HZ`, which is 100 on all that this runs on.
const MS_PER_TICK: u64 = 10;

/// Fields 3 and following of /proc/PID/stat; the second is the name, in parentheses, and may hold spaces and parentheses itself.
fn stat(pid: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().map(str::to_owned).collect())
}
