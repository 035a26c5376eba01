//! A Kafka broker. In: a folder and two ports. Out: a running broker (KRaft, broker and controller in one process) that keeps its data
//! there. It never makes topics: with automatic creation a client's first look at a topic would make it with one partition.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::ports::Port;
use crate::process::{Process, Spec};
use crate::ready::Readiness;
use crate::tools::Tools;

/// A broker's place and ways.
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// Its folder: data in `data`, the log in `kafka.log`. Made if missing.
    pub dir: PathBuf,
    /// The port for clients.
    pub port: Port,
    /// The port on which it talks to itself as controller.
    pub controller_port: Port,
    /// More settings of the broker, which win over ours.
    pub settings: Vec<(String, String)>,
}

/// A Kafka broker.
#[derive(Debug)]
pub struct Kafka {
    process: Process,
    port: Port,
    _controller_port: Port,
}

impl Kafka {
    /// Makes the broker's data if there is none yet; doesn't start it.
    ///
    /// # Errors
    /// When Kafka or Java can't be had, or the data can't be made.
    pub async fn create(tools: &Tools, config: KafkaConfig) -> Result<Self> {
        let (java, jars) = (tools.java().await?, tools.kafka().await?);
        let dir = std::path::absolute(&config.dir)?;
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;

        let port = config.port.number();
        let mut settings = settings(&dir.join("data"), port, config.controller_port.number());
        settings.extend(config.settings);
        let properties = dir.join("server.properties");
        let lines: String = settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        fs::write(&properties, lines).with_context(|| format!("writing {}", properties.display()))?;

        if !dir.join("data/meta.properties").exists() {
            let cluster = URL_SAFE_NO_PAD.encode(uuid::Uuid::new_v4());
            let format = Spec::new("formatting Kafka's storage", &java, dir.join("format.log"))
                .args(java_args(&jars, "kafka.tools.StorageTool"))
                // One argument: of 64 ids one begins with a hyphen, and would be taken for an option.
                .args(["format", "--ignore-formatted", &format!("--cluster-id={cluster}"), "-c"])
                .args([&properties]);
            Process::new(format)?.run().await?;
        }
        let mut spec = Spec::new("Kafka", java, dir.join("kafka.log"));
        spec = spec.args(java_args(&jars, "kafka.Kafka")).args([&properties]);
        spec.readiness = Readiness::Kafka { port };
        // After a kill it checks the open segment of every partition.
        spec.start_limit = Duration::from_secs(120);
        Ok(Self { process: Process::new(spec)?, port: config.port, _controller_port: config.controller_port })
    }

    /// Start, stop, kill, pause, resume, restart.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The port for clients, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// What clients get as `KAFKA_BROKERS`.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }
}

/// What `java` gets to run one of Kafka's programs; also the command-line tools of the jars, such as
/// `org.apache.kafka.tools.TopicCommand`.
pub fn java_args(jars: &Path, class: &str) -> Vec<String> {
    let mut args: Vec<_> = [
        "-Xms128m",
        "-Xmx512m",
        // For two cores: the parallel collectors' threads cost more than their pauses are worth.
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        // Or it leaves a file in the temporary folder when it is killed.
        "-XX:-UsePerfData",
        "-Djava.awt.headless=true",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
        "-cp",
    ]
    .map(str::to_owned)
    .into();
    args.extend([format!("{}/*", jars.display()), class.to_owned()]);
    args
}

/// One broker of its own, on two cores that others use, too. What isn't here has Kafka's own default.
fn settings(data: &Path, port: u16, controller_port: u16) -> Vec<(String, String)> {
    let fixed = [
        ("process.roles", "broker,controller"),
        ("node.id", "1"),
        ("controller.listener.names", "CONTROLLER"),
        ("listener.security.protocol.map", "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT"),
        ("inter.broker.listener.name", "CLIENT"),
        ("auto.create.topics.enable", "false"),
        ("default.replication.factor", "1"),
        ("min.insync.replicas", "1"),
        ("offsets.topic.replication.factor", "1"),
        ("offsets.topic.num.partitions", "4"),
        ("transaction.state.log.replication.factor", "1"),
        ("transaction.state.log.min.isr", "1"),
        ("transaction.state.log.num.partitions", "1"),
        ("share.coordinator.state.topic.replication.factor", "1"),
        ("share.coordinator.state.topic.min.isr", "1"),
        ("share.coordinator.state.topic.num.partitions", "1"),
        // There is nobody to wait for; a new group begins at once.
        ("group.initial.rebalance.delay.ms", "0"),
        // So that a test may choose how soon a dead consumer is noticed.
        ("group.min.session.timeout.ms", "1000"),
        ("num.network.threads", "1"),
        ("num.io.threads", "1"),
        ("background.threads", "2"),
        ("num.recovery.threads.per.data.dir", "2"),
        ("log.cleaner.dedupe.buffer.size", "8388608"),
    ];
    let fixed = fixed.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let places = [
        // Backslashes and the like mean something in a properties file; a data folder has none worth supporting.
        ("log.dirs", data.display().to_string()),
        ("listeners", format!("CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}")),
        ("advertised.listeners", format!("CLIENT://127.0.0.1:{port}")),
        ("controller.quorum.voters", format!("1@127.0.0.1:{controller_port}")),
    ];
    fixed.into_iter().chain(places.map(|(name, value)| (name.to_owned(), value))).collect()
}
