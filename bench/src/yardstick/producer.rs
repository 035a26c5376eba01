//! The broker alone, driven by its own producer benchmark.

use anyhow::{Context, Result, ensure};
use local::kafka::java_args;
use tokio::process::Command;

use crate::{
    rig::{PARTITIONS, Rig},
    topics,
};

/// Records of so many bytes that it sends a second, and how it was called.
///
/// # Errors
///
/// It can't be run, or says nothing that can be read.
pub(crate) async fn rate(rig: &Rig, records: usize, bytes: usize) -> Result<(f64, String)> {
    const TOPIC: &str = "yardstick";
    let brokers = rig.brokers();
    topics::make(&brokers, TOPIC, PARTITIONS.parse()?).await?;
    let (java, jars) = (rig.tools.java().await?, rig.tools.kafka().await?);
    let arguments = [
        "--topic",
        TOPIC,
        "--num-records",
        &records.to_string(),
        "--record-size",
        &bytes.to_string(),
        "--throughput",
        "-1",
        "--producer-props",
        &format!("bootstrap.servers={brokers}"),
        "acks=all",
        "enable.idempotence=true",
    ];
    let command = format!("kafka-producer-perf-test {}", arguments.join(" "));
    let output = Command::new(java)
        .args(java_args(&jars, "org.apache.kafka.tools.ProducerPerformance"))
        .args(arguments)
        .output()
        .await?;
    ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    topics::remove(&brokers, &[TOPIC]).await?;
    let text = String::from_utf8(output.stdout)?;
    // `500000 records sent, 123456.789 records/sec (…), …`
    let rate = text.lines().rev().find_map(|line| {
        let (_, rest) = line.split_once("records sent, ")?;
        rest.split(' ').next()?.replace(',', ".").parse().ok()
    });
    Ok((rate.with_context(|| format!("{command}: {text}"))?, command))
}
