//! The broker alone, driven by its own producer benchmark.

use anyhow::{Context, Result, ensure};
use local::kafka::java_args;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use tokio::process::Command;

use crate::rig::{PARTITIONS, Rig};

/// Records of so many bytes that it sends a second, and how it was called.
///
/// # Errors
///
/// It can't be run, or says nothing that can be read.
pub(crate) async fn rate(rig: &Rig, records: usize, bytes: usize) -> Result<(f64, String)> {
    const TOPIC: &str = "yardstick";
    let brokers = rig.brokers();
    let kafka: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", &brokers).create()?;
    let topic = NewTopic::new(TOPIC, PARTITIONS.parse()?, TopicReplication::Fixed(1));
    for made in kafka.create_topics([&topic], &AdminOptions::new()).await? {
        made.map_err(|(topic, error)| anyhow::anyhow!("making {topic}: {error}"))?;
    }
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
    for removed in kafka.delete_topics(&[TOPIC], &AdminOptions::new()).await? {
        removed.map_err(|(topic, error)| anyhow::anyhow!("removing {topic}: {error}"))?;
    }
    let text = String::from_utf8(output.stdout)?;
    // `500000 records sent, 123456.789 records/sec (…), …`
    let rate = text.lines().rev().find_map(|line| {
        let (_, rest) = line.split_once("records sent, ")?;
        rest.split(' ').next()?.replace(',', ".").parse().ok()
    });
    Ok((rate.with_context(|| format!("{command}: {text}"))?, command))
}
