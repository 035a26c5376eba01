//! A service run by hand. In: its variables and arguments. Out: how it ended and what it said.

use std::{path::PathBuf, process::Output, time::Duration};

use anyhow::{Context, Result};
use tokio::process::Command;

/// A program that refuses its settings, or does one thing, ends within this.
const LIMIT: Duration = Duration::from_secs(60);

/// Where the services' binaries are: beside the tests' folder.
///
/// # Errors
///
/// This program is in no folder.
pub fn path(service: &str) -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let deps = test.parent().context("a test is in a folder")?;
    Ok(deps.parent().context("below the binaries'")?.join(service))
}

/// Runs a service with these variables alone, to its end.
///
/// # Errors
///
/// It can't be started, or doesn't end by itself.
pub async fn run(service: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Output> {
    let mut command = Command::new(path(service)?);
    command.args(arguments).env_clear().envs(variables.iter().copied()).kill_on_drop(true);
    let ended = tokio::time::timeout(LIMIT, command.output()).await;
    Ok(ended.with_context(|| format!("{service} did not end by itself within {LIMIT:?}"))??)
}

/// All that a program said.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
