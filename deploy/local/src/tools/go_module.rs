//! A program whose module `go install` refuses, since its go.mod replaces others: that may only be done by the main module. So it is built
//! as a dependency of a module of our own, which has the same go.mod and go.sum otherwise.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use tokio::process::Command;

use super::{output, run};

/// What `go mod download -json` says of a module.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Downloaded {
    go_mod: PathBuf,
    dir: PathBuf,
}

/// Builds `module/package` into `dir`, under the package's last name.
pub(super) async fn build(go: &Path, dir: &Path, module: &str, version: &str, package: &str) -> Result<()> {
    let wanted = format!("{module}@v{version}");
    let go = |args: &[&OsStr]| {
        let mut command = Command::new(go);
        // Elsewhere than in a folder that may be another module's.
        command.args(args).current_dir(dir).env("GOWORK", "off");
        command
    };
    let downloaded = output(go(&["mod", "download", "-json", &wanted].map(OsStr::new))).await?;
    let downloaded: Downloaded = serde_json::from_slice(&downloaded).context("what go says of the module")?;

    let text = fs::read_to_string(&downloaded.go_mod)?;
    fs::write(dir.join("go.mod"), text.replacen(&format!("module {module}\n"), "module ticketing\n", 1))?;
    fs::write(dir.join("go.sum"), fs::read(downloaded.dir.join("go.sum"))?)?;
    let package = format!("{module}/{package}");
    let (require, tool) = (format!("-require={wanted}"), format!("-tool={package}"));
    run(go(&["mod", "edit", &require, &tool].map(OsStr::new))).await?;
    // Without its symbols, which are half of it.
    run(go(&["build", "-mod=mod", "-ldflags=-s -w", "-o", ".", &package].map(OsStr::new))).await
}
