//! Prometheus, which asks the services for their metrics and judges them by the rules of `deploy/observability/`. In: its program, a
//! folder, a port, whom to ask. Out: a running Prometheus that answers over HTTP. It keeps what it was told in its folder.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use yaml_serde::Value;

use crate::ports::Port;
use crate::process::{Process, Spec};
use crate::ready::Readiness;

/// Where it answers in `make run`, before the offset.
pub const PORT: u16 = 9090;
/// Whom it asks, as an operator would set it up.
const SETTINGS: &str = include_str!("../../observability/prometheus.yml");
/// What it judges by.
pub const ALERTS: &str = include_str!("../../observability/alerts.yml");

/// A Prometheus' place.
#[derive(Debug, Clone)]
pub struct PrometheusConfig {
    /// The executable.
    pub program: PathBuf,
    /// Its folder, for its settings and its data. Made if missing.
    pub dir: PathBuf,
    /// Its log.
    pub log: PathBuf,
    /// Of its HTTP API and its page.
    pub port: Port,
    /// The services and where each replica answers.
    pub targets: Vec<(&'static str, SocketAddr)>,
    /// How many times as fast as in real life everything happens by its rules; 1 is real life.
    pub haste: u32,
}

/// A Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    port: Port,
}

impl Prometheus {
    /// Writes its settings; doesn't start it.
    ///
    /// # Errors
    /// When its files can't be made.
    pub fn create(config: PrometheusConfig) -> Result<Self> {
        let PrometheusConfig { program, dir, log, port, targets, haste } = config;
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let files = [("prometheus.yml", settings(&targets, haste)?), ("alerts.yml", hastened(ALERTS, haste))];
        for (name, text) in files {
            let file = dir.join(name);
            fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        }
        let address = port.address();
        let mut spec = Spec::new("Prometheus", program, log).args([
            format!("--config.file={}", dir.join("prometheus.yml").display()),
            format!("--storage.tsdb.path={}", dir.join("data").display()),
            "--storage.tsdb.retention.time=1d".to_owned(),
            format!("--web.listen-address={address}"),
        ]);
        spec.readiness = Readiness::Http { addr: address, path: "/-/ready".to_owned() };
        Ok(Self { process: Process::new(spec)?, port })
    }

    /// Start, stop, kill, pause, resume, restart.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Where it answers, over HTTP.
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }
}

/// The settings in the checkout, with these targets instead of those of `make run` without an offset.
fn settings(targets: &[(&'static str, SocketAddr)], haste: u32) -> Result<String> {
    let mut settings: Value = yaml_serde::from_str(&hastened(SETTINGS, haste)).context("prometheus.yml")?;
    let jobs = settings.get_mut("scrape_configs").and_then(Value::as_sequence_mut).context("scrape_configs")?;
    for job in jobs {
        let name = job.get("job_name").and_then(Value::as_str).context("job_name")?;
        let of_it = targets.iter().filter(|(service, _)| *service == name);
        let of_it: Vec<Value> = of_it.map(|(_, address)| address.to_string().into()).collect();
        *job.get_mut("static_configs").and_then(|all| all.get_mut(0)?.get_mut("targets")).context("targets")? =
            of_it.into();
    }
    Ok(yaml_serde::to_string(&settings)?)
}

/// The same, with all that takes time taking so many times less: durations, as in `5m`, and what is written as a product with a
/// minute's 60 seconds. Expressions stay what they are.
fn hastened(text: &str, haste: u32) -> String {
    if haste == 1 {
        return text.to_owned();
    }
    let mut fast = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '"' || c == '#') {
        let (before, from) = rest.split_at(at);
        fast.push_str(before);
        // What is quoted is for people, and so are comments.
        let end = match from.as_bytes()[0] {
            b'"' => from[1..].find('"').map(|quote| quote + 2),
            b'#' => from.find('\n'),
            _ => from.find(|c: char| !c.is_ascii_alphanumeric() && c != '_'),
        };
        let (word, after) = from.split_at(end.unwrap_or(from.len()));
        match duration(word) {
            Some(duration) => fast.push_str(&format!("{}ms", (duration / haste).as_millis())),
            None if word == "60" && before.ends_with("* ") => fast.push_str(&(60.0 / f64::from(haste)).to_string()),
            None => fast.push_str(word),
        }
        rest = after;
    }
    fast + rest
}

/// A duration as Prometheus writes it, with one unit.
fn duration(word: &str) -> Option<Duration> {
    let unit = word.find(|c: char| !c.is_ascii_digit())?;
    let count: u64 = word[..unit].parse().ok()?;
    Some(Duration::from_secs(match &word[unit..] {
        "s" => count,
        "m" => count * 60,
        "h" => count * 3600,
        _ => return None,
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests end with the first thing that is wrong")]
mod tests {
    use super::*;

    #[test]
    fn haste_divides_durations_and_minutes_and_nothing_else() {
        for (text, fast) in [
            ("for: 5m", "for: 5000ms"),
            ("scrape_interval: 15s\n", "scrape_interval: 250ms\n"),
            ("delta(group:lag:sum[10m]) > 0 and x1m > 60", "delta(group:lag:sum[10000ms]) > 0 and x1m > 60"),
            ("max by (job) (late_seconds) > 15 * 60", "max by (job) (late_seconds) > 15 * 1"),
            ("# after 5m\nsummary: \"in 5m\"\nfor: 1h", "# after 5m\nsummary: \"in 5m\"\nfor: 60000ms"),
            ("targets: [\"127.0.0.1:9101\"]", "targets: [\"127.0.0.1:9101\"]"),
        ] {
            assert_eq!(hastened(text, 60), fast);
            assert_eq!(hastened(text, 1), text);
        }
    }

    #[test]
    fn every_service_of_the_stack_is_asked_where_it_is() {
        let services = &crate::service::SERVICES;
        let asked: Value = yaml_serde::from_str(SETTINGS).unwrap();
        let jobs = asked["scrape_configs"].as_sequence().unwrap();
        let jobs: Vec<_> = jobs.iter().map(|job| (&job["job_name"], &job["static_configs"][0]["targets"][0])).collect();
        assert_eq!(jobs.len(), services.len());
        for (spec, (name, target)) in services.iter().zip(jobs) {
            assert_eq!(name.as_str(), Some(spec.name));
            assert_eq!(target.as_str(), Some(format!("127.0.0.1:{}", spec.ops_port).as_str()));
        }
        let moved = settings(&[("orders", "127.0.0.1:7".parse().unwrap())], 60).unwrap();
        assert!(moved.contains("127.0.0.1:7") && !moved.contains("127.0.0.1:91"), "{moved}");
        assert!(moved.contains("scrape_interval: 250ms"), "{moved}");
    }
}
