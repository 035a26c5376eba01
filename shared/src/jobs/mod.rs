//! Jobs: calls of other systems, which are slow and may fail, and so are never made within a transaction.
//!
//! A job is three steps. A transaction records that it is to be done, and when it is due again should nobody come back
//! (a lease, as a durable timer's row). Somebody does it, outside of any transaction. Another transaction records what
//! came of it. Whatever is killed in between, the timer has it done again: so a job has to be harmless to repeat, which
//! other systems offer by idempotency keys.
//!
//! Comes in: a job, from a handler that has just recorded it or from the timers. Goes out: a command, through a lane of
//! the background. Decides nothing, and knows no other system: a service's [`Worker`] does.

mod metrics;

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use metrics::JobMetrics;

use crate::{
    command::{Done, Envelope, Failure, Lane},
    telemetry::{Span, TraceContext},
    timers::{Following, Timed},
};

/// A service that has jobs done.
pub trait Jobs: Timed {
    /// What is to be done, with all that doing it needs.
    type Job: Send + 'static;

    /// The job that a command asks for, by the state that it led to; `None` if there is nothing to do any more.
    fn job(state: &Self::State, command: &Self::Command) -> Option<Self::Job>;
}

/// Who does a service's jobs.
pub trait Worker<S: Jobs>: Send + Sync + 'static {
    /// Does a job, within bounded time, and says what came of it: that nothing is known is an outcome, too. May be
    /// dropped at any time: the job is then done again.
    fn work(&self, job: S::Job, trace: &TraceContext) -> impl Future<Output = S::Command> + Send;
}

/// Has jobs done, a bounded number at once. Cheap to clone.
pub struct Runner<S: Jobs, W>(Arc<Inner<S, W>>);

impl<S: Jobs, W> Clone for Runner<S, W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Inner<S: Jobs, W> {
    worker: W,
    lane: Lane<S>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Drops what has not come to an end.
    abandoned: CancellationToken,
    metrics: JobMetrics,
}

/// The right to have one job done.
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

impl<S: Jobs, W: Worker<S>> Runner<S, W> {
    pub(crate) fn new(worker: W, at_once: usize, lane: Lane<S>, metrics: JobMetrics) -> Self {
        Self(Arc::new(Inner {
            worker,
            lane,
            places: Arc::new(Semaphore::new(at_once.clamp(1, Semaphore::MAX_PERMITS))),
            tasks: TaskTracker::new(),
            abandoned: CancellationToken::new(),
            metrics,
        }))
    }

    /// Runs `work` to its end, though whoever awaits it hangs up: for the short way from recording a command to starting the job
    /// that it asks for, which otherwise would wait for its timer. It runs in the caller's span, which `context` is of; its panic is
    /// raised where it is awaited. `None`: the program ends.
    pub async fn see_through<T: Send + 'static>(
        &self,
        context: &TraceContext,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (abandoned, work) = (self.0.abandoned.clone(), Span::current(context).run(work));
        match self.0.tasks.spawn(async move { abandoned.run_until_cancelled(work).await }).await {
            Ok(done) => done,
            Err(failed) => failed.try_into_panic().map_or(None, |panic| std::panic::resume_unwind(panic)),
        }
    }

    /// Waits for the right to have one more job done.
    pub async fn place(&self) -> Place {
        match self.0.places.clone().acquire_owned().await {
            Ok(permit) => Place { _permit: permit },
            // Never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// Has a job done, in a task of its own that ends well whoever is still waiting; what it told is the state after
    /// its outcome was recorded. Nothing is told if it can't be recorded now: the job is then done again.
    pub fn start(&self, job: S::Job, trace: TraceContext, place: Place) -> oneshot::Receiver<S::State> {
        let (tell, told) = oneshot::channel();
        let inner = self.0.clone();
        let span = Span::job(&trace);
        self.0.tasks.spawn(async move {
            let abandoned = inner.abandoned.clone();
            let work = async {
                let _under_way = inner.metrics.under_way();
                let command = inner.worker.work(job, span.context()).await;
                // What comes of it must not wait for other jobs.
                drop(place);
                inner.record(command, span.context().clone()).await
            };
            if let Some(Some(state)) = abandoned.run_until_cancelled(span.run(work)).await {
                // Whoever waited may have gone.
                let _ = tell.send(state);
            }
        });
        told
    }

    /// Lets the jobs under way come to an end, for so long at most; the rest is done again by whoever is next.
    pub(crate) async fn finish(&self, within: Duration) {
        self.0.tasks.close();
        if tokio::time::timeout(within, self.0.tasks.wait()).await.is_err() {
            tracing::warn!(jobs = self.0.tasks.len(), "jobs that have not ended are left to be done again");
            self.0.abandoned.cancel();
            self.0.tasks.wait().await;
        }
    }
}

impl<S: Jobs, W: Worker<S>> Following<S> for Runner<S, W> {
    fn room(&self) -> BoxFuture<'_, usize> {
        Box::pin(async {
            drop(self.place().await);
            self.0.places.available_permits().max(1)
        })
    }

    /// Has the job done that the command asked for. Should handlers have taken the room meanwhile, it waits for some.
    fn fired(&self, command: &S::Command, state: &S::State, span: &Span) {
        if let Some(job) = S::job(state, command) {
            let (runner, trace) = (self.clone(), span.context().clone());
            self.0.tasks.spawn(async move {
                let abandoned = runner.0.abandoned.clone();
                if let Some(place) = abandoned.run_until_cancelled(runner.place()).await {
                    drop(runner.start(job, trace, place));
                }
            });
        }
    }
}

impl<S: Jobs, W> Inner<S, W> {
    async fn record(&self, command: S::Command, trace: TraceContext) -> Option<S::State> {
        let root = S::root(&command);
        match self.lane.give(Envelope::new(command, trace)).await {
            Ok(Done::Now(state)) => Some(state),
            // Only callers' commands have request ids.
            Ok(Done::Before(_)) => None,
            Err(failure) => {
                // A bug, if it is refused; else the program ends, or the database is away.
                match failure {
                    Failure::Refused(refusal) => tracing::error!(%root, ?refusal, "what came of a job is refused"),
                    failure => tracing::warn!(%root, ?failure, "what came of a job was not recorded: it is done again"),
                }
                self.metrics.unrecorded();
                None
            }
        }
    }
}
