//! The topics, from their beginning (or from the time of the first id of interest) to what was their end when they were
//! asked. In: a broker. Out: each key's tale, and what in it could not come there. No group is joined, no offset committed.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{BorrowedMessage, Headers},
};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::{
    LIMIT,
    head::{self, Head},
};
use crate::{
    About, CLOCKS_APART, Rule, Sources, Violation,
    case::{Fault, Tale, Topic, Topics},
};

/// How long a call to a broker may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How one topic is read.
#[derive(Clone, Copy)]
struct Plan {
    name: &'static str,
    head: head::Read,
    about: fn(Uuid) -> About,
}

const TICKETS: Plan = Plan { name: "tickets", head: head::of_ticket, about: About::Ticket };
const ORDERS: Plan = Plan { name: "orders", head: head::of_order, about: About::Order };
const PAYMENTS: Plan = Plan { name: "payments", head: head::of_order, about: About::Order };
const EXPIRATION: Plan = Plan { name: "expiration", head: head::of_timer, about: About::Order };

/// All four at once, how many records they have, and what is wrong with those.
pub(super) async fn read(sources: &Sources) -> Result<(Topics, u64, Vec<Violation>)> {
    let (tickets, orders, payments, expiration) = tokio::try_join!(
        one(TICKETS, sources),
        one(ORDERS, sources),
        one(PAYMENTS, sources),
        one(EXPIRATION, sources),
    )?;
    let mut all = (0, Vec::new());
    let mut topic = |reading: Reading| {
        all.0 += reading.records;
        all.1.extend(reading.violations.into_values());
        reading.topic
    };
    let topics = Topics {
        tickets: topic(tickets),
        orders: topic(orders),
        payments: topic(payments),
        expiration: topic(expiration),
    };
    Ok((topics, all.0, all.1))
}

async fn one(plan: Plan, sources: &Sources) -> Result<Reading> {
    let (brokers, name) = (sources.kafka_brokers.clone(), format!("{}{}", sources.topic_prefix, plan.name));
    let since = sources.since.unwrap_or(Uuid::nil());
    spawn_blocking(move || read_all(plan, &brokers, &name, since).with_context(|| format!("topic {name}"))).await?
}

fn read_all(plan: Plan, brokers: &str, name: &str, since: Uuid) -> Result<Reading> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("enable.auto.commit", "false")
        // Named by every client that assigns, used by none.
        .set("group.id", "audit");
    let client: BaseConsumer = config.create()?;
    let metadata = client.fetch_metadata(Some(name), TIMEOUT)?;
    let found = metadata.topics().iter().find(|found| found.name() == name).context("no such topic")?;
    if let Some(error) = found.error() {
        bail!("{}", KafkaError::MetadataFetch(error.into()));
    }
    let mut reading = Reading::new(plan, since);
    let (mut from, mut left) = (TopicPartitionList::new(), HashMap::new());
    for partition in found.partitions().iter().map(|partition| partition.id()) {
        let (low, high) = client.fetch_watermarks(name, partition, TIMEOUT)?;
        let start = first_of_interest(&client, name, partition, since)?.unwrap_or(low).max(low);
        reading.topic.cut |= low > 0 && start == low;
        if start < high {
            from.add_partition_offset(name, partition, Offset::Offset(start))?;
            left.insert(partition, high);
        }
    }
    client.assign(&from)?;
    let begun = Instant::now();
    while !left.is_empty() {
        anyhow::ensure!(begun.elapsed() < LIMIT, "it takes too long");
        let message = client.poll(TIMEOUT).with_context(|| format!("nothing within {TIMEOUT:?}"))??;
        let (partition, next) = (message.partition(), message.offset() + 1);
        if left.get(&partition).is_some_and(|high| next <= *high) {
            reading.take(&message);
        }
        if left.get(&partition).is_some_and(|high| next >= *high) {
            left.remove(&partition);
        }
    }
    Ok(reading)
}

/// Where a partition's records begin that can be about ids from `since` on; nowhere by time, if it is of no time.
fn first_of_interest(client: &BaseConsumer, name: &str, partition: i32, since: Uuid) -> Result<Option<i64>> {
    let Some(time) = since.get_timestamp() else { return Ok(None) };
    let (seconds, nanos) = time.to_unix();
    let apart = i64::try_from(CLOCKS_APART.as_millis())?;
    let at = i64::try_from(seconds)?.saturating_mul(1000) + i64::from(nanos / 1_000_000) - apart;
    let mut asked = TopicPartitionList::new();
    asked.add_partition_offset(name, partition, Offset::Offset(at.max(0)))?;
    let answer = client.offsets_for_times(asked, TIMEOUT)?;
    let found = answer.find_partition(name, partition).context("it was asked for")?;
    Ok(match found.offset() {
        Offset::Offset(offset) => Some(offset),
        // There is nothing that late.
        Offset::End => Some(i64::MAX),
        other => bail!("partition {partition} of that time begins at {other:?}"),
    })
}

/// A topic, as far as it is read.
struct Reading {
    plan: Plan,
    since: Uuid,
    topic: Topic,
    records: u64,
    /// One a key: what comes after the first fault follows from it.
    violations: HashMap<Uuid, Violation>,
}

impl Reading {
    fn new(plan: Plan, since: Uuid) -> Self {
        let (topic, violations) = Default::default();
        Self { plan, since, topic, records: 0, violations }
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) {
        let place = || format!("{} of partition {}", message.offset(), message.partition());
        let key = message.key().and_then(|key| Uuid::try_parse_ascii(key).ok());
        let (Some(key), Ok(head)) = (key, (self.plan.head)(message.payload().unwrap_or_default())) else {
            let what = format!("its record {} is no event", place());
            let violation = Violation::new(Rule::Events, About::Topic(self.plan.name), what);
            self.violations.entry(Uuid::nil()).or_insert(violation);
            return;
        };
        if key < self.since {
            return;
        }
        self.records += 1;
        let print = print(message);
        let what = match self.hear(key, &head, print, message.partition()) {
            Ok(()) => return,
            Err(Unfit::Elsewhere) => format!("record {} is about {}", place(), head.id),
            Err(Unfit::OfNobody(order)) => format!("record {} rejects {order}, which is no order", place()),
            Err(Unfit::Fault(Fault::Gap { after, came })) => {
                format!("record {} is version {came}, after version {after}", place())
            }
            Err(Unfit::Fault(Fault::Reworded { version })) => {
                format!("record {} tells version {version} again, in other words", place())
            }
            Err(Unfit::Fault(Fault::Moved)) => {
                format!("record {} lies on another partition than those before", place())
            }
        };
        let what = format!("topic {}: {what}", self.plan.name);
        self.violations.entry(key).or_insert_with(|| Violation::new(Rule::Events, (self.plan.about)(key), what));
    }

    fn hear(&mut self, key: Uuid, head: &Head, print: u32, partition: i32) -> Result<(), Unfit> {
        if Uuid::try_parse(&head.id).ok() != Some(key) {
            return Err(Unfit::Elsewhere);
        }
        let tale = self.topic.tales.get(&key);
        if let Some(rejects) = &head.rejects {
            let order = Uuid::try_parse(rejects).map_err(|_| Unfit::OfNobody(rejects.clone()))?;
            let told = self.topic.rejections.entry(order).or_default();
            // A repetition may come late.
            if told.contains(&print) {
                return Ok(());
            }
            told.push(print);
            let last = tale.map_or(0, Tale::last);
            let fits = head.version == last || (tale.is_none() && self.topic.cut);
            return if fits { Ok(()) } else { Err(Unfit::Fault(Fault::Gap { after: last, came: head.version })) };
        }
        let tale = self.topic.tales.entry(key).or_default();
        tale.hear(head.version, print, partition, self.topic.cut).map_err(Unfit::Fault)
    }
}

enum Unfit {
    /// Its key isn't what it is about.
    Elsewhere,
    /// What it rejects has no id.
    OfNobody(String),
    Fault(Fault),
}

/// What stands for an event's words, its id among them: a hash. The order of headers means nothing.
fn print(message: &BorrowedMessage<'_>) -> u32 {
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    let headers = headers.fold(0_u64, |sum, header| sum.wrapping_add(hash((header.key, header.value))));
    // Half of it is enough where it is compared with one other.
    (hash((message.payload(), headers)) >> 32) as u32
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Uuid = Uuid::from_u128(1);
    const NONE: [usize; 0] = [];

    const ORDER: Uuid = Uuid::from_u128(9);

    fn version(version: i64) -> Head {
        Head { id: KEY.to_string(), version, rejects: None }
    }

    fn rejection(version: i64) -> Head {
        Head { rejects: Some(ORDER.to_string()), ..self::version(version) }
    }

    /// Which records of these don't fit, counted from 0: heads, and what stands for their words.
    fn unfit(cut: bool, records: &[(Head, u32)]) -> Vec<usize> {
        let mut reading = Reading::new(TICKETS, Uuid::nil());
        reading.topic.cut = cut;
        let heard = records.iter().map(|(head, print)| reading.hear(KEY, head, *print, 0));
        heard.enumerate().filter(|(_, heard)| heard.is_err()).map(|(place, _)| place).collect()
    }

    #[test]
    fn a_rejection_leaves_the_version_as_it_is_and_may_be_repeated_late() {
        let tale = [(version(1), 1), (rejection(1), 2), (version(2), 3), (rejection(1), 2), (rejection(2), 4)];
        assert_eq!(unfit(false, &tale), NONE);
        assert_eq!(unfit(false, &[(version(1), 1), (rejection(2), 2)]), [1], "of a version that never was");
        assert_eq!(unfit(false, &[(version(1), 1), (version(2), 2), (rejection(1), 3)]), [2], "of one that was");
    }

    #[test]
    fn rejections_are_counted_by_order_and_repetitions_are_not() {
        let mut reading = Reading::new(TICKETS, Uuid::nil());
        for (head, print) in [(version(1), 1), (rejection(1), 2), (rejection(1), 2), (rejection(1), 3)] {
            assert!(reading.hear(KEY, &head, print, 0).is_ok());
        }
        assert_eq!(reading.topic.rejections, HashMap::from([(ORDER, vec![2, 3])]));
        let of_nobody = Head { rejects: Some("o".into()), ..version(1) };
        assert_eq!(unfit(false, &[(version(1), 1), (of_nobody, 2)]), [1]);
    }

    #[test]
    fn a_ticket_that_nobody_listed_is_rejected_at_version_0() {
        assert_eq!(unfit(false, &[(rejection(0), 1), (rejection(0), 2)]), NONE);
        assert_eq!(unfit(false, &[(rejection(3), 1)]), [0]);
        assert_eq!(unfit(true, &[(rejection(3), 1)]), NONE, "its beginning is gone");
    }

    #[test]
    fn a_record_that_is_about_something_else_than_its_key_does_not_fit() {
        let other = Head { id: Uuid::from_u128(2).to_string(), ..version(1) };
        assert_eq!(unfit(false, &[(other, 1), (version(1), 1)]), [0]);
    }
}
