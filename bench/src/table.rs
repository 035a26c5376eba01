//! The table: every ratio, from which two figures it comes, and what it is to reach. In: nothing. Out: rows. It measures
//! nothing and knows no round.

use std::fmt;

/// Something that a round measures, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Quantity {
    /// Whole sagas a second.
    Sagas,
    /// A saga's statements a second, as they are usually written.
    SagasOneByOne,
    /// A saga's rows a second, by a hundred in a statement.
    SagasBatched,
    /// Sagas a second if their parts took no more than they do by themselves.
    SagasOfParts,
    /// The same if their spans took no more than they do by themselves.
    SagasOfSpans,
    /// Events a second from the outbox to their topic.
    Relayed,
    /// Messages a second of the broker's own benchmark.
    Produced,
    /// The same, with batches as large as our producer's may be.
    ProducedLarge,
    /// Events a second from their topic into a database.
    Consumed,
    /// The same effects a second, batched.
    ConsumedBatched,
    /// The same if an event's way took no more than its parts do by themselves.
    ConsumedOfParts,
    /// Due timers fired a second.
    TimersFired,
    /// Due timers claimed a second, batched.
    TimersClaimed,
    /// How late timers fire, p99, at a thousand a second.
    TimersLate,
    /// From an order's call to its stock held, p50.
    HeldP50,
    /// The same, p99.
    HeldP99,
    /// Commits and broker's round trips, one after the other, p50.
    FloorP50,
    /// The same, p99.
    FloorP99,
    /// `HeldP50` of a run beside which the floor's steps are taken.
    HeldBesideP50,
    /// Of those steps, p50.
    FloorBesideP50,
    /// `HeldBesideP50`'s p99.
    HeldBesideP99,
    /// `FloorBesideP50`'s.
    FloorBesideP99,
    /// Orders a second to stock held, all of one ticket.
    OrdersHot,
    /// Orders a second to stock held, spread over ten thousand tickets.
    OrdersSpread,
    /// Sagas a second with every request traced.
    SagasTraced,
    /// A call that creates an order, p50, on an idle system.
    CreateIdle,
    /// One bare insert and commit, p50, on an idle system.
    CommitIdle,
    /// A call that does nothing, and an order's statements by a bare client, p50 each, on an idle system.
    CreateOfParts,
    /// Sagas a second in databases that have grown.
    SagasGrown,
    /// Sagas a second while a transaction in another database stays open.
    SagasBesideTransaction,
    /// The largest service's memory, idle.
    MemoryIdle,
    /// The largest service's memory, at the best rate.
    MemoryBusy,
    /// CPU a saga.
    CpuSaga,
    /// The write-ahead log's growth a saga.
    WalSaga,
    /// Flushes of the write-ahead log a saga.
    SyncsSaga,
    /// Requests to the broker a saga.
    RequestsSaga,
    /// CPU a saga as it is usually written.
    CpuOneByOne,
    /// The write-ahead log's growth for the same.
    WalOneByOne,
    /// Flushes for the same.
    SyncsOneByOne,
    /// A call that creates an order, p99, through the gateway.
    CreateGateway,
    /// The same, past the gateway.
    CreateDirect,
    /// Orders a second whose stock is held, through the gateway.
    OrdersGateway,
    /// Single rows inserted and committed a second, by 32 clients.
    SingleRows,
    /// Sagas a second with two replicas a service.
    SagasTwo,
    /// Sagas a second with four.
    SagasFour,
    /// Orders a second of a service that catches up.
    CaughtUp,
    /// What arrives meanwhile.
    Arriving,
}

/// What a figure is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    PerSecond,
    Milliseconds,
    Megabytes,
    Bytes,
    Times,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PerSecond => "/s",
            Self::Milliseconds => "ms",
            Self::Megabytes => "MB",
            Self::Bytes => "bytes",
            Self::Times => "times",
        })
    }
}

/// What a row is to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reach {
    /// A ratio of this or more.
    AtLeast(f64),
    /// A ratio, or a figure that has no yardstick, of this or less.
    AtMost(f64),
    /// Nothing: it is told.
    Told,
}

impl Reach {
    /// Whether this value reaches it.
    pub(crate) fn met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtLeast(reach) => Some(value >= reach),
            Self::AtMost(reach) => Some(value <= reach),
            Self::Told => None,
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(reach) => write!(f, ">= {reach}"),
            Self::AtMost(reach) => write!(f, "<= {reach}"),
            Self::Told => f.write_str("–"),
        }
    }
}

/// A row of the table: our figure over its yardstick's, of the same round.
#[derive(Debug)]
pub(crate) struct Row {
    /// `R1`; a row's second figure has a `b` behind it.
    pub id: &'static str,
    /// What is compared.
    pub what: &'static str,
    /// With what.
    pub with: &'static str,
    /// Our figure.
    pub ours: Quantity,
    /// The other; without one the figure stands alone.
    pub yardstick: Option<Quantity>,
    /// What both are counted in.
    pub unit: Unit,
    /// What is to be reached.
    pub reach: Reach,
}

impl Row {
    /// Whether it was asked for: `R5` means `R5b`, too.
    pub(crate) fn is_of(&self, asked: &str) -> bool {
        self.id.eq_ignore_ascii_case(asked)
            || self.id.strip_suffix(|c: char| c.is_ascii_lowercase()).is_some_and(|id| id.eq_ignore_ascii_case(asked))
    }

    /// The figures that it needs.
    pub(crate) fn quantities(&self) -> impl Iterator<Item = Quantity> {
        [Some(self.ours), self.yardstick].into_iter().flatten()
    }
}

const fn row(
    id: &'static str,
    what: &'static str,
    with: &'static str,
    ours: Quantity,
    yardstick: Option<Quantity>,
    unit: Unit,
    reach: Reach,
) -> Row {
    Row { id, what, with, ours, yardstick, unit, reach }
}

/// All rows.
pub(crate) const ROWS: &[Row] = {
    use Quantity as Q;
    use Reach::{AtLeast, AtMost, Told};
    use Unit::{Bytes, Megabytes, Milliseconds, PerSecond, Times};
    &[
        row(
            "R1",
            "whole sagas",
            "pgbench, a transaction a step",
            Q::Sagas,
            Some(Q::SagasOneByOne),
            PerSecond,
            AtLeast(5.0),
        ),
        row(
            "R1b",
            "the same",
            "what both cores have time for if its rows take what R2's do, and calls, charges and events what each does alone",
            Q::Sagas,
            Some(Q::SagasOfParts),
            PerSecond,
            Told,
        ),
        row(
            "R2",
            "whole sagas",
            "pgbench, by hundreds in a statement",
            Q::Sagas,
            Some(Q::SagasBatched),
            PerSecond,
            AtLeast(0.5),
        ),
        row(
            "R3",
            "outbox to Kafka, a backlog",
            "Kafka's own producer benchmark, once warm",
            Q::Relayed,
            Some(Q::Produced),
            PerSecond,
            AtLeast(0.6),
        ),
        row(
            "R3b",
            "the same",
            "the same, with batches as large as ours may be",
            Q::Relayed,
            Some(Q::ProducedLarge),
            PerSecond,
            Told,
        ),
        row(
            "R4",
            "Kafka to database, a backlog",
            "pgbench, the same effects batched",
            Q::Consumed,
            Some(Q::ConsumedBatched),
            PerSecond,
            AtLeast(0.5),
        ),
        row(
            "R4b",
            "the same",
            "what both cores have time for if reading an event, and sending its row in an array of hundreds, take what each does alone",
            Q::Consumed,
            Some(Q::ConsumedOfParts),
            PerSecond,
            Told,
        ),
        row(
            "R5",
            "timers, all due at once",
            "pgbench, claimed by batches",
            Q::TimersFired,
            Some(Q::TimersClaimed),
            PerSecond,
            AtLeast(0.5),
        ),
        row("R5b", "lateness at 1,000 timers/s, p99", "–", Q::TimersLate, None, Milliseconds, AtMost(200.0)),
        row(
            "R6",
            "an order until its stock is held, p50 at a tenth of the best rate",
            "3 commits and 2 round trips of the broker, p50",
            Q::HeldP50,
            Some(Q::FloorP50),
            Milliseconds,
            AtMost(2.0),
        ),
        row("R6b", "the same, p99", "the same, p99", Q::HeldP99, Some(Q::FloorP99), Milliseconds, AtMost(4.0)),
        row(
            "R6c",
            "the same, p50, in a run with those commits and round trips beside it",
            "those, p50",
            Q::HeldBesideP50,
            Some(Q::FloorBesideP50),
            Milliseconds,
            Told,
        ),
        row("R6d", "the same, p99", "those, p99", Q::HeldBesideP99, Some(Q::FloorBesideP99), Milliseconds, Told),
        row(
            "R7",
            "orders until stock is held, of one ticket",
            "of 10,000 tickets",
            Q::OrdersHot,
            Some(Q::OrdersSpread),
            PerSecond,
            AtLeast(0.9),
        ),
        row(
            "R8",
            "whole sagas, every request traced",
            "untraced",
            Q::SagasTraced,
            Some(Q::Sagas),
            PerSecond,
            AtLeast(0.9),
        ),
        row(
            "R8b",
            "the same",
            "what both cores have time for if a saga takes what it does untraced, and its spans what each does alone",
            Q::SagasTraced,
            Some(Q::SagasOfSpans),
            PerSecond,
            Told,
        ),
        row(
            "R9",
            "CreateOrder on an idle system, p50",
            "one bare insert and commit, p50",
            Q::CreateIdle,
            Some(Q::CommitIdle),
            Milliseconds,
            AtMost(1.5),
        ),
        row(
            "R9b",
            "the same",
            "a call that does nothing, p50, and by a bare client six statements in two round trips, p50",
            Q::CreateIdle,
            Some(Q::CreateOfParts),
            Milliseconds,
            Told,
        ),
        row(
            "R10",
            "whole sagas in databases that have grown",
            "in empty ones",
            Q::SagasGrown,
            Some(Q::Sagas),
            PerSecond,
            AtLeast(0.9),
        ),
        row(
            "R11",
            "whole sagas beside a transaction that stays open",
            "none open",
            Q::SagasBesideTransaction,
            Some(Q::Sagas),
            PerSecond,
            AtLeast(0.9),
        ),
        row("R12", "the largest service's memory, idle", "–", Q::MemoryIdle, None, Megabytes, AtMost(60.0)),
        row("R12b", "the same, at the best rate", "–", Q::MemoryBusy, None, Megabytes, AtMost(150.0)),
        row("R13", "CPU a saga", "pgbench, a transaction a step", Q::CpuSaga, Some(Q::CpuOneByOne), Milliseconds, Told),
        row("R13b", "write-ahead log a saga", "the same", Q::WalSaga, Some(Q::WalOneByOne), Bytes, Told),
        row("R13c", "its flushes a saga", "the same", Q::SyncsSaga, Some(Q::SyncsOneByOne), Times, Told),
        row("R13d", "requests to the broker a saga", "–", Q::RequestsSaga, None, Times, Told),
        row(
            "R14",
            "CreateOrder through the gateway, p99 at a tenth of the best rate through it",
            "past it, p99",
            Q::CreateGateway,
            Some(Q::CreateDirect),
            Milliseconds,
            AtMost(1.5),
        ),
        row(
            "R14b",
            "orders until stock is held, through the gateway",
            "past it",
            Q::OrdersGateway,
            Some(Q::OrdersSpread),
            PerSecond,
            Told,
        ),
        row(
            "R15",
            "orders until stock is held",
            "pgbench, single rows by 32 clients",
            Q::OrdersSpread,
            Some(Q::SingleRows),
            PerSecond,
            AtLeast(0.4),
        ),
        row(
            "replicas2",
            "whole sagas with 2 replicas a service",
            "with 1",
            Q::SagasTwo,
            Some(Q::Sagas),
            PerSecond,
            AtLeast(0.9),
        ),
        row(
            "replicas4",
            "whole sagas with 4 replicas a service",
            "with 1",
            Q::SagasFour,
            Some(Q::Sagas),
            PerSecond,
            AtLeast(0.9),
        ),
        row(
            "catchup",
            "orders worked off by a service that was stopped",
            "what arrives meanwhile",
            Q::CaughtUp,
            Some(Q::Arriving),
            PerSecond,
            AtLeast(5.0),
        ),
    ]
};

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests end with the first thing that is wrong")]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_asked_for_with_its_second_figure() {
        let of = |asked| ROWS.iter().filter(|row| row.is_of(asked)).map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(of("R5"), ["R5", "R5b"]);
        assert_eq!(of("r1"), ["R1", "R1b"]);
        assert_eq!(of("R13"), ["R13", "R13b", "R13c", "R13d"]);
        assert_eq!(of("R6b"), ["R6b"]);
        assert!(of("R99").is_empty());
    }

    #[test]
    fn more_is_better_only_where_it_is_said_so() {
        assert_eq!(Reach::AtLeast(5.0).met(5.0), Some(true));
        assert_eq!(Reach::AtMost(1.5).met(1.6), Some(false));
        assert_eq!(Reach::Told.met(1.0), None);
    }
}
