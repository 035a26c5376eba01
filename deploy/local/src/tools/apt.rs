//! What Debian has. In: a package, and what it is for. Out: it is installed; or an error with the command that a person could run.
//! Everything else leaves the system as it is.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::{Tools, on_path, retried, run};
use crate::progress::step;

impl Tools {
    /// A program on the PATH, installed as Debian's `package` if it isn't there.
    pub(super) async fn program(&self, name: &str, package: &str, what_for: &str) -> Result<PathBuf> {
        if let Some(path) = on_path(name) {
            return Ok(path);
        }
        self.apt_install(package, what_for).await?;
        on_path(name).with_context(|| format!("{name} isn't on the PATH, even after installing {package}"))
    }

    pub(super) async fn apt_install(&self, package: &str, what_for: &str) -> Result<()> {
        let by_hand = by_hand(package);
        let _lock = self.lock("apt").await?;
        let install = retried(async || {
            // A fresh machine has no lists of packages, or old ones.
            run(self.apt(package, what_for, &["update"]).await?).await?;
            run(self.apt(package, what_for, &["install", "-y", "--no-install-recommends", package]).await?).await
        });
        step(&format!("installing {package} with apt-get, for {what_for}, once"), install)
            .await
            .with_context(|| format!("{package} is missing ({what_for}); try by hand: {by_hand}"))
    }

    /// apt-get as root, or as whom a sudo without password makes root.
    pub(super) async fn apt(&self, package: &str, what_for: &str, args: &[&str]) -> Result<Command> {
        let by_hand = by_hand(package);
        ensure!(on_path("apt-get").is_some(), "{what_for}: install {package}; on Debian: {by_hand}");
        let root = nix::unistd::geteuid().is_root();
        if !root {
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "true"]);
            ensure!(
                run(sudo).await.is_ok(),
                "{package} is missing ({what_for}), and installing it takes root or a sudo without password; run: {by_hand}"
            );
        }
        let mut apt = if root { Command::new("env") } else { Command::new("sudo") };
        if !root {
            apt.args(["-n", "env"]);
        }
        apt.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]).args(args);
        Ok(apt)
    }
}

fn by_hand(package: &str) -> String {
    format!("sudo apt-get update && sudo apt-get install -y {package}")
}
