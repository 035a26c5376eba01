//! The engine's parts, plugged together for one service, from the first port to the last offset.
//!
//! A service says what it is ([`Plan`]) and what it serves; this starts everything, says when it is ready, and ends it
//! in the one order in which nothing is lost.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use diesel::sql_types::Integer;
use diesel_async::RunQueryDsl;
use diesel_migrations::EmbeddedMigrations;
use futures_util::future::BoxFuture;
use tokio::{
    net::TcpListener,
    sync::{Mutex, Notify},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{
    backoff::Backoff,
    command::{self, CommandMetrics, Lane, LaneConfig, LaneKind, Service, WriteContext},
    config::{CommonConfig, DatabaseConfig, LimitsConfig},
    db::{self, Conn, Database, Fixed, OldestTransaction, Pool, Prepared},
    feed::{self, Feed, FeedMetrics, Tail},
    grpc::{self, BindError, Health, ServeError, Server, Verifier},
    inbox::{self, Consumer, ConsumerConfig, InboxMetrics, Subscription},
    jobs::{JobMetrics, Jobs, Runner, Worker},
    kafka::{KafkaConfig, KafkaMetrics, TopicConfig, ensure_topic},
    ops::{self, Metrics, Sample, Sampler},
    outbox::{self, OutboxLag, OutboxMetrics, Relay, RelayConfig},
    telemetry::{self, Spell},
    timers::{OverdueSample, Timed, TimerMetrics, Timers},
};

/// What a service is.
pub struct Plan<S: Service> {
    /// Its name: of its process in logs and traces, and in its events' source.
    pub name: &'static str,
    /// The topic that its events go to.
    pub topic: &'static str,
    /// What it reads.
    pub subscriptions: &'static [Subscription<S::Command>],
    /// The full names of the gRPC services that it serves.
    pub services: &'static [&'static str],
    /// The encoded `FileDescriptorSet` that describes them.
    pub descriptors: &'static [u8],
    /// Its own tables.
    pub migrations: fn() -> EmbeddedMigrations,
}

/// Why a service ended, or never began.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A port can't be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// gRPC can't be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The operators' HTTP server ended.
    #[error("the operators' server ended: {0}")]
    Ops(#[from] std::io::Error),
    /// No HTTP client for keys.
    #[error("no HTTP client can be made: {0}")]
    Http(#[from] reqwest::Error),
    /// Something that a setting let through can't be used after all.
    #[error("{0}")]
    Setting(String),
    /// Migrating failed.
    #[error(transparent)]
    Migrate(#[from] db::MigrateError),
    /// Told to stop while it migrated.
    #[error("told to stop before the database was up to date")]
    Interrupted,
    /// A part ended that should not have: a bug.
    #[error("a part of the engine ended by itself: {0}")]
    Part(String),
}

type Background = Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send>;
type Finish = Box<dyn FnOnce(Duration) -> BoxFuture<'static, ()> + Send>;

/// A service's engine, not started yet.
pub struct Engine<S: Service> {
    plan: Plan<S>,
    config: CommonConfig,
    /// Of all that writes.
    writing: WriteContext,
    kafka: KafkaConfig,
    pool: Pool,
    health: Health,
    metrics: Metrics,
    sampler: Sampler,
    lane: Lane<S>,
    limits: LaneConfig,
    /// What works the lanes off.
    lanes: Vec<(&'static str, BoxFuture<'static, ()>)>,
    /// Ends the lanes, once nobody submits any more.
    lane_stop: CancellationToken,
    /// Lets jobs come to an end.
    finish: Option<Finish>,
    /// Ends the sources of work.
    sources_stop: CancellationToken,
    background: Vec<(&'static str, Background)>,
    grpc_listener: TcpListener,
    ops_listener: TcpListener,
}

/// How long a group waits for a member that fell silent: the least that brokers accept by default. A member that comes
/// back late does no harm, for its offsets fence it.
const SESSION_TIMEOUT: Duration = Duration::from_secs(6);

impl<S: Service> Engine<S> {
    /// Opens the ports, and nothing else.
    ///
    /// # Errors
    ///
    /// A port is taken, or a setting can't be used.
    pub async fn open(plan: Plan<S>, config: CommonConfig) -> Result<Self, RunError> {
        let grpc_listener = grpc::bind("GRPC_ADDR", config.grpc_address).await?;
        let ops_listener = grpc::bind("OPS_ADDR", config.ops_address).await?;
        let database = database(plan.name, &config.database)?;
        let metrics = Metrics::new();
        telemetry::register(&metrics);
        let kafka = KafkaConfig {
            brokers: config.kafka.brokers.clone(),
            prefix: config.kafka.topic_prefix.clone(),
            client_id: plan.name.to_owned(),
            metrics: KafkaMetrics::new(&metrics),
        };
        let pool = Pool::new(database.clone(), config.database.pool);
        pool.show(&metrics);
        let mut sampler = Sampler::new(database.clone(), config.sample_every, &metrics);
        sampler.add(OldestTransaction::new(&metrics));
        let writing = WriteContext {
            publishes: plan.topic,
            database,
            metrics: Arc::new(CommandMetrics::of::<S>(&metrics)),
            wake_relay: Arc::new(Notify::new()),
        };
        let lane_stop = CancellationToken::new();
        let limits = LaneConfig {
            queue: config.limits.write_queue,
            batch: config.limits.write_batch,
            pace: config.limits.write_pace,
            hearing: config.limits.hearing,
        };
        let (lane, task) = command::lane::<S>(LaneKind::CALLERS, limits, writing.clone(), lane_stop.clone());
        Ok(Self {
            plan,
            config,
            writing,
            kafka,
            pool,
            health: Health::starting(),
            metrics,
            sampler,
            lane,
            limits,
            lanes: vec![("the callers' lane", Box::pin(task))],
            lane_stop,
            finish: None,
            sources_stop: CancellationToken::new(),
            background: Vec::new(),
            grpc_listener,
            ops_listener,
        })
    }

    /// Where handlers give their commands.
    pub fn lane(&self) -> Lane<S> {
        self.lane.clone()
    }

    /// Where handlers read.
    pub fn pool(&self) -> Pool {
        self.pool.clone()
    }

    /// The registry, for metrics of the service's own.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Adds metrics that are read from this service's database.
    #[must_use]
    pub fn with_sample(mut self, sample: impl Sample) -> Self {
        self.sampler.add(sample);
        self
    }

    /// Adds the task that fires this service's timers.
    #[must_use]
    pub fn with_timers(mut self, name: &'static str) -> Self
    where
        S: Timed,
    {
        let timers = self.timers(name);
        self.background.push((name, Box::new(|stop| Box::pin(timers.run(stop)))));
        self
    }

    /// Adds the task that does this service's jobs, so many at once: those that a handler starts, and those that its timers say
    /// are due.
    #[must_use]
    pub fn with_jobs<W: Worker<S>>(mut self, name: &'static str, worker: W, at_once: usize) -> (Self, Runner<S, W>)
    where
        S: Jobs,
    {
        let (lane, task) =
            command::lane::<S>(LaneKind::JOBS, self.limits, self.writing.clone(), self.lane_stop.clone());
        self.lanes.push(("the jobs' lane", Box::pin(task)));
        let runner = Runner::new(worker, at_once, lane, JobMetrics::new(&self.metrics));
        let (timers, finished) = (self.timers(name).followed_by(runner.clone()), runner.clone());
        self.background.push((name, Box::new(|stop| Box::pin(timers.run(stop)))));
        self.finish = Some(Box::new(|within| Box::pin(async move { finished.finish(within).await })));
        (self, runner)
    }

    /// Lets callers watch what this service's topic tells: states, as `read` finds them in its messages.
    #[must_use]
    pub fn with_feed<T: Clone + Send + Sync + 'static>(mut self, read: feed::Read<T>) -> (Self, Feed<T>) {
        let LimitsConfig { watches, watches_per_user, .. } = self.config.limits;
        let feed = Feed::new(watches, watches_per_user, FeedMetrics::new(&self.metrics));
        let tail = Tail::new(self.kafka.clone(), self.plan.topic, read, feed.clone());
        self.background.push(("the feed", Box::new(|stop| Box::pin(tail.run(stop)))));
        (self, feed)
    }

    fn timers(&mut self, name: &'static str) -> Timers<S>
    where
        S: Timed,
    {
        let metrics = Arc::new(TimerMetrics::new(&self.metrics));
        self.sampler.add(OverdueSample::<S>::new(metrics.clone()));
        let batch = self.config.limits.consumer_batch;
        Timers::new(name, batch, self.writing.clone(), metrics, self.sources_stop.clone())
    }

    /// Runs until it is told to stop, and then ends in order: it is no longer served; calls, consumers and timers end;
    /// jobs under way come to their end; the write path drains; the relay flushes and gives its lease back; connections close.
    ///
    /// # Errors
    ///
    /// The descriptors can't be read, no HTTP client can be made, a server failed, or a part ended by itself.
    pub async fn run(mut self, routes: Routes, stop: CancellationToken) -> Result<(), RunError> {
        let verifier = Verifier::new(&self.config.auth, &self.health)?;
        let server = Server::new(
            self.plan.services,
            self.plan.descriptors,
            routes,
            verifier.clone(),
            self.health.clone(),
            &self.metrics,
        )?
        .drain(self.config.limits.shutdown_drain);
        let relay = self.relay();
        self.add_consumers();
        let mut parts = Parts::default();

        // From the first moment on somebody can ask how it is.
        let ops = ops::serve(self.ops_listener, self.health.clone(), self.metrics.clone(), parts.ops_stop.clone());
        parts.edges.spawn(async { Ok(ops.await?) });
        let serving = server.serve(self.grpc_listener, self.sources_stop.clone());
        parts.edges.spawn(async { Ok(serving.await?) });
        let keys_stop = self.sources_stop.clone();
        parts.sources.spawn(named("keys", async move { verifier.keep_keys(keys_stop).await }));
        for (name, lane) in self.lanes {
            parts.writing.spawn(named(name, lane));
        }

        if prepare(&self.plan, &self.config, &self.writing.database, &self.kafka, &self.health, &stop).await {
            parts.relaying.spawn(named("the relay", relay.run(parts.relay_stop.clone())));
            for (name, start) in self.background {
                parts.sources.spawn(named(name, start(self.sources_stop.clone())));
            }
            parts.sources.spawn(named("what metrics show", self.sampler.run(self.sources_stop.clone())));
            let partitions = outbox::keep_partitions(self.writing.database.clone(), self.sources_stop.clone());
            parts.sources.spawn(named("the outbox's partitions", partitions));
            let house = command::keep_house(self.writing.database.clone(), self.sources_stop.clone());
            parts.sources.spawn(named("housekeeping", house));
            let (health, probe, probe_stop) =
                (self.health.clone(), Probe::new(self.writing.database.clone()), self.sources_stop.clone());
            let probing = async move {
                probe_stop.run_until_cancelled(health.probe_database(|| probe.ping())).await;
            };
            parts.sources.spawn(named("the database's probe", probing));
            self.health.ready();
        }

        let ended = tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = parts.one_ended() => Err(ended),
        };
        if let Err(error) = &ended {
            tracing::error!(%error, "ending");
        }

        self.health.stopping();
        tokio::time::sleep(self.config.limits.shutdown_grace).await;
        self.sources_stop.cancel();
        // The operators' server, which is to be asked to the end, is the one edge that doesn't end by this.
        while parts.edges.len() > 1 {
            parts.edges.join_next().await;
        }
        ended_in_time("what gives work", &mut parts.sources).await;
        if let Some(finish) = self.finish {
            finish(self.config.limits.shutdown_drain).await;
        }
        self.lane_stop.cancel();
        ended_in_time("the write path", &mut parts.writing).await;
        parts.relay_stop.cancel();
        ended_in_time("the relay", &mut parts.relaying).await;
        self.pool.close();
        parts.ops_stop.cancel();
        while parts.edges.join_next().await.is_some() {}
        tracing::info!("ended");
        ended
    }

    /// What publishes the events of this service.
    fn relay(&mut self) -> Relay {
        let metrics = Arc::new(OutboxMetrics::new(&self.metrics));
        self.sampler.add(OutboxLag(metrics.clone()));
        let config = RelayConfig {
            service: self.plan.name,
            topic: self.plan.topic,
            new_topic: new_topic(&self.config),
            kafka: self.kafka.clone(),
            batch: self.config.limits.relay_batch,
            pace: self.config.limits.relay_pace,
        };
        Relay::new(config, self.writing.database.clone(), self.writing.wake_relay.clone(), metrics)
    }

    /// Adds the tasks that read others' topics, and the one that knows how far behind they are.
    fn add_consumers(&mut self) {
        let inbox = InboxMetrics::new(&self.metrics);
        let reads: Vec<_> = self.plan.subscriptions.iter().map(|read| (read.group, read.topic)).collect();
        let partitions = self.config.kafka.topic_partitions;
        let (lag, ends) = inbox::lag(&reads, partitions, &self.kafka, self.config.sample_every, &inbox);
        self.sampler.add(lag);
        self.background.push(("the topics' ends", Box::new(|stop| Box::pin(ends.run(stop)))));
        for subscription in self.plan.subscriptions {
            let consumer = Consumer::<S>::new(
                *subscription,
                ConsumerConfig {
                    batch: self.config.limits.consumer_batch,
                    pace: self.config.limits.consumer_pace,
                    session_timeout: SESSION_TIMEOUT,
                },
                self.kafka.clone(),
                self.writing.clone(),
                &inbox,
                self.sources_stop.clone(),
            );
            self.background.push((subscription.group, Box::new(|stop| Box::pin(consumer.run(stop)))));
        }
    }
}

/// How long parts that were told to end may take: longer than any does that gets answers, the relay's last flush included.
const ENDED_WITHIN: Duration = Duration::from_secs(8);

/// Waits for parts that were told to end. Those that a server which answers nothing holds up end in the midst of it, as they would
/// if the process were killed: nothing is lost by either.
async fn ended_in_time(what: &str, parts: &mut JoinSet<&'static str>) {
    let all = async { while parts.join_next().await.is_some() {} };
    if tokio::time::timeout(ENDED_WITHIN, all).await.is_err() {
        tracing::warn!(what, "ends in the midst of its work: a server has not answered for {ENDED_WITHIN:?}");
        parts.shutdown().await;
    }
}

/// The tasks of a service, by when they end.
#[derive(Default)]
struct Parts {
    /// The servers: the callers', which ends first, and the operators', which ends last.
    edges: JoinSet<Result<(), RunError>>,
    /// Whatever gives work to the write path, and what looks after things meanwhile.
    sources: JoinSet<&'static str>,
    /// The write path.
    writing: JoinSet<&'static str>,
    /// The relay, which publishes what the write path has written to the last.
    relaying: JoinSet<&'static str>,
    relay_stop: CancellationToken,
    ops_stop: CancellationToken,
}

impl Parts {
    /// The first that ends by itself: none should.
    async fn one_ended(&mut self) -> RunError {
        tokio::select! {
            Some(ended) = self.edges.join_next() => edge_ended(ended),
            Some(ended) = self.sources.join_next() => part_ended(ended),
            Some(ended) = self.writing.join_next() => part_ended(ended),
            Some(ended) = self.relaying.join_next() => part_ended(ended),
            // Never so: the servers are there.
            else => RunError::Part("every part".to_owned()),
        }
    }
}

/// Brings a service's database up to date, and nothing else.
///
/// # Errors
///
/// It can't be reached, a migration failed, another process has been migrating it for a minute, or the program was told to
/// stop before it was done: then nothing remains of the migration that it was at.
pub(crate) async fn migrate(
    name: &'static str,
    migrations: EmbeddedMigrations,
    config: &DatabaseConfig,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let database = database(name, config)?;
    match stop.run_until_cancelled(db::migrate(&database, migrations)).await {
        Some(migrated) => Ok(migrated?),
        None => Err(RunError::Interrupted),
    }
}

fn database(name: &'static str, config: &DatabaseConfig) -> Result<Database, RunError> {
    Database::new(config.url.expose(), name).map_err(|error| RunError::Setting(format!("DATABASE_URL: {error}")))
}

fn new_topic(config: &CommonConfig) -> TopicConfig {
    TopicConfig { partitions: config.kafka.topic_partitions, replication: config.kafka.topic_replication }
}

async fn named(name: &'static str, part: impl Future<Output = ()> + Send) -> &'static str {
    part.await;
    name
}

fn part_ended(ended: Result<&'static str, tokio::task::JoinError>) -> RunError {
    RunError::Part(ended.map_or_else(|error| error.to_string(), ToOwned::to_owned))
}

fn edge_ended(ended: Result<Result<(), RunError>, tokio::task::JoinError>) -> RunError {
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(())) => RunError::Part("a server".to_owned()),
        Err(error) => RunError::Part(error.to_string()),
    }
}

/// Waits for all that has to be there before anything is served, in whatever order it comes: the database and its
/// tables, the broker and the topic. False if it is told to stop before that.
async fn prepare<S: Service>(
    plan: &Plan<S>,
    config: &CommonConfig,
    database: &Database,
    kafka: &KafkaConfig,
    health: &Health,
    stop: &CancellationToken,
) -> bool {
    let tables = async || {
        if config.database.migrate_on_start {
            db::migrate(database, (plan.migrations)()).await.map_err(|error| error.to_string())?;
        }
        outbox::ensure_partitions(database).await.map_err(|error| error.to_string())
    };
    let topic = async || {
        let made = ensure_topic(kafka, plan.topic, new_topic(config)).await;
        made.map(|_| ()).map_err(|error| error.to_string())
    };
    wait_for("database", tables, health, stop).await && wait_for("Kafka", topic, health, stop).await
}

async fn wait_for(
    part: &'static str,
    mut reach: impl AsyncFnMut() -> Result<(), String>,
    health: &Health,
    stop: &CancellationToken,
) -> bool {
    let mut backoff = Backoff::new();
    let spell = Spell::new();
    while !stop.is_cancelled() {
        // Cut short by the end: all of it may be begun again.
        match stop.run_until_cancelled(reach()).await.unwrap_or(Ok(())) {
            Ok(()) if stop.is_cancelled() => {}
            Ok(()) => {
                tracing::info!(part, "is there");
                health.release(part);
                return true;
            }
            Err(error) => {
                if let Some(left_out) = spell.happens(Instant::now()) {
                    tracing::warn!(part, error, left_out, "waiting");
                }
                health.hold(part, error);
                backoff.wait(stop).await;
            }
        }
    }
    false
}

/// Asks the database whether it is there, over a connection that is kept.
struct Probe {
    database: Database,
    conn: Mutex<Option<Conn>>,
}

struct Ping;
impl Fixed for Ping {
    const SQL: &'static str = "SELECT 1 AS one";
}

#[derive(diesel::QueryableByName)]
struct One {
    #[diesel(sql_type = Integer)]
    #[allow(dead_code, reason = "that it is there is all that counts")]
    one: i32,
}

impl Probe {
    fn new(database: Database) -> Self {
        Self { database, conn: Mutex::new(None) }
    }

    async fn ping(&self) -> bool {
        let mut held = self.conn.lock().await;
        // Taken, so that a ping that is cut short leaves no connection that is still waiting for its answer.
        let conn = match held.take() {
            Some(conn) => conn,
            None => match self.database.connect().await {
                Ok(conn) => conn,
                Err(_) => return false,
            },
        };
        let answered = Prepared::<Ping, _>::with(|sql| sql).get_result::<One>(&mut &*conn).await.is_ok();
        *held = answered.then_some(conn);
        answered
    }
}
