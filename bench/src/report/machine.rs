//! What it ran on.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::process::Command;

use crate::rig::{PARTITIONS, Rig};

/// The machine, and what ran on it.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// The day.
    pub date: String,
    /// The processor's name for itself.
    pub processor: String,
    /// How many of them.
    pub cores: usize,
    /// Memory, in GB.
    pub memory: f64,
    /// The kernel.
    pub kernel: String,
    /// Of the project.
    pub commit: String,
    /// Of what it is built with and runs on.
    pub versions: Vec<String>,
    /// What systems are set to beside their defaults.
    pub settings: Vec<String>,
}

impl Machine {
    /// This one.
    ///
    /// # Errors
    ///
    /// It can't be asked.
    pub(crate) async fn this(rig: &Rig) -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).with_context(|| format!("reading {path}"));
        let (processors, memory) = (read("/proc/cpuinfo")?, read("/proc/meminfo")?);
        let value = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let kilobytes = value(&memory, "MemTotal").unwrap_or_default();
        let kilobytes: f64 = kilobytes.trim_end_matches(" kB").parse().unwrap_or_default();
        let kafka = rig.tools.kafka().await?;
        let jar = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("kafka_"));
        let jar = fs::read_dir(&kafka)?.flatten().map(|entry| entry.path()).find(|path| jar(path));
        let kafka = jar.and_then(|jar| Some(jar.file_stem()?.to_string_lossy().into_owned()));
        Ok(Self {
            date: said("date", &["-u", "+%F %R UTC"]).await?,
            processor: value(&processors, "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism()?.get(),
            memory: kilobytes / 1e6,
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            commit: said("git", &["describe", "--always", "--dirty"]).await?,
            versions: vec![
                said("rustc", &["--version"]).await?,
                said(&rig.programs.join("postgres").display().to_string(), &["--version"]).await?,
                kafka.unwrap_or_default(),
                said(&rig.tools.java().await?.display().to_string(), &["--version"]).await?,
            ],
            settings: vec![
                format!("KAFKA_TOPIC_PARTITIONS={PARTITIONS}"),
                "ORDER_TTL=1h".to_owned(),
                "creates without a request id".to_owned(),
                "RUST_LOG=warn".to_owned(),
                "Postgres: fsync=on and what `make run` has; Kafka: one broker, acks=all".to_owned(),
            ],
        })
    }
}

/// The first line that a program says.
async fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().await.with_context(|| program.to_owned())?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}
