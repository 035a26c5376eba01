//! Timers: each that is due fires once, whoever fires it and whatever happens to them.

use std::sync::Arc;

use engine_tests::domain::{Command, CounterId};
use shared::command::Envelope;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::{Db, Replica, Topics, Writing, alice, asked, firing, metric, until};

const DUE: &str = "SELECT count(*) FROM counters WHERE resets_at IS NOT NULL";
const RESETS: &str = "SELECT count(*) FROM outbox WHERE event_type = 'counter.reset'";

fn due(title: &str, in_milliseconds: i64) -> Envelope<Command> {
    let resets_at =
        Some(shared::clock::now() + std::time::Duration::from_millis(u64::try_from(in_milliseconds).unwrap()));
    asked(Command::Create { id: CounterId::new(), owner: alice(), title: title.to_owned(), limit: 10, resets_at })
}

async fn set(db: &Db, count: usize) {
    let writing = Writing::on(&db.database);
    let made = writing.submit_all((0..count).map(|_| due("a timer", 0))).await;
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_timers_fire_once_each_among_three_replicas() {
    let db = Db::new().await;
    set(&db, 2000).await;
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    let metrics: Vec<_> = (0..3).map(|_| firing(&db.database, 50, &stop, &mut tasks)).collect();
    until("all to fire", async || db.number(DUE).await, |due| *due == 0).await;
    stop.cancel();
    tasks.join_all().await;
    assert_eq!(db.number(RESETS).await, 2000);
    let fired: f64 = metrics.iter().map(|metrics| metric(metrics, "timers_fired_total").unwrap()).sum();
    assert_eq!(fired, 2000.0);
    db.assert_versions_have_no_gap().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_are_killed_while_they_fire_lose_no_timer_and_fire_none_twice() {
    let (db, topics) = (Arc::new(Db::new().await), Topics::new());
    set(&db, 3000).await;
    for _ in 0..3 {
        let before = db.number(RESETS).await;
        let replicas: Vec<_> = (0..2).map(|_| Replica::of(&db.url, &topics, &[("CONSUMER_BATCH", "20")])).collect();
        for replica in &replicas {
            replica.process.spawn().unwrap();
        }
        until("some to fire", async || db.number(RESETS).await, |fired| *fired > before).await;
        for replica in &replicas {
            replica.process.kill().await.unwrap();
        }
    }
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    firing(&db.database, 500, &stop, &mut tasks);
    until("all to fire", async || db.number(DUE).await, |due| *due == 0).await;
    stop.cancel();
    tasks.join_all().await;
    assert_eq!(db.number(RESETS).await, 3000);
    db.assert_versions_have_no_gap().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_that_panics_holds_up_no_other() {
    let db = Db::new().await;
    let writing = Writing::on(&db.database);
    writing.done(due("panic when due", 0)).await;
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    firing(&db.database, 50, &stop, &mut tasks);
    for round in 1..=20 {
        writing.done(due("a timer", 20)).await;
        until("the timer to fire", async || db.number(RESETS).await, |fired| *fired == round).await;
    }
    assert_eq!(db.number(DUE).await, 1, "it stays due, for somebody to see to");
    stop.cancel();
    tasks.join_all().await;
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_whose_row_cannot_be_read_holds_up_no_other() {
    let db = Db::new().await;
    set(&db, 20).await;
    db.sql
        .batch_execute("UPDATE counters SET \"limit\" = -1 WHERE id = (SELECT min(id::text)::uuid FROM counters)")
        .await
        .unwrap();
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    firing(&db.database, 50, &stop, &mut tasks);
    until("all others to fire", async || db.number(RESETS).await, |fired| *fired == 19).await;
    assert_eq!(db.number(DUE).await, 1, "it stays due, for somebody to see to");
    stop.cancel();
    tasks.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_that_most_looks_go_past_fires_all_the_same() {
    let db = Db::new().await;
    let writing = Writing::on(&db.database);
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    firing(&db.database, 50, &stop, &mut tasks);
    writing.done(due("a timer", 60_000)).await;
    writing.done(due("a timer", 0)).await;
    until("the one to fire", async || db.number(RESETS).await, |fired| *fired == 1).await;
    let long_ago = "UPDATE counters SET resets_at = now() - interval '1 hour' WHERE resets_at IS NOT NULL";
    db.sql.batch_execute(long_ago).await.unwrap();
    until("the other to fire", async || db.number(RESETS).await, |fired| *fired == 2).await;
    stop.cancel();
    tasks.join_all().await;
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn most_timers_fire_within_a_second_after_they_are_due() {
    let db = Db::new().await;
    let writing = Writing::on(&db.database);
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    let metrics = firing(&db.database, 50, &stop, &mut tasks);
    let made = writing.submit_all((0..50).map(|number| due("a timer", 500 + 200 * number))).await;
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    until("all to fire", async || db.number(RESETS).await, |fired| *fired == 50).await;
    stop.cancel();
    tasks.join_all().await;
    // Ten looks at rest; and the machine may have been busy with others, but hardly through half of them.
    let soon = metric(&metrics, "timers_lateness_seconds_bucket{le=\"1.0\"}").unwrap();
    assert!(soon >= 25.0, "only {soon} of 50 fired within a second:\n{}", metrics.encode());
    writing.stop().await;
}
