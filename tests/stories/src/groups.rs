//! The consumer groups, as any tool sees them that watches Kafka. In: a world. Out: that all have come, or have read all.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use local::wait;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};

use crate::{
    SERVICES, SOON, World, delay,
    history::{self, TIMEOUT},
};

/// The groups, and what each reads.
const GROUPS: [(&str, &str); 6] = [
    ("tickets-orders", "orders"),
    ("payments-orders", "orders"),
    ("expiration-orders", "orders"),
    ("orders-tickets", "tickets"),
    ("orders-payments", "payments"),
    ("orders-expiration", "expiration"),
];

/// Waits until every group has all its members and has shared its partitions out. A service is ready before that, for
/// it may be called; but what one service says is heard by the others only then, and on a busy machine that may take
/// longer than a caller is kept waiting for it.
///
/// # Errors
///
/// One hasn't in time.
pub async fn awaits_all(world: &World) -> Result<()> {
    let (config, prefix) = (history::client(world), world.stack().topic_prefix());
    for (group, _) in GROUPS {
        let (service, _) = group.split_once('-').context("a group is named after its service")?;
        let (members, group) = (world.stack().replicas(service).count(), format!("{prefix}{group}"));
        wait::until(&format!("group {group} to have {members} members"), SOON, || {
            let (config, group) = (config.clone(), group.clone());
            async move { tokio::task::spawn_blocking(move || stable(&config, &group, members)).await? }
        })
        .await?;
    }
    Ok(())
}

fn stable(config: &ClientConfig, name: &str, members: usize) -> Result<()> {
    let client: BaseConsumer = config.create()?;
    let groups = client.fetch_group_list(Some(name), TIMEOUT)?;
    let group = groups.groups().iter().find(|group| group.name() == name).context("it isn't there")?;
    ensure!(
        group.state() == "Stable" && group.members().len() == members,
        "it is {} with {} members",
        group.state(),
        group.members().len()
    );
    Ok(())
}

/// Waits until no event is on its way any more: every service has told all, and every group has read all that its topic holds, as any
/// tool that watches lag sees it.
///
/// # Errors
///
/// One still is when its time is up.
pub async fn awaits_caught_up(world: &World) -> Result<()> {
    let (config, prefix) = (history::client(world), world.stack().topic_prefix());
    let begun = Instant::now();
    let mut before = None;
    loop {
        let read = GROUPS.map(|(group, topic)| {
            let (mut config, group, topic) = (config.clone(), format!("{prefix}{group}"), format!("{prefix}{topic}"));
            config.set("group.id", &group);
            async move {
                wait::until(&format!("group {group} to have read all of {topic}"), SOON, || {
                    let (config, topic) = (config.clone(), topic.clone());
                    async move { tokio::task::spawn_blocking(move || no_lag(&config, &topic)).await? }
                })
                .await
            }
        });
        try_join_all(read).await?;
        let told = SERVICES.map(async |service| {
            wait::until(&format!("{service} to have told all"), SOON, || has_told_all(world, service)).await
        });
        let appended = try_join_all(told).await?;
        // Who has read an event may have told another meanwhile: only a second look that finds no more says that there is none.
        if before.as_ref() == Some(&appended) {
            return Ok(());
        }
        ensure!(begun.elapsed() < 2 * SOON, "there were {before:?} events, and are {appended:?}");
        before = Some(appended);
    }
}

/// How many events a service has appended, all of which are published.
async fn has_told_all(world: &World, service: &str) -> Result<i64> {
    let counts = "SELECT count(*), count(*) FILTER (WHERE NOT pg_visible_in_snapshot(xid, published)) \
                  FROM outbox CROSS JOIN outbox_cursor";
    let row = delay::connect(world, service).await?.query_one(counts, &[]).await?;
    let (appended, waiting): (i64, i64) = (row.get(0), row.get(1));
    ensure!(waiting == 0, "{waiting} events wait to be published");
    Ok(appended)
}

fn no_lag(config: &ClientConfig, topic: &str) -> Result<()> {
    let client: BaseConsumer = config.create()?;
    let mut list = TopicPartitionList::new();
    for partition in history::partitions(&client, topic)? {
        list.add_partition(topic, partition);
    }
    for committed in client.committed_offsets(list, TIMEOUT)?.elements() {
        let (low, high) = client.fetch_watermarks(topic, committed.partition(), TIMEOUT)?;
        let read = committed.offset() == Offset::Offset(high) || low == high;
        ensure!(read, "partition {}: {:?} of {high}", committed.partition(), committed.offset());
    }
    Ok(())
}
