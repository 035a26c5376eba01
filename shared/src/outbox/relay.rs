//! The relay: publishes what the outbox holds, batch after batch, as long as it has the lease.

use std::{pin::pin, sync::Arc, time::Duration};

use chrono::SecondsFormat;
use diesel::{
    QueryResult,
    sql_types::{Integer, Nullable, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    OutboxMetrics,
    cursor::{self, Place},
    difference::{self, Fresh, Row},
    lease::{self, Lease},
};
use crate::{
    backoff::Backoff,
    db::{Conn, Database, Fixed, Prepared},
    kafka::{
        BatchProducer, CloudEvent, KafkaConfig, PRODUCER, Record, SendError, TopicConfig, TopicError, ensure_topic,
        partition_of,
    },
    pace::Pace,
    telemetry::{Span, Spell, TraceContext},
};

/// What a relay needs to know.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// The service, as in `/ticketing/<service>`.
    pub service: &'static str,
    /// The service's topic, without the installation's prefix.
    pub topic: &'static str,
    /// How the topic is made if it is missing.
    pub new_topic: TopicConfig,
    /// Where Kafka is.
    pub kafka: KafkaConfig,
    /// Events a batch, at least 1.
    pub batch: usize,
    /// The least time from one read to the next while events keep coming.
    pub pace: Duration,
}

/// Publishes the outbox of one service. Every replica has one; at any time one of them works.
pub struct Relay {
    config: RelayConfig,
    database: Database,
    wake: Arc<Notify>,
    metrics: Arc<OutboxMetrics>,
    holder: Uuid,
}

/// Why a relay has to begin anew, or leave it to another.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error("the lease is another's by now")]
    LostLease,
    #[error(transparent)]
    Database(#[from] diesel::result::Error),
    #[error("no connection: {0}")]
    Connect(String),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error("the producer can't go on: {0}")]
    Fatal(String),
    #[error("the broker has acknowledged nothing for {GIVES_WAY:?}")]
    Unanswered,
    #[error("Kafka: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
}

impl Interrupted {
    /// How long to wait before the next try, if that doesn't depend on how many there were: each try waits for the broker
    /// itself, which may be back at any time.
    fn pause(&self) -> Option<Duration> {
        match self {
            Self::Unanswered => Some(STANDS_BACK),
            Self::Topic(_) | Self::Kafka(_) => Some(lease::RENEWED_EVERY),
            Self::LostLease | Self::Database(_) | Self::Connect(_) | Self::Send(_) | Self::Fatal(_) => None,
        }
    }
}

/// The poll for what other replicas wrote, whose writers can't wake this relay: from this, as long as it finds
/// something, to `LAZIEST`.
const EAGEREST: Duration = Duration::from_millis(5);
const LAZIEST: Duration = Duration::from_millis(50);
/// How long the cursor may lie behind: so much, and the batch that was under way, is repeated by whoever takes over from a
/// relay that was killed.
const MOVED_EVERY: Duration = Duration::from_millis(50);
/// A batch that is at least this part of a full one is likely to be followed by another, which is then read while it is sent.
const LIKELY_FOLLOWED: usize = 4;
/// Sequence numbers listed at once of a large difference: 8 MB.
const LISTED: i64 = 1_000_000;
/// How long a broker may acknowledge nothing of a batch before another replica gets its turn, for it may be this one alone that
/// is cut off; and how long this one then stands back: long enough for any other to take the lease.
const GIVES_WAY: Duration = Duration::from_secs(10);
const STANDS_BACK: Duration = lease::RENEWED_EVERY.saturating_mul(2);
/// How long what is under way may take to be acknowledged at the end; the outbox keeps the rest.
const LAST_FLUSH: Duration = Duration::from_secs(5);

struct RecordTopic;
impl Fixed for RecordTopic {
    // Once: partitions that are added to the topic later don't move keys.
    const SQL: &'static str = "\
        UPDATE outbox_cursor \
        SET topic = coalesce(topic, $1), partitions = CASE WHEN topic IS NULL THEN $2 ELSE partitions END \
        RETURNING topic, partitions";
}

#[derive(diesel::QueryableByName)]
struct RecordedTopic {
    #[diesel(sql_type = Nullable<Text>)]
    topic: Option<String>,
    #[diesel(sql_type = Nullable<Integer>)]
    partitions: Option<i32>,
}

/// A relay at work.
struct Leader<'a> {
    relay: &'a Relay,
    conn: &'a AsyncPgConnection,
    lease: Lease,
    place: Place,
    /// Whether the database's cursor lies behind `place`.
    unsaved: bool,
    /// When the cursor was moved or the lease renewed the last time.
    renewed: Instant,
    /// What was read while the batch before it was sent.
    prefetched: Option<Fresh>,
    producer: BatchProducer,
    partitions: i32,
    source: String,
}

impl Relay {
    /// `wake` is what this process's writers notify.
    pub fn new(config: RelayConfig, database: Database, wake: Arc<Notify>, metrics: Arc<OutboxMetrics>) -> Self {
        // So that its metrics read 0 before it has led.
        drop(config.kafka.metrics.client(PRODUCER));
        Self { config, database, wake, metrics, holder: Uuid::now_v7() }
    }

    /// Publishes until it is told to stop; gives the lease back then.
    pub async fn run(self, stop: CancellationToken) {
        let (mut backoff, anew) = (Backoff::new(), Spell::new());
        while !stop.is_cancelled() {
            let conn = match self.connect().await {
                Ok(conn) => conn,
                Err(error) => {
                    tracing::warn!(%error, "the relay has no connection");
                    backoff.wait(&stop).await;
                    continue;
                }
            };
            match self.lead(&conn, &stop, &mut backoff).await {
                Ok(()) => {}
                Err(error) => {
                    if let Some(left_out) = anew.happens(std::time::Instant::now()) {
                        tracing::warn!(%error, left_out, "the relay begins anew");
                    }
                    self.metrics.failed();
                    match error.pause() {
                        Some(pause) => drop(tokio::time::timeout(pause, stop.cancelled()).await),
                        None => backoff.wait(&stop).await,
                    }
                }
            }
        }
    }

    async fn connect(&self) -> Result<Conn, Box<dyn std::error::Error + Send + Sync>> {
        let mut conn = self.database.connect_prepared().await?;
        // A cursor that is lost in a crash is one that is moved again: its events are repeated, and nobody minds.
        conn.batch_execute("SET synchronous_commit = off").await?;
        Ok(conn)
    }

    /// Waits for the lease, and works as long as it has it.
    async fn lead(&self, conn: &Conn, stop: &CancellationToken, backoff: &mut Backoff) -> Result<(), Interrupted> {
        let (lease, place) = loop {
            match lease::take(conn, self.holder).await? {
                Some(taken) => break taken,
                None if stop.is_cancelled() => return Ok(()),
                None => {
                    let _ = tokio::time::timeout(lease::RENEWED_EVERY, stop.cancelled()).await;
                }
            }
        };
        let result = self.work(conn, lease, place, stop, backoff).await;
        self.metrics.leading(false);
        if !matches!(result, Err(Interrupted::LostLease | Interrupted::Database(_) | Interrupted::Connect(_))) {
            // On a best effort: it runs out by itself.
            let _ = lease::release(conn, lease).await;
        }
        result
    }

    async fn work(
        &self,
        conn: &AsyncPgConnection,
        lease: Lease,
        place: Place,
        stop: &CancellationToken,
        backoff: &mut Backoff,
    ) -> Result<(), Interrupted> {
        let config = &self.config;
        let found = keeping(conn, lease, ensure_topic(&config.kafka, config.topic, config.new_topic)).await??;
        let partitions = record_topic(conn, config.topic, found).await?;
        let producer = BatchProducer::new(&config.kafka, &config.kafka.topic(config.topic), 4 * config.batch)?;
        let source = format!("/ticketing/{}", config.service);
        tracing::info!(topic = config.topic, partitions, epoch = lease.epoch, "publishing the outbox");
        self.metrics.leading(true);
        let leader = Leader {
            relay: self,
            conn,
            lease,
            place,
            unsaved: false,
            renewed: Instant::now(),
            prefetched: None,
            producer,
            partitions,
            source,
        };
        leader.publish(stop, backoff).await
    }
}

/// Waits for something that may outlast the lease, and keeps that meanwhile.
async fn keeping<T>(conn: &AsyncPgConnection, lease: Lease, work: impl Future<Output = T>) -> Result<T, Interrupted> {
    let mut work = pin!(work);
    let mut renewal = tokio::time::interval(lease::RENEWED_EVERY);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Ok(done),
            _ = renewal.tick() => renew(conn, lease).await?,
        }
    }
}

async fn renew(conn: &AsyncPgConnection, lease: Lease) -> Result<(), Interrupted> {
    if lease::renew(conn, lease).await? { Ok(()) } else { Err(Interrupted::LostLease) }
}

async fn record_topic(conn: &AsyncPgConnection, topic: &str, partitions: i32) -> QueryResult<i32> {
    let recorded = Prepared::<RecordTopic, _>::with(|sql| sql.bind::<Text, _>(topic).bind::<Integer, _>(partitions))
        .get_result::<RecordedTopic>(&mut &*conn)
        .await?;
    if recorded.topic.as_deref() != Some(topic) {
        tracing::warn!(?recorded.topic, topic, "this outbox was published to another topic before");
    }
    Ok(recorded.partitions.unwrap_or(partitions))
}

impl Leader<'_> {
    /// Publishes until it is told to stop.
    async fn publish(mut self, stop: &CancellationToken, backoff: &mut Backoff) -> Result<(), Interrupted> {
        let (mut poll, mut woken) = (EAGEREST, false);
        let (mut pace, mut busy) = (Pace::new(self.relay.config.pace), false);
        let mut last: Option<Instant> = None;
        loop {
            // Only a read that follows a batch is paced: there is company to wait for.
            pace.begin(!busy).await;
            self.producer.watch();
            let read_at = Instant::now();
            // At the end: what others keep writing is another relay's to publish.
            if stop.is_cancelled()
                && last.get_or_insert(read_at + LAST_FLUSH).saturating_duration_since(read_at).is_zero()
            {
                return self.save_cursor().await;
            }
            let published = self.publish_fresh(stop).await?;
            self.save_cursor_if_due().await?;
            busy = published > 0;
            pace.carries(published);
            if busy {
                *backoff = Backoff::new();
                if !woken {
                    poll = EAGEREST;
                }
            }
            if stop.is_cancelled() && !busy {
                return self.save_cursor().await;
            }
            if self.prefetched.is_some() {
                continue;
            }
            woken = tokio::select! {
                () = self.relay.wake.notified() => true,
                () = tokio::time::sleep(poll) => {
                    poll = (poll * 2).min(LAZIEST);
                    false
                }
                () = stop.cancelled() => false,
            };
            if woken {
                // The commit that woke it has answers to give, too, and callers come first.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Publishes what became visible since the last time; how many events that were.
    async fn publish_fresh(&mut self, stop: &CancellationToken) -> Result<usize, Interrupted> {
        if self.place.target.is_some() {
            return self.publish_many(stop).await;
        }
        let batch = self.relay.config.batch;
        let fresh = match self.prefetched.take() {
            Some(read) => read,
            None => difference::few(self.conn, &self.place.published, batch).await?,
        };
        match fresh {
            Fresh::Few { rows, .. } if rows.is_empty() => Ok(0),
            Fresh::Few { rows, snapshot } => {
                if rows.len() < batch / LIKELY_FOLLOWED {
                    self.send(&rows, stop).await?;
                } else {
                    // There will be more, and neither has to wait for the other.
                    let next = difference::few(self.conn, &snapshot, batch);
                    let (sent, read) = tokio::join!(self.send(&rows, stop), next);
                    sent?;
                    // That there was nothing yet says nothing about now.
                    self.prefetched =
                        Some(read?).filter(|read| !matches!(read, Fresh::Few { rows, .. } if rows.is_empty()));
                }
                self.advance(Place::at(snapshot));
                Ok(rows.len())
            }
            Fresh::Many => {
                let target = difference::now(self.conn).await?;
                self.advance(Place { target: Some(target), published_seq: Some(0), ..self.place.clone() });
                // Told first: a place within means nothing without the target.
                self.save_cursor().await?;
                self.publish_many(stop).await
            }
        }
    }

    /// Works off a large difference, chunk by chunk, so that whoever takes over goes on from about the last one.
    async fn publish_many(&mut self, stop: &CancellationToken) -> Result<usize, Interrupted> {
        let mut published = 0;
        while let Some(target) = self.place.target.clone() {
            let after = self.place.published_seq.unwrap_or(0);
            self.renew().await?;
            let seqs = self.list(&target, after).await?;
            self.renew().await?;
            let mut chunks = seqs.chunks(self.relay.config.batch.max(1)).peekable();
            let mut rows = difference::fetch(self.conn, chunks.peek().copied().unwrap_or_default()).await?;
            while let Some(chunk) = chunks.next() {
                let next = difference::fetch(self.conn, chunks.peek().copied().unwrap_or_default());
                let (sent, fetched) = tokio::join!(self.send(&rows, stop), next);
                sent?;
                published += rows.len();
                rows = fetched?;
                self.advance(Place { published_seq: chunk.last().copied(), ..self.place.clone() });
                self.save_cursor_if_due().await?;
                if stop.is_cancelled() {
                    return Ok(published);
                }
            }
            if i64::try_from(seqs.len()).unwrap_or(i64::MAX) < LISTED {
                self.advance(Place::at(target));
            }
        }
        Ok(published)
    }

    /// Lists what follows `after`, however long that takes: it is one statement, beside which another connection keeps the lease.
    async fn list(&self, target: &str, after: i64) -> Result<Vec<i64>, Interrupted> {
        let mut listed = pin!(difference::list(self.conn, &self.place.published, target, after, LISTED));
        if let Ok(seqs) = tokio::time::timeout(lease::RENEWED_EVERY, &mut listed).await {
            return Ok(seqs?);
        }
        let beside = self.relay.connect().await.map_err(|error| Interrupted::Connect(error.to_string()))?;
        Ok(keeping(&beside, self.lease, listed).await??)
    }

    /// Sends events and awaits the broker's word on all of them, keeping the lease meanwhile.
    async fn send(&self, rows: &[Row], stop: &CancellationToken) -> Result<(), Interrupted> {
        let topic = self.relay.config.topic;
        let contexts = rows.iter().filter_map(|row| TraceContext::parse(&row.traceparent, row.tracestate.as_deref()));
        let links: Vec<TraceContext> = contexts.filter(TraceContext::sampled).collect();
        let span = Span::send(topic, rows.len(), &links);
        let sent = self.producer.send(rows.iter().map(|row| self.record(row)));
        tokio::pin!(sent);
        let give_up = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_FLUSH).await;
        };
        tokio::pin!(give_up);
        let (mut acknowledged, mut since) = (self.producer.acknowledged(), Instant::now());
        let mut renewal = tokio::time::interval_at(Instant::now() + lease::RENEWED_EVERY, lease::RENEWED_EVERY);
        loop {
            tokio::select! {
                biased;
                sent = &mut sent => {
                    if let Err(error) = sent {
                        span.error("SEND_FAILED");
                        return Err(error.into());
                    }
                    break;
                }
                _ = renewal.tick() => {
                    self.renew().await?;
                    self.producer.watch();
                    if let Some((code, reason)) = self.producer.fatal() {
                        span.error("FATAL");
                        return Err(Interrupted::Fatal(format!("{code}: {reason}")));
                    }
                    let now = self.producer.acknowledged();
                    if now != acknowledged {
                        (acknowledged, since) = (now, Instant::now());
                    } else if since.elapsed() >= GIVES_WAY {
                        span.error("UNANSWERED");
                        return Err(Interrupted::Unanswered);
                    }
                }
                () = &mut give_up => {
                    span.error("GIVEN_UP");
                    return Err(Interrupted::Send(SendError::Undelivered));
                }
            }
        }
        drop(span);
        self.relay.metrics.published(rows.len(), rows.iter().map(|row| row.created_at).min());
        Ok(())
    }

    fn record<'r>(&self, row: &'r Row) -> Record<'r> {
        let headers = CloudEvent {
            id: &row.event_id.to_string(),
            kind: &row.event_type,
            source: &self.source,
            subject: &row.key,
            time: &row.created_at.to_rfc3339_opts(SecondsFormat::Micros, true),
            sequence: &row.seq.to_string(),
            traceparent: &row.traceparent,
            tracestate: row.tracestate.as_deref(),
        };
        Record {
            partition: partition_of(row.key.as_bytes(), self.partitions),
            key: &row.key,
            payload: &row.payload,
            headers: headers.headers(),
        }
    }

    /// So far it has been published. The database is told later.
    fn advance(&mut self, place: Place) {
        self.place = place;
        self.unsaved = true;
    }

    /// Tells the database every now and then, and so keeps the lease.
    async fn save_cursor_if_due(&mut self) -> Result<(), Interrupted> {
        let due = if self.unsaved { MOVED_EVERY } else { lease::RENEWED_EVERY };
        if self.renewed.elapsed() >= due { self.save_cursor().await } else { Ok(()) }
    }

    /// Keeps the lease, and the place if it has changed.
    async fn save_cursor(&mut self) -> Result<(), Interrupted> {
        if !self.unsaved {
            self.renew().await?;
        } else if !cursor::advance(self.conn, self.lease, &self.place).await? {
            return Err(Interrupted::LostLease);
        }
        self.unsaved = false;
        self.renewed = Instant::now();
        Ok(())
    }

    async fn renew(&self) -> Result<(), Interrupted> {
        renew(self.conn, self.lease).await
    }
}
