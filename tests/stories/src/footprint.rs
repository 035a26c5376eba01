//! All that a call could have left behind. In: a world that has come to rest. Out: what is in every table of every service,
//! and how far every topic goes. It changes nothing.

use std::collections::BTreeMap;

use anyhow::Result;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::{SERVICES, World, delay, groups, history};

/// What moves by itself, whoever calls: where a writer, a relay or a consumer is.
const MOVING: [&str; 3] = ["writers", "outbox_cursor", "inbox_offsets"];

/// The tables, by service and name, with how many rows they have and a digest of those; and the topics, with how many
/// events.
pub type Footprint = BTreeMap<String, String>;

/// Waits until nothing is on its way any more, and takes the world's footprint.
///
/// # Errors
///
/// Something still is in time, or a database or the broker can't be asked.
pub async fn of(world: &World) -> Result<Footprint> {
    let mut footprint = Footprint::new();
    groups::awaits_caught_up(world).await?;
    for service in SERVICES {
        footprint.insert(format!("topic {service}"), told(world, service).await?.to_string());
    }

    const TABLES: &str = "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace \
                          AND relkind IN ('r', 'p') AND NOT relispartition";
    for service in SERVICES {
        let session = delay::connect(world, service).await?;
        for row in session.query(TABLES, &[]).await? {
            let table: String = row.get(0);
            if MOVING.contains(&table.as_str()) {
                continue;
            }
            let rows = format!(
                "SELECT count(*) || ' rows, ' || coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') \
                 FROM \"{table}\" t"
            );
            footprint.insert(format!("{service}.{table}"), session.query_one(&rows, &[]).await?.get(0));
        }
    }
    Ok(footprint)
}

/// How many events a service's topic holds.
async fn told(world: &World, topic: &str) -> Result<i64> {
    let (config, topic) = (history::client(world), history::full_name(world, topic));
    let count = move || {
        let client: BaseConsumer = config.create()?;
        let mut count = 0;
        for partition in history::partitions(&client, &topic)? {
            let (low, high) = client.fetch_watermarks(&topic, partition, history::TIMEOUT)?;
            count += high - low;
        }
        anyhow::Ok(count)
    };
    tokio::task::spawn_blocking(count).await?
}
