//! Starting a program so that it can't outlive this process. In: a program, its arguments, a user. Out: a child that the kernel kills
//! when this process ends, however it ends. It never waits for the child.
//!
//! The means is Linux's parent-death signal, set by util-linux's `setpriv`. Its traps, each met here:
//! - It is sent when the *thread* that forked ends: so one thread that lives as long as the process starts every child.
//! - A change of user clears it: so `setpriv` changes the user first and sets the signal after, in the child itself.
//! - A parent that dies before the signal is set goes unnoticed: so a shell checks, with the signal set, that the parent is still this
//!   process, and only then becomes the program.
//! - It isn't inherited by the child's children. Postgres's backends watch their postmaster themselves; our services have none.
//! - The program must not be setuid or have file capabilities, which clear it, too; none of ours is.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{OnceLock, mpsc};

/// A user to run a program as; only root can.
#[derive(Debug, Clone)]
pub struct RunAs {
    /// The user's name; its group has the same.
    pub user: String,
    /// Whether it may pass through folders that only root may open. Needed where the checkout or the temp folder lies below one, such
    /// as root's home: the data's own folder belongs to the user, but the way to it does not.
    pub pass_folders: bool,
}

/// A command whose program ends with this process, in a process group of its own: Ctrl-C on the terminal doesn't reach it, whoever
/// started it decides when it ends.
pub(crate) fn bound_to_this_process(program: &Path, args: &[OsString], run_as: Option<&RunAs>) -> Command {
    let mut command = in_this_group(program, args, run_as);
    command.process_group(0);
    command
}

/// The same in this process's group: for commands that belong to the terminal.
pub(crate) fn in_this_group(program: &Path, args: &[OsString], run_as: Option<&RunAs>) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(RunAs { user, pass_folders }) = run_as {
        command.args(["--reuid", user, "--regid", user, "--init-groups"]);
        if *pass_folders {
            command.args(["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"]);
        }
    }
    command.args(["--pdeathsig", "KILL", "--", "sh", "-c", r#"test "$PPID" -eq "$0" || exit 1; exec "$@""#]);
    command.arg(std::process::id().to_string()).arg(program).args(args);
    command
}

type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts `command` from the thread that never ends.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let gone = || io::Error::other("the thread that starts processes is gone");
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        // If it can't be started, the channel is closed, and every order says so.
        let _ = std::thread::Builder::new().name("spawner".into()).spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, child) = mpsc::channel();
    spawner.send((command, answer)).map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}
