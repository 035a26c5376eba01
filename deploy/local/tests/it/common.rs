//! What the tests of this crate share: what still runs in a folder, and a stand-in for a service.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use local::tools::Tools;
use local::wait;

/// Long enough for a busy machine; no test waits for it to pass.
pub(crate) const DEADLINE: Duration = Duration::from_secs(180);

/// The tools of this machine.
pub(crate) fn tools() -> Tools {
    Tools::from_env().unwrap()
}

/// A temporary folder in which Postgres may work, though it is another user's.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o755)).tempdir().unwrap()
}

/// The processes that work in `dir` or below it. Postgres works in its data's folder, all others where they were started.
pub(crate) fn processes_in(dir: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    all.filter(|process| std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir))).collect()
}

/// Waits until no process works in `dir`.
pub(crate) async fn nothing_runs_in(dir: &Path) {
    let probe = || -> Result<()> {
        let left = processes_in(dir);
        ensure!(left.is_empty(), "still there: {left:?}");
        Ok(())
    };
    wait::until("the end of all processes", DEADLINE, async || probe()).await.unwrap();
}

/// A program that answers every request at `OPS_ADDR`, `SANDBOX_ADDR` or `GATEWAY_ADMIN_ADDR`, with 200. That of tickets writes its environment to
/// `ENV_FILE`, if that is set.
pub(crate) fn stand_in(dir: &Path, name: &str) {
    let script = r#"#!/usr/bin/env python3
import http.server, json, os, socketserver, sys

class Ops(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

if "ENV_FILE" in os.environ and os.path.basename(sys.argv[0]) == "tickets":
    with open(os.environ["ENV_FILE"], "w") as file:
        json.dump(dict(os.environ, pid=os.getpid()), file)
addresses = [os.environ.get(name) for name in ("OPS_ADDR", "SANDBOX_ADDR", "GATEWAY_ADMIN_ADDR")]
address = next(filter(None, addresses))
host, port = address.rsplit(":", 1)
socketserver.TCPServer.allow_reuse_address = True
socketserver.TCPServer((host, int(port)), Ops).serve_forever()
"#;
    let path = dir.join(name);
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
