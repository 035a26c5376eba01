//! Whole sagas: create, held, paid at the sandbox, completed; as many a second as hold.

use anyhow::Result;
use local::session::Session;

use super::{
    Taken,
    otlp::{self, Receiver},
};
use crate::{
    buyers::Buyers,
    meter,
    outcomes::Goal,
    rig::{Rig, System, Variant},
    search::{self, Best},
    table::Quantity as Q,
};

/// Of a system as it is, with what they cost.
pub(super) async fn plain(rig: &Rig, guess: f64) -> Result<Taken> {
    let system = rig.system(&Variant::default()).await?;
    let services = system.stack.services().iter();
    let idle = services.filter_map(|service| service.process().memory()).max().unwrap_or_default();
    let buyers = ready(rig, &system).await?;
    let Best { run, cost } = search::highest(&system, &buyers, guess, rig.scale.try_for).await?;
    buyers.rest().await?;
    // Once more, for longer: clients tell of their requests seldom.
    let counted = meter::requests_a_second(&system);
    let (counted_in, requests) = tokio::try_join!(buyers.run(run.rate, meter::COUNTING), counted)?;
    system.stop().await?;
    let mut taken = Taken::default()
        .figure(Q::Sagas, run.rate)
        .figure(Q::MemoryIdle, megabytes(idle))
        .figure(Q::MemoryBusy, megabytes(cost.memory))
        .figure(Q::CpuSaga, cost.cpu_together())
        .figure(Q::WalSaga, cost.wal)
        .figure(Q::SyncsSaga, cost.syncs)
        .figure(Q::RequestsSaga, requests / run.rate)
        .tell(&run)
        .tell(format_args!("{counted_in}, in which requests to the broker were counted"));
    taken.cpu = cost.cpu;
    Ok(taken)
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Of a system that tells of every request to a receiver, which counts and drops.
pub(super) async fn traced(rig: &Rig, guess: f64) -> Result<Taken> {
    let receiver = Receiver::start().await?;
    let system = rig.system(&receiver.told_by(Variant::default())).await?;
    let buyers = ready(rig, &system).await?;
    // The spans of the tickets that were listed.
    tokio::time::sleep(otlp::LATE).await;
    let before = receiver.received();
    let best = search::highest(&system, &buyers, guess, rig.scale.try_for).await?;
    let orders = Session::connect(&system.database_url("orders")?).await?;
    let sagas: i64 = orders.query_one("SELECT count(*) FROM orders", &[]).await?.get(0);
    // The last spans leave when services end.
    system.stop().await?;
    let spans = (receiver.received() - before) as f64 / sagas.max(1) as f64;
    let told =
        format!("{}; no span of it lost; {spans:.1} received a saga, of all rates tried; {}", best.run, otlp::ROOM);
    Ok(Taken::default().figure(Q::SagasTraced, best.run.rate).tell(told))
}

/// Of a system beside which a transaction stays open that has seen and written something, in another database.
pub(super) async fn beside_transaction(rig: &Rig, guess: f64) -> Result<Taken> {
    const ELSEWHERE: &str = "elsewhere";
    let admin = Session::connect(&rig.postgres_url("postgres")).await?;
    admin.batch_execute(&format!("DROP DATABASE IF EXISTS {ELSEWHERE}")).await?;
    admin.batch_execute(&format!("CREATE DATABASE {ELSEWHERE}")).await?;
    let open = Session::connect(&rig.postgres_url(ELSEWHERE)).await?;
    open.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_xact_id()").await?;
    let system = rig.system(&Variant::default()).await?;
    let best = highest(rig, &system, guess).await?;
    system.stop().await?;
    open.batch_execute("ROLLBACK").await?;
    Ok(Taken::default().figure(Q::SagasBesideTransaction, best.run.rate).tell(best.run))
}

/// Of a system with so many replicas a service.
pub(super) async fn replicated(rig: &Rig, quantity: Q, replicas: usize, guess: f64) -> Result<Taken> {
    let system = rig.system(&Variant { replicas, ..Variant::default() }).await?;
    let Best { run, cost } = highest(rig, &system, guess).await?;
    system.stop().await?;
    let mut taken = Taken::default().figure(quantity, run.rate).tell(run);
    taken.cpu = cost.cpu;
    Ok(taken)
}

/// The best rate of this system.
pub(super) async fn highest(rig: &Rig, system: &System<'_>, guess: f64) -> Result<Best> {
    search::highest(system, &ready(rig, system).await?, guess, rig.scale.try_for).await
}

async fn ready(rig: &Rig, system: &System<'_>) -> Result<Buyers> {
    Buyers::ready(&system.stack, rig.scale.tickets, Goal::Completed).await
}
