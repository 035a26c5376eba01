//! Durable timers: what is due is claimed in batches, by any number of replicas, and each fires once.
//!
//! A timer is a row of a service's own root table with a time in it. Claiming locks the rows and skips what another
//! replica has claimed (`FOR UPDATE SKIP LOCKED`), in the very transaction that does what they are about, so that a
//! timer has fired exactly when its effects are committed. A service's timers are told due by one clock, its
//! database's or its processes'.

use std::{
    future::Future,
    marker::PhantomData,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Double},
};
use diesel_async::AsyncPgConnection;
use futures_util::{FutureExt as _, future::BoxFuture};
use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    clock::{self, Timestamp},
    command::{Domain, Looked, Service, Store, WriteContext, Writer},
    ops::{Metrics, Sample},
    telemetry::{Span, TraceContext},
};

/// A service with timers.
pub trait Timed: Service {
    /// Locks up to `limit` of the timers that have been due for less than `back` seconds, the longest due first, skipping
    /// those that are locked, and loads what they are about. `None` if there are none.
    fn claim_due(
        conn: &AsyncPgConnection,
        limit: i64,
        back: f64,
    ) -> impl Future<Output = QueryResult<Option<ClaimedDue<Self>>>> + Send;

    /// How many timers are due, locked or not, counted up to `limit`, and for how long the one has
    /// been that has waited longest.
    fn overdue(conn: &AsyncPgConnection, limit: i64) -> impl Future<Output = QueryResult<Overdue>> + Send;
}

/// Timers whose time has come, and that have not fired.
#[derive(Clone, Copy, Debug, QueryableByName)]
pub struct Overdue {
    /// How many.
    #[diesel(sql_type = BigInt)]
    pub due: i64,
    /// For how many seconds the one that has waited longest has been due, by the service's clock for timers; 0 if there is none.
    #[diesel(sql_type = Double)]
    pub late: f64,
}

/// A timer that is due.
#[derive(Debug)]
pub struct Due<C> {
    /// What to do now. Should its batch not go through, another replica may do it as well: then it must find that there is
    /// nothing left to do, or do no harm.
    pub command: C,
    /// When it became due.
    pub at: Timestamp,
    /// The span that set it.
    pub trace: Option<TraceContext>,
}

/// Timers that are due and locked, at least one, and all that they are about.
pub struct ClaimedDue<S: Store> {
    /// The timers.
    pub due: Vec<Due<S::Command>>,
    /// The working set of their commands; an error if one of its rows can't be read, which is to stop no other.
    pub loaded: QueryResult<S::Loaded>,
}

/// What timers tell of themselves.
pub struct TimerMetrics {
    fired: Counter,
    lateness: Histogram,
    due: Gauge,
    late: Gauge<f64, AtomicU64>,
}

impl TimerMetrics {
    /// Registers every metric.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            fired: metrics.counter("timers_fired", "Timers whose effects are committed"),
            lateness: metrics.histogram(
                "timers_lateness_seconds",
                "From the time a timer was due to its commit",
                [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0],
            ),
            due: metrics
                .gauge("timers_due", "Timers whose time has come and that have not fired; counted up to 10,000"),
            late: metrics.register(
                "timers_late_seconds",
                "For how long the timer has been due that has waited longest",
                Gauge::default(),
            ),
        }
    }

    /// Timers fired just now.
    pub(crate) fn fired(&self, due: impl Iterator<Item = Timestamp>) {
        let now = clock::now();
        for at in due {
            self.fired.inc();
            self.lateness.observe((now - at).to_std().unwrap_or(Duration::ZERO).as_secs_f64());
        }
    }
}

/// Shows what is due and has not fired.
pub(crate) struct OverdueSample<S> {
    metrics: Arc<TimerMetrics>,
    service: PhantomData<fn() -> S>,
}

impl<S> OverdueSample<S> {
    pub(crate) fn new(metrics: Arc<TimerMetrics>) -> Self {
        Self { metrics, service: PhantomData }
    }
}

/// More than this are not counted: it is bad enough, and counting costs.
const COUNTED: i64 = 10_000;

impl<S: Timed> Sample for OverdueSample<S> {
    fn take<'a>(&'a self, conn: &'a AsyncPgConnection) -> BoxFuture<'a, QueryResult<()>> {
        async {
            let Overdue { due, late } = S::overdue(conn, COUNTED).await?;
            self.metrics.due.set(due);
            self.metrics.late.set(late);
            Ok(())
        }
        .boxed()
    }
}

/// How often is looked for what is due, at rest. Each look is a transaction that comes to nothing, and one probe of an index.
const POLL: Duration = Duration::from_millis(100);
/// How soon after some have fired, for more are likely to follow.
const SOON: Duration = Duration::from_millis(50);

/// How far back most looks go, in seconds, behind the beginning of the look before.
const RECENT: f64 = 2.0;
/// How far back a whole look goes: a hundred years, in seconds.
const EVER: f64 = 100.0 * 365.0 * 86_400.0;
/// How long after a whole look the next one comes: this many times as long as it took, within these bounds.
const REST: u32 = 20;
const RESTS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// How far back looks go. While a transaction stays open anywhere in the cluster, timers that have fired stay in the
/// index, dead, and a look walks over every one: so only some looks are whole. The others find what has become due since
/// the look before, and what was locked then; a whole one finds what has been locked for longer, or was too much.
struct Looks {
    whole_at: Instant,
    /// When the last one began that went well.
    last: Instant,
}

impl Looks {
    fn new() -> Self {
        let now = Instant::now();
        Self { whole_at: now, last: now }
    }

    /// How far back the next look goes, in seconds.
    fn back(&self) -> f64 {
        if Instant::now() >= self.whole_at { EVER } else { RECENT + self.last.elapsed().as_secs_f64() }
    }

    /// A look went well that began then, went as far back as that, and found as much as it may, or not.
    fn looked(&mut self, begun: Instant, back: f64, full: bool) {
        self.last = begun;
        let now = Instant::now();
        if full {
            self.whole_at = now;
        } else if back >= EVER {
            self.whole_at = now + ((now - begun) * REST).clamp(RESTS.0, RESTS.1);
        }
    }
}

/// What is to follow when a timer has fired.
pub(crate) trait Following<S: Domain>: Send + Sync {
    /// How many may fire now, at least one: waits for that.
    fn room(&self) -> BoxFuture<'_, usize>;

    /// One has fired: its command, and the state that led to.
    fn fired(&self, command: &S::Command, state: &S::State, span: &Span);
}

/// The task that fires a service's timers.
pub struct Timers<S: Service> {
    writer: Writer<S>,
    /// Helps out while more is due than a batch: one of the two decides while the other's statements are worked on.
    second: Writer<S>,
    batch: usize,
    metrics: Arc<TimerMetrics>,
    following: Option<Box<dyn Following<S>>>,
}

impl<S: Timed> Timers<S> {
    /// `name` is what the timers are called in traces and logs, `batch` how many fire in one transaction.
    pub fn new(
        name: &'static str,
        batch: usize,
        context: WriteContext,
        metrics: Arc<TimerMetrics>,
        stop: CancellationToken,
    ) -> Self {
        let writer = || Writer::new(name, context.clone(), stop.clone());
        Self { writer: writer(), second: writer(), batch: batch.max(1), metrics, following: None }
    }

    /// Something follows when one has fired: no more fire than there is room for.
    pub(crate) fn followed_by(self, following: impl Following<S> + 'static) -> Self {
        Self { following: Some(Box::new(following)), ..self }
    }

    /// Fires what is due until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let Self { writer, second, batch, metrics, following } = self;
        let more = Notify::new();
        tokio::join!(
            look(writer, batch, &metrics, following.as_deref(), &more, &stop),
            help(second, batch, &metrics, &more, &stop)
        );
    }
}

/// Fires what is due, again and again, and tells whoever helps when there may be more than it can do at once. Nobody
/// helps with what something follows: for that there is only so much room.
async fn look<S: Timed>(
    mut writer: Writer<S>,
    batch: usize,
    metrics: &TimerMetrics,
    following: Option<&dyn Following<S>>,
    more: &Notify,
    stop: &CancellationToken,
) {
    let (mut backoff, mut looks) = (Backoff::new(), Looks::new());
    while !stop.is_cancelled() {
        let most = match following {
            Some(following) => match stop.run_until_cancelled(following.room()).await {
                Some(room) => room.min(batch),
                None => return,
            },
            None => batch,
        };
        let (begun, back) = (Instant::now(), looks.back());
        match writer.execute_due(most, back, metrics, following).await {
            Ok(Looked { found, fired }) => {
                backoff = Backoff::new();
                // As many as could be: there may be more. Unless all that is found can't be fired, again and again.
                let full = found >= most && fired > 0;
                looks.looked(begun, back, full);
                if full {
                    if following.is_none() {
                        more.notify_one();
                    }
                    continue;
                }
                let wait = if fired > 0 { SOON } else { POLL };
                let _ = tokio::time::timeout(wait, stop.cancelled()).await;
            }
            Err(()) => backoff.wait(stop).await,
        }
    }
}

/// Fires what is due while there is more than a batch of it.
async fn help<S: Timed>(
    mut writer: Writer<S>,
    batch: usize,
    metrics: &TimerMetrics,
    more: &Notify,
    stop: &CancellationToken,
) {
    let mut backoff = Backoff::new();
    while stop.run_until_cancelled(more.notified()).await.is_some() {
        match writer.execute_due(batch, EVER, metrics, None).await {
            Ok(Looked { found, fired }) => {
                backoff = Backoff::new();
                if found >= batch && fired > 0 {
                    more.notify_one();
                }
            }
            Err(()) => backoff.wait(stop).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_look_goes_all_the_way_back_at_first_while_there_is_more_and_now_and_then() {
        const MS: Duration = Duration::from_millis(1);
        let mut looks = Looks::new();
        // How long after the look before; how far back this one goes, unless it is whole; whether it is full; and how
        // long it takes.
        for (step, (after, back, full, took)) in [
            (0, None, true, 5),
            (0, None, false, 5),
            (100, Some(2.105), false, 1),
            (898, Some(2.899), true, 1),
            (0, None, false, 200),
            (3999, Some(6.199), false, 1),
            (1, None, false, 60_000),
            (9999, Some(71.999), false, 1),
            (1, None, false, 1),
        ]
        .into_iter()
        .enumerate()
        {
            tokio::time::advance(MS * after).await;
            let (begun, goes) = (Instant::now(), looks.back());
            assert!((goes - back.unwrap_or(EVER)).abs() < 1e-6, "look {step} goes back {goes} s");
            tokio::time::advance(MS * took).await;
            looks.looked(begun, goes, full);
        }
    }
}
