//! The broker alone, driven by its own producer benchmark.

use anyhow::{Context, Result, ensure};
use local::kafka::java_args;
use tokio::process::Command;

use crate::{
    rig::{PARTITIONS, Rig},
    topics,
};

/// Batches as large as our own producer's may be.
pub(crate) const LARGE_BATCHES: &[&str] = &["batch.size=1000000", "linger.ms=5"];

/// How it went.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Records a second, once warm.
    pub rate: f64,
    /// How it was called.
    pub command: String,
}

/// Records of so many bytes that it sends a second, with these settings beside `acks` and idempotence.
///
/// # Errors
///
/// It can't be run, or says nothing that can be read.
pub(crate) async fn rate(rig: &Rig, records: usize, bytes: usize, settings: &[&str]) -> Result<Ran> {
    const TOPIC: &str = "yardstick";
    let brokers = rig.brokers();
    topics::make(&brokers, TOPIC, PARTITIONS.parse()?).await?;
    let (java, jars) = (rig.tools.java().await?, rig.tools.kafka().await?);
    let (records, bytes, servers) = (records.to_string(), bytes.to_string(), format!("bootstrap.servers={brokers}"));
    let mut arguments =
        vec!["--topic", TOPIC, "--num-records", &records, "--record-size", &bytes, "--throughput", "-1"];
    arguments.extend(["--producer-props", &servers, "acks=all", "enable.idempotence=true"]);
    arguments.extend(settings);
    let command = format!("kafka-producer-perf-test {}", arguments.join(" "));
    let output = Command::new(java)
        .args(java_args(&jars, "org.apache.kafka.tools.ProducerPerformance"))
        .args(arguments)
        .output()
        .await?;
    ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    topics::remove(&brokers, &[TOPIC]).await?;
    let text = String::from_utf8(output.stdout)?;
    Ok(Ran { rate: rate_once_warm(&text).with_context(|| format!("{command}: {text}"))?, command })
}

/// Less than this, in seconds, is too little to tell a rate of.
const LEAST: f64 = 1.0;

/// Its virtual machine compiles at first what it then runs. So what is sent by the time of its first word, after 5 s, is not
/// counted, unless that is about all.
fn rate_once_warm(text: &str) -> Option<f64> {
    let mut told: Vec<_> = text.lines().filter_map(sent).collect();
    let (all, rate) = told.pop()?;
    let Some((cold, cold_rate)) = told.first() else { return Some(rate) };
    let left = all / rate - cold / cold_rate;
    Some(if left < LEAST { rate } else { (all - cold) / left })
}

/// Of `500000 records sent, 123456.7 records/sec (…), …` both numbers. Every 5 s there is a line of what was sent meanwhile, and
/// in the end one of all.
fn sent(line: &str) -> Option<(f64, f64)> {
    let (records, rest) = line.split_once(" records sent, ")?;
    Some((records.parse().ok()?, rest.split(' ').next()?.replace(',', ".").parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLD: &str =
        "500000 records sent, 100000.0 records/sec (51.71 MB/sec), 9.9 ms avg latency, 99.0 ms max latency.\n";
    const ALL: &str = "1500000 records sent, 150000.000000 records/sec (77.56 MB/sec), 8.21 ms avg latency, 99.00 ms max latency, \
                       7 ms 50th, 20 ms 95th, 30 ms 99th, 40 ms 99.9th.\n";

    #[test]
    fn what_is_sent_in_the_first_seconds_does_not_count() {
        assert_eq!(rate_once_warm(&format!("{COLD}{COLD}{ALL}")), Some(200_000.0), "a million in the other 5 s");
    }

    #[test]
    fn a_run_that_is_over_by_then_counts_as_a_whole() {
        assert_eq!(rate_once_warm(ALL), Some(150_000.0));
        let short = ALL.replace("1500000", "500001").replace("150000.0", "100000.0");
        assert_eq!(rate_once_warm(&format!("{COLD}{short}")), Some(100_000.0));
        assert_eq!(rate_once_warm("no such topic"), None);
    }
}
