//! Topics of a test's own, read and written without the engine.

use std::{collections::HashMap, path::Path, time::Duration};

use engine_tests::{
    TOPIC,
    counter::v1::{AddAsked, CounterCommand, CounterEvent, counter_command::Change},
    domain::CounterId,
};
use local::{
    kafka::{Kafka, KafkaConfig as BrokerConfig},
    ports::Port,
    tools::Tools,
};
use prost::Message as _;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    producer::{FutureProducer, FutureRecord},
};
use shared::kafka::{KafkaConfig, KafkaMetrics, TopicConfig, ensure_topic, partition_count};
use uuid::Uuid;

use super::{awaited, database::server};

/// The topic that the counter reads.
pub const ASKED: &str = engine_tests::COMMANDS.topic;

/// A broker of a test's own, to be killed or stopped in its tracks.
pub async fn own_kafka(folder: &Path) -> Kafka {
    let (port, controller_port) = (Port::free().unwrap(), Port::free().unwrap());
    let config = BrokerConfig { dir: folder.join("kafka"), port, controller_port, settings: vec![] };
    let kafka = Kafka::create(&Tools::from_env().unwrap(), config).await.unwrap();
    kafka.process().start().await.unwrap();
    kafka
}

/// Topics and groups that begin with a name that no other test has.
#[derive(Clone)]
pub struct Topics {
    pub config: KafkaConfig,
    pub new_topic: TopicConfig,
}

impl Topics {
    /// On the servers of this test run.
    pub fn new() -> Self {
        Self::on(&server("TEST_KAFKA_BROKERS"))
    }

    pub fn on(brokers: &str) -> Self {
        let prefix = format!("e{}.", Uuid::new_v4().simple());
        let config = KafkaConfig {
            brokers: brokers.to_owned(),
            prefix,
            client_id: "test".to_owned(),
            metrics: KafkaMetrics::default(),
        };
        Self { config, new_topic: TopicConfig { partitions: 3, replication: 1 } }
    }

    pub fn with_partitions(mut self, partitions: i32) -> Self {
        self.new_topic.partitions = partitions;
        self
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.config.brokers).set("reconnect.backoff.max.ms", "500");
        config
    }

    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    /// Makes the topic of what is asked of counters.
    pub async fn make_asked(&self) {
        ensure_topic(&self.config, ASKED, self.new_topic).await.unwrap();
    }

    /// Deletes that topic, and waits until it is gone.
    pub async fn delete_asked(&self) {
        let name = self.config.topic(ASKED);
        self.admin().delete_topics(&[&name], &AdminOptions::new()).await.unwrap();
        super::until(
            "the topic to be gone",
            async || partition_count(&self.config, &name).await.ok().flatten(),
            Option::is_none,
        )
        .await;
    }

    /// Deletes its messages before an offset, as retention does.
    pub async fn delete_before(&self, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.config.topic(ASKED), partition, Offset::Offset(offset)).unwrap();
        let deleted = self.admin().delete_records(&list, &AdminOptions::new()).await.unwrap();
        deleted.elements().iter().for_each(|element| element.error().unwrap());
    }

    /// Puts messages on the topic of what is asked: partition, key, payload, in their order.
    pub async fn put(&self, messages: impl IntoIterator<Item = (i32, String, Vec<u8>)>) {
        let producer: FutureProducer =
            self.client().set("queue.buffering.max.messages", "1000000").set("linger.ms", "2").create().unwrap();
        let topic = self.config.topic(ASKED);
        let mut sent = Vec::new();
        for (partition, key, payload) in messages {
            let record = FutureRecord::to(&topic).partition(partition).key(&key).payload(&payload);
            sent.push(producer.send_result(record).map_err(|(error, _)| error).unwrap());
        }
        awaited("the messages to be put", async {
            for delivery in sent {
                delivery.await.unwrap().map_err(|(error, _)| error).unwrap();
            }
        })
        .await;
    }

    /// The offset behind a partition's last message.
    pub fn end_of(&self, topic: &str, partition: i32) -> i64 {
        let client: BaseConsumer = self.client().create().unwrap();
        client.fetch_watermarks(&self.config.topic(topic), partition, Duration::from_secs(10)).unwrap().1
    }

    /// What brokers were told about the group's progress on a partition of what is asked.
    pub fn told(&self, partition: i32) -> Option<i64> {
        let group = self.config.group(engine_tests::COMMANDS.group);
        let client: BaseConsumer = self.client().set("group.id", group).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.config.topic(ASKED), partition);
        let told = client.committed_offsets(list, Duration::from_secs(10)).ok()?;
        match told.elements().first()?.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }

    /// How many members the counter's group has.
    pub fn members(&self) -> Option<usize> {
        let group = self.config.group(engine_tests::COMMANDS.group);
        let client: BaseConsumer = self.client().create().unwrap();
        let list = client.fetch_group_list(Some(&group), Duration::from_secs(10)).ok()?;
        list.groups().iter().find(|found| found.name() == group).map(|found| found.members().len())
    }

    /// Everything on the counters' topic, by partition, read until a number of distinct events is there and nothing
    /// more lies behind them.
    pub async fn published(&self, distinct: usize) -> Vec<(i32, CounterEvent)> {
        let topics = self.clone();
        let read = tokio::task::spawn_blocking(move || topics.read(distinct));
        read.await.unwrap()
    }

    fn read(&self, distinct: usize) -> Vec<(i32, CounterEvent)> {
        let client: BaseConsumer =
            self.client().set("group.id", "none").set("enable.auto.commit", "false").create().unwrap();
        let topic = self.config.topic(TOPIC);
        let begun = std::time::Instant::now();
        let mut all = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let mut assigned = 0;
        while begun.elapsed() < super::PATIENCE {
            if assigned == 0 {
                let metadata = client.fetch_metadata(Some(&topic), Duration::from_secs(5));
                assigned =
                    metadata.ok().and_then(|found| Some(found.topics().first()?.partitions().len())).unwrap_or(0);
                let mut list = TopicPartitionList::new();
                for partition in 0..i32::try_from(assigned).unwrap() {
                    list.add_partition_offset(&topic, partition, Offset::Beginning).unwrap();
                }
                client.assign(&list).unwrap();
                continue;
            }
            if let Some(Ok(message)) = client.poll(Duration::from_millis(50)) {
                let event = CounterEvent::decode(message.payload().unwrap()).unwrap();
                seen.insert((event.counter_id.clone(), event.version));
                all.push((message.partition(), event));
            } else if seen.len() >= distinct {
                let behind: i64 = (0..i32::try_from(assigned).unwrap()).map(|one| self.end_of(TOPIC, one)).sum();
                if i64::try_from(all.len()).unwrap() >= behind {
                    break;
                }
            }
        }
        assert!(seen.len() >= distinct, "{} of {distinct} events arrived, {} with repeats", seen.len(), all.len());
        all
    }
}

/// The message that asks a counter to be moved on.
pub fn add(id: CounterId, by: i32) -> Vec<u8> {
    CounterCommand { counter_id: id.to_string(), change: Some(Change::Add(AddAsked { by })) }.encode_to_vec()
}

/// So many messages of 1 each about a counter.
pub fn adds(partition: i32, id: CounterId, messages: usize) -> impl Iterator<Item = (i32, String, Vec<u8>)> {
    (0..messages).map(move |_| (partition, id.to_string(), add(id, 1)))
}

/// A message whose change nobody here knows.
pub fn unknown(id: CounterId) -> Vec<u8> {
    CounterCommand { counter_id: id.to_string(), change: None }.encode_to_vec()
}

/// Each key's versions as they lie on the topic, repeats and all.
pub fn versions_by_key(events: &[(i32, CounterEvent)]) -> HashMap<String, Vec<i64>> {
    let mut keys = HashMap::<String, Vec<i64>>::new();
    for (_, event) in events {
        keys.entry(event.counter_id.clone()).or_default().push(event.version);
    }
    keys
}

/// Fails unless each key's first appearances are the versions 1, 2, 3, …; how many that are.
pub fn first_appearances(events: &[(i32, CounterEvent)]) -> usize {
    let mut distinct = 0;
    for (key, versions) in versions_by_key(events) {
        let mut last = 0;
        for version in versions {
            assert!(version <= last + 1, "of {key}, {version} comes after {last}");
            last = last.max(version);
        }
        distinct += usize::try_from(last).unwrap();
    }
    distinct
}
