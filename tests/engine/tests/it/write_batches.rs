//! The write path when all is well: batches, values, bounds, deadlines.

use std::time::Duration;

use engine_tests::domain::{Command, CounterId, Refusal};
use shared::{
    command::{Done, Failure},
    user::UserId,
};
use tokio::task::JoinSet;

use crate::support::{Answer, Db, Writing, asked, awaited, create, far, increment, limits, metric, until, within};

/// Where a counter is by an answer that tells of one.
fn value(answer: Answer) -> i32 {
    match answer {
        Ok(Done::Now(Some(counter))) => counter.value,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_callers_share_few_transactions() {
    let db = Db::new().await;
    let writing = Writing::on(&db.database);
    let id = CounterId::new();
    writing.done(create(id)).await;

    for _ in 0..5 {
        let answers = writing.submit_all((0..200).map(|_| increment(id, 1))).await;
        assert!(answers.iter().all(|answer| matches!(answer, Ok(Done::Now(Some(_))))), "{answers:?}");
    }

    assert_eq!(db.counter(id).await, Some((1000, 1001)));
    db.assert_versions_have_no_gap().await;
    let transactions = db.number("SELECT count(DISTINCT xid) FROM outbox").await;
    assert!(transactions < 100, "{transactions} transactions for 1000 commands");
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_caller_is_told_the_state_that_its_own_command_led_to() {
    let db = Db::new().await;
    let writing = Writing::on(&db.database);
    let id = CounterId::new();
    writing.done(create(id)).await;
    let answers = writing.submit_all((0..100).map(|_| increment(id, 1))).await;
    let mut values: Vec<i32> = answers.into_iter().map(value).collect();
    values.sort_unstable();
    assert_eq!(values, (1..=100).collect::<Vec<_>>());
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_begun_before_is_decided_on_as_it_is_by_now() {
    let db = Db::new().await;
    let writing = Writing::on(&db.database);
    let (old, new) = (CounterId::new(), CounterId::new());
    writing.done(create(old)).await;
    writing.done(increment(old, 5)).await;

    let answers = writing.submit_all([create(old), create(new)]).await;
    assert_eq!(answers.into_iter().map(value).collect::<Vec<_>>(), [5, 0]);
    assert_eq!((db.counter(old).await, db.counter(new).await), (Some((5, 2)), Some((0, 1))));
    assert_eq!(metric(&writing.metrics, r#"write_halvings_total{lane="calls"}"#), Some(0.0));
    db.assert_versions_have_no_gap().await;
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_a_value_and_disturbs_nobody() {
    let db = Db::new().await;
    let writing = Writing::on(&db.database);
    let (mine, missing) = (CounterId::new(), CounterId::new());
    writing.done(create(mine)).await;
    let before = writing.transactions();

    let envelopes = (0..90).map(|number| match number % 3 {
        0 => increment(mine, 1),
        1 => increment(missing, 1),
        _ => asked(Command::Increment { id: mine, caller: UserId::from_stored("mallory"), by: 1 }),
    });
    let answers = writing.submit_all(envelopes).await;

    for (number, answer) in answers.into_iter().enumerate() {
        match (number % 3, answer) {
            (0, Ok(Done::Now(Some(_)))) => {}
            (1, Err(Failure::Refused(Refusal::NotFound))) => {}
            (2, Err(Failure::Refused(Refusal::NotTheOwner))) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(db.counter(mine).await, Some((30, 31)));
    assert!(writing.transactions() - before < 30.0);
    assert_eq!(metric(&writing.metrics, r#"write_halvings_total{lane="calls"}"#), Some(0.0));
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_alone_leaves_nothing_behind() {
    let db = Db::new().await;
    let writing = Writing::on(&db.database);
    let answer = writing.submit(increment(CounterId::new(), 1)).await;
    assert_eq!(answer.unwrap_err(), Failure::Refused(Refusal::NotFound));
    assert_eq!(db.number("SELECT count(*) FROM outbox").await, 0);
    assert_eq!(db.number("SELECT max(batch) FROM writers").await, 0);
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once() {
    let db = Db::new().await;
    let writing = Writing::with(&db.database, limits(5, 5));
    let id = CounterId::new();
    writing.done(create(id)).await;
    let locker = db.session().await;
    locker.batch_execute("BEGIN; LOCK TABLE counters").await.unwrap();

    // Nothing yields between these: 5 wait, and the others are told at once.
    let mut overloaded = 0;
    let mut waiting = Vec::new();
    for _ in 0..30 {
        let mut call = Box::pin(writing.submit(increment(id, 1)));
        match futures_util::poll!(&mut call) {
            std::task::Poll::Ready(Err(Failure::Overloaded)) => overloaded += 1,
            std::task::Poll::Ready(other) => panic!("{other:?}"),
            std::task::Poll::Pending => waiting.push(call),
        }
    }
    assert!((20..=25).contains(&overloaded), "{overloaded} were refused");
    locker.batch_execute("ROLLBACK").await.unwrap();
    let answers = awaited("those that waited", futures_util::future::join_all(waiting)).await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Done::Now(_)))), "{answers:?}");
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_past_its_deadline_is_never_done() {
    let db = Db::new().await;
    let writing = Writing::with(&db.database, limits(100, 1));
    let id = CounterId::new();
    writing.done(create(id)).await;
    let locker = db.session().await;
    locker.batch_execute("BEGIN; LOCK TABLE writers IN EXCLUSIVE MODE").await.unwrap();

    let begun = writing.lane.submit(increment(id, 1), far());
    let late = async { writing.lane.submit(increment(id, 100), within(Duration::from_millis(200))).await };
    let (begun, ()) = awaited("both", async {
        // In this order: a lane takes what came first.
        futures_util::join!(begun, async {
            assert_eq!(late.await.unwrap_err(), Failure::DeadlineExceeded);
            locker.batch_execute("ROLLBACK").await.unwrap();
        })
    })
    .await;
    assert!(begun.is_ok(), "{begun:?}");
    // Behind it in the queue, so that it has had its turn.
    writing.done(increment(id, 1)).await;
    assert_eq!(db.counter(id).await, Some((2, 3)));
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_caller_left_is_finished_all_the_same() {
    let db = Db::new().await;
    let writing = Writing::on(&db.database);
    let id = CounterId::new();
    writing.done(create(id)).await;
    for _ in 0..20 {
        let mut call = Box::pin(writing.submit(increment(id, 1)));
        assert!(futures_util::poll!(&mut call).is_pending());
        drop(call);
    }
    until("what was left to be done", async || db.counter(id).await, |found| *found == Some((20, 21))).await;
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_is_told_to_stop_finishes_what_waits() {
    let db = Db::new().await;
    let writing = Writing::with(&db.database, limits(1000, 10));
    let id = CounterId::new();
    writing.done(create(id)).await;
    let mut calls = JoinSet::new();
    for _ in 0..300 {
        let lane = writing.lane.clone();
        let mut call = Box::pin(async move { lane.submit(increment(id, 1), far()).await });
        assert!(futures_util::poll!(&mut call).is_pending());
        calls.spawn(call);
    }
    writing.stop().await;
    let answers = calls.join_all().await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(db.counter(id).await, Some((300, 301)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queues_length_is_told_and_ends_at_nothing() {
    let db = Db::new().await;
    let writing = Writing::on(&db.database);
    let id = CounterId::new();
    writing.done(create(id)).await;
    writing.submit_all((0..50).map(|_| increment(id, 1))).await;
    let queued = async || metric(&writing.metrics, r#"write_queue_commands{lane="calls"}"#);
    until("the queue to be told empty", queued, |length| *length == Some(0.0)).await;
    writing.stop().await;
}
