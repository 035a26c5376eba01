//! A server as a child process. In: what to run and how to see that it is ready. Out: start, stop, kill, pause, resume, restart,
//! and its end. It knows nothing of what runs inside, and leaves nothing running: not when it is dropped, nor when this process is
//! killed with SIGKILL (see `spawn.rs` for how).

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use tokio::sync::watch;

use crate::ready::Readiness;
use crate::spawn::{self, RunAs};
use crate::{tree, wait};

/// After SIGKILL a process ends at once, but for what the kernel does for it just then: a write to a disk that is busy.
const KILL_LIMIT: Duration = Duration::from_secs(60);

/// The last lines of its log that an error about a process shows.
const TAIL: usize = 25;

/// Before them it shows the first lines with one of these words, for some programs have much to say after what made them end.
const TROUBLE: [&str; 3] = ["ERROR", "FATAL", "PANIC"];

/// So many lines, from the first of them on: what an exception says is seldom in its first line.
const FIRST: usize = 10;

/// The CPU time that this process has used so far, with that of its children that have ended.
pub fn own_cpu_time() -> Duration {
    tree::cpu_time(Pid::this().as_raw()).unwrap_or_default()
}

/// What to run, and how to treat it.
#[derive(Debug, Clone)]
pub struct Spec {
    /// What people call it: `orders`, `Kafka`.
    pub name: String,
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Whether it sees this process's environment, too.
    pub inherit_env: bool,
    /// Variables, set in this order.
    pub env: Vec<(String, String)>,
    /// Its standard output and error. What was there from earlier goes to the same name with `.1` behind it.
    pub log: PathBuf,
    /// Another user to run as.
    pub run_as: Option<RunAs>,
    /// How to see that it is ready.
    pub readiness: Readiness,
    /// It has this long to become ready.
    pub start_limit: Duration,
    /// The signal that asks it to end.
    pub stop_signal: Signal,
    /// It has this long to end after it; then it is killed.
    pub stop_limit: Duration,
    /// What it gets when nobody waits for a clean end any more: when it is dropped. A stopped process or one that hasn't ended
    /// after 5 s is killed.
    pub abandon_signal: Signal,
}

impl Spec {
    /// A process with the usual treatment: an empty environment but for PATH, HOME and the like; ready once started; two
    /// minutes to become ready; SIGTERM, and two minutes, to end, for disks may be slow; SIGKILL when dropped.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            inherit_env: false,
            env: Vec::new(),
            log: log.into(),
            run_as: None,
            readiness: Readiness::Started,
            start_limit: Duration::from_secs(120),
            stop_signal: Signal::SIGTERM,
            stop_limit: Duration::from_secs(120),
            abandon_signal: Signal::SIGKILL,
        }
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    fn command(&self) -> Result<Command> {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("opening the log {}", self.log.display()))?;
        let mut command = spawn::bound_to_this_process(&self.program, &self.args, self.run_as.as_ref());
        if !self.inherit_env {
            command.env_clear();
            let kept = ["PATH", "HOME", "TMPDIR", "LANG", "TZ", "JAVA_HOME", "SSL_CERT_FILE"];
            command.envs(kept.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }
}

/// A process that can be started, again and again; at most one run at a time.
#[derive(Debug)]
pub struct Process {
    spec: Mutex<Spec>,
    run: Mutex<Option<Arc<Run>>>,
}

/// One run, from its start to its end.
#[derive(Debug)]
struct Run {
    pid: Pid,
    /// The length that its log had when it started.
    log_begins: u64,
    /// Its end, once it has been reaped. The pid is ours to signal only as long as this is `None` and its lock is held.
    end: Mutex<Option<ExitStatus>>,
    ended: Condvar,
    watch: watch::Sender<Option<ExitStatus>>,
}

impl Process {
    /// A process that doesn't run yet.
    ///
    /// # Errors
    /// When the log's folder can't be made, or the log of before not be put aside.
    pub fn new(spec: Spec) -> Result<Self> {
        let folder = spec.log.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        if spec.log.exists() {
            let mut earlier = spec.log.clone().into_os_string();
            earlier.push(".1");
            fs::rename(&spec.log, earlier).with_context(|| format!("putting {} aside", spec.log.display()))?;
        }
        Ok(Self { spec: Mutex::new(spec), run: Mutex::new(None) })
    }

    /// What people call it.
    pub fn name(&self) -> String {
        locked(&self.spec).name.clone()
    }

    /// Its log file.
    pub fn log(&self) -> PathBuf {
        locked(&self.spec).log.clone()
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When it runs already, can't be started, ends instead, or isn't ready in time; with the end of its log.
    pub async fn start(&self) -> Result<()> {
        self.spawn()?;
        self.ready().await
    }

    /// Starts it, and doesn't wait.
    ///
    /// # Errors
    /// When it runs already or can't be started.
    pub fn spawn(&self) -> Result<()> {
        let spec = locked(&self.spec).clone();
        let mut slot = locked(&self.run);
        ensure!(!slot.as_ref().is_some_and(|run| run.is_running()), "{} runs already", spec.name);
        let log_begins = fs::metadata(&spec.log).map_or(0, |log| log.len());
        let mut child = spawn::spawn(spec.command()?).with_context(|| format!("starting {}", spec.name))?;
        // Linux's pids are below 2^22.
        let pid = Pid::from_raw(child.id().cast_signed());
        let (end, ended, watch) = (Mutex::new(None), Condvar::new(), watch::Sender::new(None));
        let run = Arc::new(Run { pid, log_begins, end, ended, watch });
        *slot = Some(Arc::clone(&run));
        std::thread::Builder::new().name(format!("wait-{}", spec.name)).spawn(move || {
            // Leaves the zombie where it is, so the pid can't be anybody else's while a signal is under way.
            while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(nix::Error::EINTR) {}
            let mut end = locked(&run.end);
            // An error means that someone else has reaped our child: it has ended, how is lost.
            let status = child.wait().unwrap_or_default();
            *end = Some(status);
            run.ended.notify_all();
            run.watch.send_replace(Some(status));
        })?;
        Ok(())
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// When it doesn't run, ends instead, or isn't ready in time; with the end of its log.
    pub async fn ready(&self) -> Result<()> {
        let spec = locked(&self.spec).clone();
        let what = format!("{}: {}", spec.name, spec.readiness);
        tokio::select! {
            // What has ended isn't ready, whoever answers in its place.
            biased;
            end = self.ended() => match end {
                Some(status) => bail!("{} ended ({status}) before it was ready\n{}", spec.name, self.log_tail()),
                None => bail!("{} doesn't run", spec.name),
            },
            ready = wait::until(&what, spec.start_limit, || spec.readiness.probe()) => {
                ready.with_context(|| format!("{} isn't ready\n{}", spec.name, self.log_tail()))
            }
        }
    }

    /// Its pid, as long as it runs.
    pub fn pid(&self) -> Option<i32> {
        self.running().map(|run| run.pid.as_raw())
    }

    /// The CPU time that its present run has used so far, with all that it has started; none while it doesn't run.
    pub fn cpu_time(&self) -> Duration {
        let pids = self.running().map(|run| [vec![run.pid], tree::below(run.pid)].concat()).unwrap_or_default();
        pids.into_iter().filter_map(|pid| tree::cpu_time(pid.as_raw())).sum()
    }

    /// The memory that it has of the machine's at the moment, without what it has started, in bytes; `None` while it doesn't run.
    pub fn memory(&self) -> Option<u64> {
        tree::memory(self.running()?.pid.as_raw())
    }

    /// Whether it runs (or is paused).
    pub fn is_running(&self) -> bool {
        self.running().is_some()
    }

    /// How its latest run ended; `None` while it runs, or before the first.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        locked(&self.run).as_ref().and_then(|run| *locked(&run.end))
    }

    /// Waits for the end of the present run, or gives that of the latest; `None` if it never ran.
    pub async fn ended(&self) -> Option<ExitStatus> {
        let run = locked(&self.run).clone()?;
        let mut watch = run.watch.subscribe();
        let end = watch.wait_for(Option::is_some).await.ok()?;
        *end
    }

    /// Asks it to end, and waits until it has. A paused one is resumed for this. One that doesn't run is left alone.
    ///
    /// # Errors
    /// When it had to be killed because it didn't end in time; with the end of its log.
    pub async fn terminate(&self) -> Result<Option<ExitStatus>> {
        let Some(run) = self.running() else { return Ok(self.exit_status()) };
        let (name, signal, limit) = {
            let spec = locked(&self.spec);
            (spec.name.clone(), spec.stop_signal, spec.stop_limit)
        };
        run.signal(signal);
        run.resume();
        if tokio::time::timeout(limit, self.ended()).await.is_err() {
            self.kill().await?;
            bail!("{name} didn't end within {limit:?} after {signal}, and was killed\n{}", self.log_tail());
        }
        Ok(self.exit_status())
    }

    /// SIGKILL, to it and all that it has started; waits until all are gone.
    ///
    /// # Errors
    /// When something is still there after 10 s.
    pub async fn kill(&self) -> Result<()> {
        let Some(run) = self.running() else { return Ok(()) };
        let members = run.kill();
        let what = format!("the end of {} after SIGKILL", self.name());
        let gone = || {
            let left: Vec<_> = members.iter().filter(|pid| tree::is_alive(**pid)).collect();
            ensure!(left.is_empty() && !run.is_running(), "still there: {left:?}");
            Ok(())
        };
        wait::until(&what, KILL_LIMIT, || std::future::ready(gone())).await
    }

    /// Stops it and all that it has started in their tracks (SIGSTOP): its connections stay open, nothing answers.
    ///
    /// # Errors
    /// When it doesn't run.
    pub fn pause(&self) -> Result<()> {
        self.running().with_context(|| format!("{} doesn't run", self.name()))?.pause();
        Ok(())
    }

    /// Lets it go on after [`Process::pause`].
    ///
    /// # Errors
    /// When it doesn't run.
    pub fn resume(&self) -> Result<()> {
        self.running().with_context(|| format!("{} doesn't run", self.name()))?.resume();
        Ok(())
    }

    /// Ends it cleanly if it runs, starts it, and waits until it is ready.
    ///
    /// # Errors
    /// Those of [`Process::terminate`] and [`Process::start`].
    pub async fn restart(&self) -> Result<()> {
        self.terminate().await?;
        self.start().await
    }

    /// Runs it to its end, for programs that do one thing.
    ///
    /// # Errors
    /// When it can't be started, fails, or isn't done within its `start_limit`; with the end of its log.
    pub async fn run(&self) -> Result<()> {
        self.spawn()?;
        let (name, limit) = (self.name(), locked(&self.spec).start_limit);
        match tokio::time::timeout(limit, self.ended()).await {
            Ok(Some(status)) if status.success() => Ok(()),
            Ok(end) => {
                let how = end.map(|status| status.to_string()).unwrap_or_default();
                bail!("{name} failed ({how})\n{}", self.log_tail())
            }
            Err(_) => {
                self.kill().await?;
                bail!("{name} wasn't done within {limit:?}\n{}", self.log_tail())
            }
        }
    }

    /// What its log says of its latest run, for error messages: the first lines of trouble, if they aren't among the last, and those.
    pub fn log_tail(&self) -> String {
        let path = self.log();
        let log = fs::read(&path).unwrap_or_default();
        let begin = locked(&self.run).as_ref().map_or(0, |run| run.log_begins);
        let log = usize::try_from(begin).ok().and_then(|begin| log.get(begin..)).unwrap_or_default();
        format!("  from {}:\n{}", path.display(), excerpt(&String::from_utf8_lossy(log)))
    }

    fn running(&self) -> Option<Arc<Run>> {
        locked(&self.run).clone().filter(|run| run.is_running())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(run) = self.running() else { return };
        let signal = locked(&self.spec).abandon_signal;
        if signal != Signal::SIGKILL {
            run.signal(signal);
            run.wait(Duration::from_secs(5));
        }
        run.kill();
        // Whoever drops a server may remove its folder next.
        run.wait(KILL_LIMIT);
    }
}

impl Run {
    fn is_running(&self) -> bool {
        locked(&self.end).is_none()
    }

    fn signal(&self, signal: Signal) {
        let end = locked(&self.end);
        if end.is_none() {
            // It can't fail: the process exists, as a zombie at least, and is ours.
            let _ = kill(self.pid, signal);
        }
    }

    /// The process first, lest it start more.
    fn pause(&self) -> Vec<Pid> {
        self.signal(Signal::SIGSTOP);
        let mut stopped = Vec::new();
        loop {
            let fresh: Vec<_> = tree::below(self.pid).into_iter().filter(|pid| !stopped.contains(pid)).collect();
            if fresh.is_empty() {
                return stopped;
            }
            tree::signal(&fresh, Signal::SIGSTOP);
            stopped.extend(fresh);
        }
    }

    /// The process last, so it finds all its own at work.
    fn resume(&self) {
        tree::signal(&tree::below(self.pid), Signal::SIGCONT);
        self.signal(Signal::SIGCONT);
    }

    /// Gives all that got the signal, but for the process itself.
    fn kill(&self) -> Vec<Pid> {
        let members = self.pause();
        self.signal(Signal::SIGKILL);
        tree::signal(&members, Signal::SIGKILL);
        members
    }

    fn wait(&self, limit: Duration) {
        let end = locked(&self.end);
        // Poisoned or late: nothing more can be done here.
        let _ = self.ended.wait_timeout_while(end, limit, |end| end.is_none());
    }
}

/// A panic elsewhere doesn't make these values wrong: each is set in one step.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first lines of trouble and the last lines of all, indented, with `…` for what lies between.
fn excerpt(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    let tail = lines.len().saturating_sub(TAIL);
    let trouble = lines[..tail].iter().position(|line| TROUBLE.iter().any(|word| line.contains(word)));
    let first = trouble.map_or(tail..tail, |at| at..(at + FIRST).min(tail));
    let left_out = (first.end < tail).then_some("…");
    let shown = lines[first].iter().copied().chain(left_out).chain(lines[tail..].iter().copied());
    shown.map(|line| format!("    {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_trouble_is_shown_however_much_comes_after_it() {
        let after: String = (0..60).map(|line| format!("closing {line}\n")).collect();
        let shown = excerpt(&format!("starting\nERROR the port is in use\n  at bind\n{after}"));
        assert!(shown.starts_with("    ERROR the port is in use\n      at bind\n    closing 0\n"), "{shown}");
        assert!(shown.contains("    closing 7\n    …\n    closing 35\n") && shown.ends_with("closing 59\n"), "{shown}");

        let calm = excerpt(&after);
        assert!(calm.starts_with("    closing 35\n"), "{calm}");
        assert_eq!(excerpt("starting\nERROR\n"), "    starting\n    ERROR\n");
    }
}
