//! What a round takes: each measurement gives one or more figures, on a system of its own. In: a rig, and what is known from
//! before. Out: figures, and what a report says of them.

mod backlogs;
mod catch_up;
mod grown;
mod idle;
mod orders;
pub(crate) mod otlp;
mod sagas;
mod timers;

pub(crate) use backlogs::TRACEPARENT;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use crate::{
    load,
    rig::Rig,
    table::Quantity as Q,
    yardstick::{floor::Floor, parts::Parts, pgbench, producer},
};

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measurement {
    /// Sagas, untraced, one replica, empty databases.
    Sagas,
    /// With all traced.
    SagasTraced,
    /// Beside a transaction that stays open.
    SagasBesideTransaction,
    /// In databases that have grown.
    SagasGrown,
    /// With two replicas.
    SagasTwo,
    /// With four.
    SagasFour,
    /// Postgres with a saga's statements, one by one.
    SagasOneByOne,
    /// By hundreds.
    SagasBatched,
    /// What a saga's parts take alone.
    SagasOfParts,
    /// Orders until stock is held, spread over tickets; and what one takes at a tenth of that.
    Orders,
    /// All of one ticket.
    OrdersHot,
    /// The least that an order waits for.
    Floor,
    /// Single rows.
    SingleRows,
    /// Through the gateway and past it.
    Gateway,
    /// An idle system.
    Idle,
    /// A bare commit.
    IdleCommit,
    /// Outbox to Kafka, and Kafka to a database.
    Backlogs,
    /// The broker's own producer.
    Produced,
    /// A database's own batches.
    ConsumedBatched,
    /// Timers, all at once and by the second.
    Timers,
    /// A database's own claims.
    TimersClaimed,
    /// A service that was stopped.
    CatchUp,
}

/// All, in the order in which a round takes them: what is compared lies close together.
pub(crate) const ALL: [Measurement; 22] = {
    use Measurement as M;
    [
        M::SagasOneByOne,
        M::Sagas,
        M::SagasBatched,
        M::SagasOfParts,
        M::SagasTraced,
        M::SagasBesideTransaction,
        M::SagasTwo,
        M::SagasFour,
        M::SagasGrown,
        M::Floor,
        M::Orders,
        M::OrdersHot,
        M::SingleRows,
        M::Gateway,
        M::CatchUp,
        M::IdleCommit,
        M::Idle,
        M::Produced,
        M::Backlogs,
        M::ConsumedBatched,
        M::TimersClaimed,
        M::Timers,
    ]
};

/// What a measurement gave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taken {
    /// Its figures.
    pub figures: BTreeMap<Q, f64>,
    /// What a reader may want to know of them, a line each.
    pub told: Vec<String>,
    /// Milliseconds of CPU an order, by process.
    pub cpu: BTreeMap<String, f64>,
}

impl Taken {
    fn figure(mut self, quantity: Q, value: f64) -> Self {
        self.figures.insert(quantity, value);
        self
    }

    fn tell(mut self, line: impl std::fmt::Display) -> Self {
        self.told.push(line.to_string());
        self
    }
}

/// What the rounds before have found, for searches to begin at.
#[derive(Debug, Default)]
pub(crate) struct Known(BTreeMap<Q, f64>);

impl Known {
    /// Remembers what was found.
    pub(crate) fn learn(&mut self, taken: &Taken) {
        self.0.extend(taken.figures.iter().map(|(quantity, value)| (*quantity, *value)));
    }

    /// The latest.
    fn of(&self, quantity: Q) -> Option<f64> {
        self.0.get(&quantity).copied()
    }

    /// The latest of the first of these that is known.
    fn guess(&self, of: &[Q], otherwise: f64) -> f64 {
        of.iter().find_map(|quantity| self.of(*quantity)).unwrap_or(otherwise)
    }
}

/// Where searches begin that know nothing: what two cores of our own did.
const SAGAS: f64 = 1500.0;
const ORDERS: f64 = 5000.0;

impl Measurement {
    /// What it gives.
    pub(crate) fn gives(self) -> &'static [Q] {
        match self {
            Self::Sagas => {
                &[Q::Sagas, Q::MemoryIdle, Q::MemoryBusy, Q::CpuSaga, Q::WalSaga, Q::SyncsSaga, Q::RequestsSaga]
            }
            Self::SagasTraced => &[Q::SagasTraced],
            Self::SagasBesideTransaction => &[Q::SagasBesideTransaction],
            Self::SagasGrown => &[Q::SagasGrown],
            Self::SagasTwo => &[Q::SagasTwo],
            Self::SagasFour => &[Q::SagasFour],
            Self::SagasOneByOne => &[Q::SagasOneByOne, Q::CpuOneByOne, Q::WalOneByOne, Q::SyncsOneByOne],
            Self::SagasBatched => &[Q::SagasBatched],
            Self::SagasOfParts => &[Q::SagasOfParts, Q::ConsumedOfParts, Q::SagasOfSpans],
            Self::Orders => &[
                Q::OrdersSpread,
                Q::HeldP50,
                Q::HeldP99,
                Q::HeldBesideP50,
                Q::FloorBesideP50,
                Q::HeldBesideP99,
                Q::FloorBesideP99,
            ],
            Self::OrdersHot => &[Q::OrdersHot],
            Self::Floor => &[Q::FloorP50, Q::FloorP99],
            Self::SingleRows => &[Q::SingleRows],
            Self::Gateway => &[Q::CreateGateway, Q::CreateDirect, Q::OrdersGateway],
            Self::Idle => &[Q::CreateIdle, Q::CreateOfParts],
            Self::IdleCommit => &[Q::CommitIdle],
            Self::Backlogs => &[Q::Relayed, Q::Consumed],
            Self::Produced => &[Q::Produced, Q::ProducedLarge],
            Self::ConsumedBatched => &[Q::ConsumedBatched],
            Self::Timers => &[Q::TimersFired, Q::TimersLate],
            Self::TimersClaimed => &[Q::TimersClaimed],
            Self::CatchUp => &[Q::CaughtUp, Q::Arriving],
        }
    }

    /// Those that give any of these figures, and those whose figures they need.
    pub(crate) fn that_give(wanted: &BTreeSet<Q>) -> Vec<Self> {
        let needed = |measurement: &Self| measurement.gives().iter().any(|gives| wanted.contains(gives));
        let mut plan: Vec<_> = ALL.into_iter().filter(needed).collect();
        for (one, needs) in
            [(Self::CatchUp, Self::Orders), (Self::SagasOfParts, Self::Sagas), (Self::SagasOfParts, Self::SagasBatched)]
        {
            if plan.contains(&one) && !plan.contains(&needs) {
                plan.insert(0, needs);
            }
        }
        plan
    }

    /// Takes it.
    ///
    /// # Errors
    ///
    /// A system or a yardstick failed, or an audit: then there is no figure.
    pub(crate) async fn take(self, rig: &Rig, known: &Known) -> Result<Taken> {
        let sagas = |own: Q| known.guess(&[own, Q::Sagas], SAGAS);
        let orders = |own: Q| known.guess(&[own, Q::OrdersSpread], ORDERS);
        let taken = match self {
            Self::Sagas => sagas::plain(rig, sagas(Q::Sagas)).await,
            Self::SagasTraced => sagas::traced(rig, sagas(Q::SagasTraced)).await,
            Self::SagasBesideTransaction => sagas::beside_transaction(rig, sagas(Q::SagasBesideTransaction)).await,
            Self::SagasGrown => grown::sagas(rig, sagas(Q::SagasGrown)).await,
            Self::SagasTwo => sagas::replicated(rig, Q::SagasTwo, 2, sagas(Q::SagasTwo)).await,
            Self::SagasFour => sagas::replicated(rig, Q::SagasFour, 4, sagas(Q::SagasFour)).await,
            Self::SagasOneByOne => pgbench::sagas(rig).await.map(|ran| {
                Taken::default()
                    .figure(Q::SagasOneByOne, ran.rate)
                    .figure(Q::CpuOneByOne, ran.cost.cpu_together())
                    .figure(Q::WalOneByOne, ran.cost.wal)
                    .figure(Q::SyncsOneByOne, ran.cost.syncs)
                    .tell(ran.command)
            }),
            Self::SagasBatched => by_pgbench(Q::SagasBatched, pgbench::sagas_batched(rig).await),
            Self::SagasOfParts => parts(rig, known).await,
            Self::SingleRows => by_pgbench(Q::SingleRows, pgbench::single_rows(rig).await),
            Self::ConsumedBatched => by_pgbench(Q::ConsumedBatched, pgbench::consume_batched(rig).await),
            Self::TimersClaimed => by_pgbench(Q::TimersClaimed, pgbench::claim_batched(rig, rig.scale.due).await),
            Self::Orders => orders::spread(rig, orders(Q::OrdersSpread)).await,
            Self::OrdersHot => orders::hot(rig, orders(Q::OrdersHot)).await,
            Self::Gateway => orders::through_gateway(rig, orders(Q::OrdersGateway)).await,
            Self::CatchUp => catch_up::orders(rig, orders(Q::OrdersSpread) / 10.0).await,
            Self::Floor => floor(rig).await,
            Self::Idle => idle::create(rig).await,
            Self::IdleCommit => idle::commit(rig).await,
            Self::Backlogs => backlogs::both(rig).await,
            Self::Produced => produced(rig).await,
            Self::Timers => timers::both(rig).await,
        };
        taken.with_context(|| format!("{self:?}"))
    }
}

fn by_pgbench(quantity: Q, ran: Result<pgbench::Ran>) -> Result<Taken> {
    ran.map(|ran| Taken::default().figure(quantity, ran.rate).tell(ran.command))
}

async fn parts(rig: &Rig, known: &Known) -> Result<Taken> {
    let rows = 1000.0 / known.of(Q::SagasBatched).context("what the rows take is not known")?;
    let untraced = 1000.0 / known.of(Q::Sagas).context("what a saga takes is not known")?;
    let parts = Parts::take(rig, PARTS * rig.scale.calls, backlogs::record_size()?).await?;
    let cores = std::thread::available_parallelism()?.get() as f64;
    let Parts { call, charge, produced, delivered, stored, span } = parts;
    let taken = Taken::default()
        .figure(Q::SagasOfParts, 1000.0 / (rows + parts.of_a_saga() / cores))
        .figure(Q::ConsumedOfParts, 1000.0 * cores / parts.of_an_event())
        .figure(Q::SagasOfSpans, 1000.0 / (untraced + parts.of_its_spans() / cores));
    Ok(taken.tell(format_args!(
        "CPU: rows {:.3} ms, a call {call:.3}, a charge {charge:.3}, an event to the broker {produced:.4} and from it \
         {delivered:.4}, its effects into a database {stored:.4}, a span {span:.4}; {}",
        rows * cores,
        Parts::counts()
    )))
}

async fn floor(rig: &Rig) -> Result<Taken> {
    let took = Floor::lay(rig).await?.orders(rig.scale.calls).await?;
    Ok(Taken::default().figure(Q::FloorP50, load::ms(&took, 0.5)).figure(Q::FloorP99, load::ms(&took, 0.99)))
}

/// Of each part of a saga, as many times the calls to an idle system.
const PARTS: usize = 100;

/// Of backlogs of ours, as many as it takes to be well past the time in which a virtual machine is slow.
const BACKLOGS: usize = 3;

async fn produced(rig: &Rig) -> Result<Taken> {
    let (records, bytes) = (BACKLOGS * rig.scale.backlog, backlogs::record_size()?);
    let usual = producer::rate(rig, records, bytes, &[]).await?;
    let large = producer::rate(rig, records, bytes, producer::LARGE_BATCHES).await?;
    let taken = Taken::default().figure(Q::Produced, usual.rate).figure(Q::ProducedLarge, large.rate);
    Ok(taken.tell(usual.command).tell(large.command))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::ROWS;

    #[test]
    fn every_figure_of_the_table_is_taken_and_none_twice() {
        let wanted: BTreeSet<_> = ROWS.iter().flat_map(|row| row.quantities()).collect();
        let mut given: Vec<_> = ALL.into_iter().flat_map(|measurement| measurement.gives()).copied().collect();
        given.sort();
        assert_eq!(given, wanted.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn what_needs_the_best_rate_has_it_found_first() {
        let plan = Measurement::that_give(&[Q::CaughtUp].into());
        assert_eq!(plan, [Measurement::Orders, Measurement::CatchUp]);
        let plan = Measurement::that_give(&[Q::SagasOfParts].into());
        assert_eq!(plan, [Measurement::SagasBatched, Measurement::Sagas, Measurement::SagasOfParts]);
        assert_eq!(Measurement::that_give(&[Q::Produced].into()), [Measurement::Produced]);
    }
}
