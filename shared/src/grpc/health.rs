//! Whether this process should be sent work, and if not, why.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

/// How long the database may be out of reach before that is an outage of ours.
const DATABASE_PATIENCE: Duration = Duration::from_secs(5);
/// How often the database is asked, and how long it may take to answer.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The state of one process, as health checks and `/readyz` tell it. Cheap to clone: all clones are one.
///
/// It serves once it was ready, and then unless its database is out of reach for over 5 s, or a part of it holds it
/// back, until it stops.
#[derive(Clone, Debug)]
pub struct Health(Arc<watch::Sender<State>>);

/// Whether a process serves, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Why it doesn't; empty if it does.
    pub reasons: Vec<String>,
}

#[derive(Clone, Debug)]
struct State {
    phase: Phase,
    /// When the database answered last.
    database_seen: Instant,
    database_lost: bool,
    /// By part.
    holds: BTreeMap<&'static str, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Ready,
    Stopping,
}

impl Readiness {
    /// Whether it should be sent work.
    pub fn is_serving(&self) -> bool {
        self.reasons.is_empty()
    }
}

impl Health {
    /// Of a process that has just begun: not serving yet.
    pub fn starting() -> Self {
        let holds = BTreeMap::new();
        let state = State { phase: Phase::Starting, database_seen: Instant::now(), database_lost: false, holds };
        Self(Arc::new(watch::Sender::new(state)))
    }

    /// All that was needed is there. Does nothing once it stops.
    pub fn ready(&self) {
        let now = Instant::now();
        self.change(|state| {
            if state.phase == Phase::Starting {
                state.phase = Phase::Ready;
                // Part of what was needed: its patience begins here.
                (state.database_seen, state.database_lost) = (now, false);
            }
        });
    }

    /// It serves no longer, and never will again.
    pub fn stopping(&self) {
        self.change(|state| state.phase = Phase::Stopping);
    }

    /// What asking the database has shown just now. Out of reach counts after 5 s without an answer.
    pub fn database(&self, reachable: bool) {
        let now = Instant::now();
        self.change(|state| {
            if reachable {
                state.database_seen = now;
            }
            state.database_lost = now.duration_since(state.database_seen) > DATABASE_PATIENCE;
        });
    }

    /// A part of the process can't work, and so the whole should not be sent any, until [`Health::release`].
    pub fn hold(&self, part: &'static str, reason: impl Into<String>) {
        let reason = reason.into();
        self.change(|state| {
            state.holds.insert(part, reason);
        });
    }

    /// The part works (again).
    pub fn release(&self, part: &'static str) {
        self.change(|state| {
            state.holds.remove(part);
        });
    }

    /// How it is now.
    pub fn readiness(&self) -> Readiness {
        self.0.borrow().readiness()
    }

    /// Waits until it serves, or doesn't.
    pub async fn wait_for(&self, serving: bool) {
        // The sender is in `self`, so it can't be gone.
        let _ = self.0.subscribe().wait_for(|state| state.readiness().is_serving() == serving).await;
    }

    /// Asks the database every second, by `ping`, until it is told to stop. An answer may take a second.
    pub async fn probe_database<P>(&self, mut ping: impl FnMut() -> P)
    where
        P: Future<Output = bool>,
    {
        let mut ticks = tokio::time::interval(PROBE_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let reachable = tokio::time::timeout(PROBE_INTERVAL, ping()).await.unwrap_or(false);
            self.database(reachable);
        }
    }

    /// Tells of every change: whether it serves, and whether it is stopping for good.
    pub(super) fn changes(&self) -> HealthChanges {
        HealthChanges(self.0.subscribe())
    }

    /// Changes the state, and wakes whoever waits for that only if there is something to see.
    fn change(&self, change: impl FnOnce(&mut State)) {
        self.0.send_if_modified(|state| {
            let before = state.readiness();
            change(state);
            let after = state.readiness();
            if after == before {
                return false;
            }
            let reasons = after.reasons.join("; ");
            match state.phase {
                Phase::Ready if after.is_serving() => tracing::info!("serving"),
                Phase::Ready => tracing::warn!(reasons, "not serving"),
                // As it should be.
                Phase::Starting | Phase::Stopping => tracing::debug!(reasons, "not serving"),
            }
            true
        });
    }
}

impl State {
    fn readiness(&self) -> Readiness {
        let phase = match self.phase {
            Phase::Starting => Some("starting".to_owned()),
            Phase::Ready => None,
            Phase::Stopping => Some("stopping".to_owned()),
        };
        let database = self.database_lost.then(|| "the database is out of reach".to_owned());
        let holds = self.holds.iter().map(|(part, reason)| format!("{part}: {reason}"));
        Readiness { reasons: phase.into_iter().chain(database).chain(holds).collect() }
    }
}

/// A view of a process's state that can be waited on.
#[derive(Clone, Debug)]
pub(super) struct HealthChanges(watch::Receiver<State>);

impl HealthChanges {
    /// Whether it serves now.
    pub(super) fn is_serving(&mut self) -> bool {
        self.0.borrow_and_update().readiness().is_serving()
    }

    /// Waits for the next change; `false` if there will be none.
    pub(super) async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(health: &Health) -> String {
        health.readiness().reasons.join("; ")
    }

    #[test]
    fn it_serves_from_when_it_is_ready_until_it_stops() {
        let health = Health::starting();
        assert_eq!(reasons(&health), "starting");
        health.ready();
        assert!(health.readiness().is_serving());
        health.stopping();
        assert_eq!(reasons(&health), "stopping");
        health.ready();
        assert_eq!(reasons(&health), "stopping", "for good");
    }

    #[test]
    fn a_part_that_holds_it_back_gives_the_reason_until_it_lets_go() {
        let health = Health::starting();
        health.ready();
        health.hold("outbox", "another database");
        health.hold("auth", "no keys");
        assert_eq!(reasons(&health), "auth: no keys; outbox: another database");
        health.release("auth");
        health.release("outbox");
        assert!(health.readiness().is_serving());
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_out_of_reach_counts_after_five_seconds_and_until_it_answers() {
        let health = Health::starting();
        health.ready();
        health.database(true);
        for (seconds, serving) in [(1, true), (4, true), (5, true), (6, false), (60, false)] {
            let since = Instant::now();
            tokio::time::advance(Duration::from_secs(seconds)).await;
            health.database(false);
            assert_eq!(health.readiness().is_serving(), serving, "after {:?}", since.elapsed());
            health.database(true);
            assert!(health.readiness().is_serving());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_start_costs_the_database_none_of_its_patience() {
        let health = Health::starting();
        tokio::time::advance(Duration::from_secs(600)).await;
        health.database(false);
        health.ready();
        health.database(false);
        assert!(health.readiness().is_serving());
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_never_answers_is_out_of_reach_too() {
        let health = Health::starting();
        health.ready();
        let prober = health.clone();
        let probing = prober.probe_database(std::future::pending::<bool>);
        let began = Instant::now();
        tokio::select! {
            () = probing => unreachable!("it asks until it is dropped"),
            () = health.wait_for(false) => {}
        }
        let noticed = began.elapsed();
        assert!(noticed > Duration::from_secs(5) && noticed < Duration::from_secs(8), "{noticed:?}");
    }
}
