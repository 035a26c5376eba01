//! The yardstick: what the same Postgres does with single rows of the same size, a commit each.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// Rows as large as an order's: about 200 bytes.
const TABLE: &str = "DROP TABLE IF EXISTS pgbench_row; \
                     CREATE TABLE pgbench_row (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, filler text)";
const SCRIPT: &str = "INSERT INTO pgbench_row (filler) VALUES (repeat('x', 180));\n";

/// Transactions a second of single-row inserts, by so many clients, for so long.
///
/// # Errors
///
/// pgbench can't be run, or says nothing that can be read.
pub(crate) async fn single_rows(
    programs: &Path,
    url: &str,
    clients: usize,
    lasts: Duration,
    dir: &Path,
) -> Result<f64> {
    let script = dir.join("single_row.sql");
    tokio::fs::write(&script, SCRIPT).await?;
    let made = Command::new(program(programs, "psql")).args([url, "-q", "-c", TABLE]).output().await?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let jobs = clients.min(2).to_string();
    let output = Command::new(program(programs, "pgbench"))
        .args(["-n", "-M", "prepared", "-c", &clients.to_string(), "-j", &jobs, "-T", &lasts.as_secs().to_string()])
        .arg("-f")
        .arg(&script)
        .arg(url)
        .output()
        .await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = "));
    let rate = rate.and_then(|rate| rate.split_whitespace().next()).context("pgbench told no rate")?;
    Ok(rate.parse()?)
}

/// Beside the server, where packages have it; else wherever the shell finds it.
fn program(beside: &Path, name: &str) -> PathBuf {
    Some(beside.join(name)).filter(|program| program.exists()).unwrap_or_else(|| name.into())
}
