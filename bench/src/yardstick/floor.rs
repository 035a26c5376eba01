//! The least that an order has to wait for: commits, and round trips of the broker, one after the other, on a system where
//! nothing else happens.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use diesel::sql_types::Text;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use hdrhistogram::Histogram;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{Consumer, StreamConsumer},
    producer::{FutureProducer, FutureRecord},
};
use shared::db::{Conn, Database, Fixed, Pool, Prepared};
use tokio::time::MissedTickBehavior;

use crate::{load, rig::Rig, topics};

/// Nothing takes longer on a system that is well.
const LIMIT: Duration = Duration::from_secs(10);
const TOPIC: &str = "floor";

struct Insert;
impl Fixed for Insert {
    const SQL: &'static str = "INSERT INTO floor_row (filler) VALUES ($1)";
}

struct Begin;
impl Fixed for Begin {
    const SQL: &'static str = "BEGIN";
}

struct Turn;
impl Fixed for Turn {
    const SQL: &'static str = "UPDATE floor_state SET turn = turn + 1 WHERE id = 1";
}

struct Look;
impl Fixed for Look {
    const SQL: &'static str = "SELECT turn FROM floor_state WHERE id = 2";
}

struct Commit;
impl Fixed for Commit {
    const SQL: &'static str = "COMMIT";
}

/// A database, and a topic, with nothing else to do.
pub(crate) struct Floor {
    pool: Pool,
    /// Of no pool.
    alone: Conn,
    row: String,
    producer: FutureProducer,
    consumer: StreamConsumer,
}

impl Floor {
    /// Makes both.
    ///
    /// # Errors
    ///
    /// A server refuses.
    pub(crate) async fn lay(rig: &Rig) -> Result<Self> {
        let database = Database::new(&rig.postgres_url("postgres"), "bench")?;
        let (pool, alone) = (Pool::new(database.clone(), 1), database.connect().await?);
        let tables = "DROP TABLE IF EXISTS floor_row, floor_state; \
                      CREATE TABLE floor_row (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, filler text); \
                      CREATE TABLE floor_state (id integer PRIMARY KEY, turn bigint NOT NULL); \
                      INSERT INTO floor_state VALUES (1, 0), (2, 0)";
        pool.get().await?.batch_execute(tables).await?;
        let brokers = rig.brokers();
        topics::make(&brokers, TOPIC, 1).await?;
        let consumer: StreamConsumer = topics::reader(&brokers).set("fetch.min.bytes", "1").create()?;
        let mut end = TopicPartitionList::new();
        end.add_partition_offset(TOPIC, 0, Offset::End)?;
        consumer.assign(&end)?;
        let producer = topics::writer(&brokers).create()?;
        let floor = Self { pool, alone, row: "x".repeat(180), producer, consumer };
        floor.found().await?;
        Ok(floor)
    }

    /// Sends until something comes back: the consumer has found the topic's end by then.
    async fn found(&self) -> Result<()> {
        for _ in 0..100 {
            self.send().await?;
            if tokio::time::timeout(Duration::from_millis(200), self.consumer.recv()).await.is_ok() {
                // What else was sent meanwhile.
                while tokio::time::timeout(Duration::from_millis(200), self.consumer.recv()).await.is_ok() {}
                return Ok(());
            }
        }
        anyhow::bail!("nothing comes back from the broker")
    }

    /// One bare insert and commit, over the services' pool.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub(crate) async fn commit(&self) -> Result<()> {
        let mut conn = self.pool.get().await?;
        let row = self.row.as_str();
        let inserted = conn
            .transaction(async |conn| Prepared::<Insert, _>::with(|sql| sql.bind::<Text, _>(row)).execute(conn).await);
        let _: usize = inserted.await.map_err(|error: diesel::result::Error| anyhow!(error))?;
        Ok(())
    }

    /// As many statements, in as many round trips, as an order has: one that begins, one that changes a row and one that reads
    /// one; two that insert one, and one that commits.
    ///
    /// # Errors
    ///
    /// The database fails.
    pub(crate) async fn statements(&self) -> Result<()> {
        let (conn, row) = (&*self.alone, self.row.as_str());
        let insert = || Prepared::<Insert, _>::with(|sql| sql.bind::<Text, _>(row)).execute(&mut &*conn);
        tokio::try_join!(run::<Begin>(conn), run::<Turn>(conn), run::<Look>(conn))?;
        tokio::try_join!(insert(), insert(), run::<Commit>(conn))?;
        Ok(())
    }

    async fn send(&self) -> Result<i64> {
        let record: FutureRecord<'_, (), _> = FutureRecord::to(TOPIC).payload(&self.row);
        let sent = self.producer.send(record, LIMIT).await.map_err(|(error, _)| error)?;
        Ok(sent.offset)
    }

    /// One record to the broker, and from it.
    async fn round_trip(&self) -> Result<()> {
        let offset = self.send().await?;
        loop {
            let received = tokio::time::timeout(LIMIT, self.consumer.recv()).await.context("nothing comes back")??;
            if received.offset() >= offset {
                return Ok(());
            }
        }
    }

    /// So many times three commits with two round trips between them, in microseconds.
    ///
    /// # Errors
    ///
    /// A server fails.
    pub(crate) async fn orders(&self, times: usize) -> Result<Histogram<u64>> {
        let mut took = load::histogram()?;
        for _ in 0..times {
            timed(&mut took, self.order()).await?;
        }
        Ok(took)
    }

    /// The same, one every so often, for so long.
    ///
    /// # Errors
    ///
    /// A server fails.
    pub(crate) async fn orders_for(&self, lasts: Duration, every: Duration) -> Result<Histogram<u64>> {
        let (mut took, mut turns) = (load::histogram()?, tokio::time::interval(every));
        // After a slow one the next are not made up for: they would be a load of their own.
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let begun = Instant::now();
        while begun.elapsed() < lasts {
            turns.tick().await;
            timed(&mut took, self.order()).await?;
        }
        Ok(took)
    }

    async fn order(&self) -> Result<()> {
        self.commit().await?;
        self.round_trip().await?;
        self.commit().await?;
        self.round_trip().await?;
        self.commit().await
    }
}

async fn run<S: Fixed>(conn: &AsyncPgConnection) -> diesel::QueryResult<usize> {
    Prepared::<S, _>::with(|sql| sql).execute(&mut &*conn).await
}

async fn timed(took: &mut Histogram<u64>, step: impl Future<Output = Result<()>>) -> Result<()> {
    let begun = Instant::now();
    step.await?;
    took.saturating_record(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX).max(1));
    Ok(())
}
