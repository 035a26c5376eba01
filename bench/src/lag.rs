//! What is still under way once all of a run's orders have been seen: events in outboxes, and messages that groups have yet
//! to handle. In: a system. Out: when that is over. It asks databases and the broker, never a service.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use futures_util::future::try_join_all;
use local::{session::Session, stack::Stack};
use rdkafka::consumer::BaseConsumer;

use crate::{meter, rig::SERVICES, topics};

/// Every group: whose it is, its name, and the topic that it reads.
const GROUPS: [Group; 6] = [
    Group { service: "tickets", name: "tickets-orders", topic: "orders", passes_over_awaiting: true },
    Group { service: "payments", name: "payments-orders", topic: "orders", passes_over_awaiting: false },
    Group { service: "expiration", name: "expiration-orders", topic: "orders", passes_over_awaiting: true },
    Group { service: "orders", name: "orders-tickets", topic: "tickets", passes_over_awaiting: false },
    Group { service: "orders", name: "orders-payments", topic: "payments", passes_over_awaiting: false },
    Group { service: "orders", name: "orders-expiration", topic: "expiration", passes_over_awaiting: false },
];

struct Group {
    service: &'static str,
    name: &'static str,
    topic: &'static str,
    /// An order that awaits payment means nothing to it. Where nothing follows, its offset moves over that only within a
    /// second, and it is done before.
    passes_over_awaiting: bool,
}

/// Of each partition of the topic `orders`, the offset behind which nothing comes but orders that await payment.
pub(crate) type UpTo = BTreeMap<i32, i64>;

/// By topic and partition, the offset of the next record to come.
type Ends = BTreeMap<(&'static str, i32), i64>;

/// How long after the end it is looked.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether events wait, as the relay's own reading has it: the latest id of a transaction says of all whether any is as late.
/// There may be no event yet.
const WAITING: &str = "\
    SELECT target IS NOT NULL \
        OR coalesce((SELECT xid FROM outbox ORDER BY xid DESC LIMIT 1) >= pg_snapshot_xmax(published), false) \
        OR EXISTS (SELECT FROM outbox WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip(published)))) \
    FROM outbox_cursor";

/// Where a system's services keep how far they are.
pub(crate) struct Lag {
    databases: Vec<(&'static str, Session)>,
    client: Arc<BaseConsumer>,
    prefix: String,
}

impl Lag {
    /// Of a system that has all services.
    ///
    /// # Errors
    ///
    /// A database or the broker can't be reached.
    pub(crate) async fn of(stack: &Stack) -> Result<Self> {
        let mut databases = Vec::new();
        for service in SERVICES {
            databases.push((service, Session::connect(stack.service(service)?.database_url()).await?));
        }
        let client = Arc::new(topics::reader(&stack.shared_servers().kafka_brokers).create()?);
        Ok(Self { databases, client, prefix: stack.topic_prefix() })
    }

    /// How long after `end` nothing was under way any more, if that came within bounds. Groups to which orders that await
    /// payment mean nothing have to have come up to there alone.
    ///
    /// # Errors
    ///
    /// Nobody answers.
    pub(crate) async fn over(&self, end: Instant, up_to: &UpTo) -> Result<Option<Duration>> {
        loop {
            let looked = end.elapsed();
            if self.is_over(up_to).await? {
                return Ok(Some(looked));
            }
            if looked > PATIENCE {
                return Ok(None);
            }
            tokio::time::sleep(meter::LOOKS).await;
        }
    }

    /// The parts are asked one after the other. But if the topics end in the end where they did at first, and groups had
    /// handled all up to there, then what they did had been committed when the outboxes were asked, and nothing came since.
    async fn is_over(&self, up_to: &UpTo) -> Result<bool> {
        let ends = self.ends().await?;
        let offsets = try_join_all(self.databases.iter().map(|(_, database)| offsets(database))).await?;
        let handled = self.databases.iter().map(|(service, _)| *service).zip(offsets).all(|(service, offsets)| {
            GROUPS
                .iter()
                .filter(|group| group.service == service)
                .all(|group| group.has_handled(&offsets, &ends, up_to))
        });
        if !handled {
            return Ok(false);
        }
        let waiting = try_join_all(self.databases.iter().map(|(_, database)| waiting(database))).await?;
        Ok(!waiting.contains(&true) && self.ends().await? == ends)
    }

    async fn ends(&self) -> Result<Ends> {
        let (client, prefix) = (self.client.clone(), self.prefix.clone());
        tokio::task::spawn_blocking(move || {
            let mut ends = Ends::new();
            for topic in SERVICES {
                let extents = topics::extents(&client, &format!("{prefix}{topic}"))?;
                ends.extend(extents.into_iter().map(|(partition, _, next)| ((topic, partition), next)));
            }
            Ok(ends)
        })
        .await?
    }
}

/// By group and partition, the next offset.
type Offsets = BTreeMap<(String, i32), i64>;

async fn offsets(database: &Session) -> Result<Offsets> {
    let rows = database.query("SELECT consumer_group, partition, next_offset FROM inbox_offsets", &[]).await?;
    Ok(rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect())
}

async fn waiting(database: &Session) -> Result<bool> {
    Ok(database.query_one(WAITING, &[]).await?.get(0))
}

impl Group {
    fn has_handled(&self, offsets: &Offsets, ends: &Ends, up_to: &UpTo) -> bool {
        ends.iter().filter(|((topic, _), _)| *topic == self.topic).all(|((_, partition), end)| {
            let wanted = match self.passes_over_awaiting {
                // Of a partition of which nothing was seen nothing has come.
                true => up_to.get(partition).copied().unwrap_or(0),
                false => *end,
            };
            let next = offsets.get(&(self.name.to_owned(), *partition)).copied().unwrap_or(0);
            next >= wanted
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: [((&str, i32), i64); 3] = [(("orders", 0), 10), (("orders", 1), 6), (("tickets", 0), 99)];

    fn has_handled(service: &str, next: [Option<i64>; 2], up_to: &[(i32, i64)]) -> bool {
        let group = GROUPS.iter().find(|group| group.service == service).unwrap();
        let next = next.into_iter().zip(0..).filter_map(|(next, partition)| Some((partition, next?)));
        let offsets = next.map(|(partition, next)| ((group.name.to_owned(), partition), next)).collect();
        group.has_handled(&offsets, &ENDS.into(), &up_to.iter().copied().collect())
    }

    #[test]
    fn a_group_has_handled_all_when_every_partition_of_its_topic_is_at_its_end() {
        assert!(has_handled("payments", [Some(10), Some(6)], &[]));
        assert!(!has_handled("payments", [Some(9), Some(6)], &[]));
        assert!(!has_handled("payments", [Some(10), None], &[]), "it never read the other");
    }

    #[test]
    fn what_means_nothing_to_a_group_need_not_be_handled() {
        assert!(has_handled("tickets", [Some(7), Some(6)], &[(0, 7), (1, 6)]));
        assert!(!has_handled("tickets", [Some(7), Some(6)], &[(0, 8), (1, 6)]));
        assert!(!has_handled("payments", [Some(7), Some(6)], &[(0, 7), (1, 6)]), "it does to this one");
    }
}
