//! A Postgres server. In: a folder and a port. Out: a running server that keeps its data there, databases, and their URLs. It listens on
//! 127.0.0.1 alone and trusts whoever comes from there; it is for development and tests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, User};

use crate::ports::Port;
use crate::process::{Process, Spec};
use crate::ready::Readiness;
use crate::session::Session;
use crate::spawn::RunAs;
use crate::tools::Tools;
use crate::tree;

/// What the server runs as when we are root, as which it refuses to run: the user that its package makes.
const USER: &str = "postgres";

/// A server's place and ways.
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    /// Its folder: data in `data`, the log in `postgres.log`. Made if missing.
    pub dir: PathBuf,
    /// Its port.
    pub port: Port,
    /// Whether a commit waits for the disk. Off, a crash of the machine (not of the server) may break the data.
    pub fsync: bool,
    /// More settings of the server, which win over ours.
    pub settings: Vec<(String, String)>,
}

/// A Postgres server.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: Port,
}

impl Postgres {
    /// Makes the server's data if there is none yet; doesn't start it.
    ///
    /// # Errors
    /// When there is no Postgres, or the data can't be made.
    pub async fn create(tools: &Tools, config: PostgresConfig) -> Result<Self> {
        let bin = tools.postgres().await?;
        let dir = std::path::absolute(&config.dir)?;
        let data = dir.join("data");
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let run_as = user_for(&dir)?;
        if !data.join("PG_VERSION").exists() {
            init(&bin, &dir, run_as.clone()).await?;
        }
        remove_stale_pid_file(&data)?;

        let port = config.port.number();
        let mut settings = settings(port, config.fsync);
        settings.extend(config.settings);
        let mut spec = Spec::new("Postgres", bin.join("postgres"), dir.join("postgres.log")).args(["-D"]).args([&data]);
        spec = spec.args(settings.iter().flat_map(|(name, value)| ["-c".into(), format!("{name}={value}")]));
        spec.run_as = run_as;
        // Else a backend gives memory back to the kernel after a statement and asks for it again at the next.
        spec.env.extend([("MALLOC_TRIM_THRESHOLD_", "8388608"), ("MALLOC_TOP_PAD_", "1048576")].map(owned));
        spec.readiness = Readiness::Postgres { port };
        // Recovery after a kill replays up to max_wal_size.
        spec.start_limit = Duration::from_secs(120);
        // "Fast": connections are cut, a checkpoint is written.
        spec.stop_signal = Signal::SIGINT;
        // "Immediate": no checkpoint, but its System V memory segment, of which a machine has only a few thousand, is given back.
        spec.abandon_signal = Signal::SIGQUIT;
        Ok(Self { process: Process::new(spec)?, port: config.port })
    }

    /// Start, stop, kill, pause, resume, restart.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The superuser's URL of this database.
    pub fn url(&self, database: &str) -> String {
        url(self.port(), database)
    }
}

/// The superuser's URL of a database, on a server that listens on `port`.
pub(crate) fn url(port: u16, database: &str) -> String {
    format!("postgres://{USER}@127.0.0.1:{port}/{database}")
}

/// Makes a database, owned by a role of the same name, unless it is there; whichever server `superuser_url` names. Gives the URL
/// with which that role comes to it. Other roles but the superuser can't connect to it: a service can't reach another's tables.
///
/// # Errors
/// When the server can't be reached or refuses.
pub async fn create_database(superuser_url: &str, name: &str) -> Result<String> {
    let quoted = format!("\"{}\"", name.replace('"', "\"\""));
    let session = Session::connect(superuser_url).await.context("connecting to Postgres")?;
    let made = async {
        let count = "SELECT (SELECT count(*) FROM pg_roles WHERE rolname = $1), (SELECT count(*) FROM pg_database WHERE datname = $1)";
        let row = session.query_one(count, &[&name]).await?;
        if row.get::<_, i64>(0) == 0 {
            // It shows how old the cluster's transactions are, whosever they are.
            session.batch_execute(&format!("CREATE ROLE {quoted} LOGIN IN ROLE pg_read_all_stats")).await?;
        }
        if row.get::<_, i64>(1) == 0 {
            session.batch_execute(&format!("CREATE DATABASE {quoted} OWNER {quoted}")).await?;
        }
        session.batch_execute(&format!("REVOKE CONNECT ON DATABASE {quoted} FROM PUBLIC")).await
    };
    made.await.with_context(|| format!("making the database {name}"))?;
    database_url(superuser_url, name)
}

/// `superuser_url` with another user and database, both `name`.
pub(crate) fn database_url(superuser_url: &str, name: &str) -> Result<String> {
    let malformed = || format!("a URL like postgres://postgres@127.0.0.1:5433/postgres, not {superuser_url}");
    let (scheme, rest) = superuser_url.split_once("://").with_context(malformed)?;
    let server = rest.split(['/', '?']).next().unwrap_or(rest);
    let server = server.rsplit_once('@').map_or(server, |(_, server)| server);
    Ok(format!("{scheme}://{name}@{server}/{name}"))
}

/// For two cores that other processes use, too. What isn't here has Postgres's own default.
fn settings(port: u16, fsync: bool) -> Vec<(String, String)> {
    let on = if fsync { "on" } else { "off" };
    let own = [
        ("listen_addresses", "127.0.0.1"),
        // A socket's path may have 107 bytes, which a checkout may exceed; everyone comes by TCP.
        ("unix_socket_directories", ""),
        ("max_connections", "400"),
        ("shared_buffers", "256MB"),
        ("effective_cache_size", "1GB"),
        ("random_page_cost", "1.1"),
        ("jit", "off"),
        ("fsync", on),
        ("synchronous_commit", on),
        ("full_page_writes", on),
        ("wal_compression", "on"),
        ("wal_buffers", "16MB"),
        ("min_wal_size", "256MB"),
        ("max_wal_size", "2GB"),
        ("checkpoint_timeout", "15min"),
        // In the data's folder rather than /dev/shm, where a killed server leaves them behind.
        ("dynamic_shared_memory_type", "mmap"),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
        ("log_line_prefix", "%m [%p] %q%d %a "),
    ];
    own.map(owned).into_iter().chain([("port".to_owned(), port.to_string())]).collect()
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// Into a folder beside the final one, which takes its place when it is complete: what an interrupted initdb leaves is no server.
async fn init(bin: &Path, dir: &Path, run_as: Option<RunAs>) -> Result<()> {
    let (making, data) = (dir.join("data.making"), dir.join("data"));
    if making.exists() {
        fs::remove_dir_all(&making).with_context(|| format!("removing {}", making.display()))?;
    }
    let mut spec = Spec::new("initdb", bin.join("initdb"), dir.join("initdb.log")).args(["-D"]).args([&making]);
    // Without --no-sync it takes seconds on a slow disk; the server syncs all of it with its first checkpoint.
    spec = spec.args(["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"]);
    spec.run_as = run_as;
    spec.start_limit = Duration::from_secs(120);
    Process::new(spec)?.run().await?;
    fs::rename(&making, &data).with_context(|| format!("naming {}", data.display()))
}

/// As root: another user, who then owns `dir`.
fn user_for(dir: &Path) -> Result<Option<RunAs>> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    let user = User::from_name(USER)?.with_context(|| format!("no user {USER}, which Postgres's package makes"))?;
    std::os::unix::fs::chown(dir, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
        .with_context(|| format!("giving {} to {USER}", dir.display()))?;
    let open_to_all = |folder: &Path| fs::metadata(folder).is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0);
    let pass_folders = !dir.ancestors().skip(1).all(open_to_all);
    Ok(Some(RunAs { user: USER.to_owned(), pass_folders }))
}

/// A server that was killed leaves its pid file. The next one refuses to start if another process of the same user has that pid now,
/// which is likely after a reboot; so the file goes unless a Postgres has the pid.
fn remove_stale_pid_file(data: &Path) -> Result<()> {
    let path = data.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
    let pid = text.lines().next().and_then(|line| line.trim().parse().ok());
    let is_postgres = |pid: i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        tree::is_alive(Pid::from_raw(pid)) && name.trim() == "postgres"
    };
    if pid.is_some_and(is_postgres) {
        return Ok(());
    }
    fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))
}

/// Before the data of a server that was killed is removed: it has left a System V memory segment, of which a machine has only a few
/// thousand, and only a next start on the same data would take it up. The seventh line of the pid file has the segment's key and id,
/// the kernel's list whether it is still that one, and unused. `None` if there is nothing to free.
pub(crate) fn free_shared_memory(dir: &Path) -> Option<()> {
    let text = fs::read_to_string(dir.join("data/postmaster.pid")).ok()?;
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
