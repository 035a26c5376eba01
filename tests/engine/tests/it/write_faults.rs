//! Commits whose answer is lost, connections that are cut, servers that go away: effects are there once, and callers
//! are told the truth.

use std::time::Duration;

use engine_tests::domain::CounterId;
use shared::{
    command::{Done, Failure},
    db::Database,
};
use tokio_util::sync::CancellationToken;

use crate::support::{
    Answer, Db, Proxy, Writing, awaited, create, increment, lock, metric, own_postgres, until, within,
};

/// What callers were told.
#[derive(Default, Debug)]
struct Told {
    acknowledged: i64,
    /// Not done, they were told.
    not_done: i64,
    unknown: i64,
}

impl Told {
    fn count(&mut self, answer: &Answer) {
        match answer {
            Ok(Done::Now(Some(_))) => self.acknowledged += 1,
            Err(Failure::Unavailable | Failure::Overloaded) => self.not_done += 1,
            Err(Failure::DeadlineExceeded) => self.unknown += 1,
            other => panic!("{other:?}"),
        }
    }
}

/// Increments a counter by one from 16 callers until it is told to stop; what they were told.
async fn load(writing: &Writing, id: CounterId, enough: &CancellationToken) -> Told {
    let callers = (0..16).map(|_| async {
        let mut told = Told::default();
        while !enough.is_cancelled() {
            told.count(&writing.lane.submit(increment(id, 1), within(Duration::from_secs(20))).await);
        }
        told
    });
    let all = futures_util::future::join_all(callers).await;
    all.into_iter().fold(Told::default(), |sum, told| Told {
        acknowledged: sum.acknowledged + told.acknowledged,
        not_done: sum.not_done + told.not_done,
        unknown: sum.unknown + told.unknown,
    })
}

async fn assert_true(db: &Db, id: CounterId, told: &Told) {
    let (value, version) = db.counter(id).await.unwrap();
    let value = i64::from(value);
    assert_eq!(version, value + 1, "{told:?}");
    assert!(told.acknowledged <= value && value <= told.acknowledged + told.unknown, "{value} is there; {told:?}");
    assert!(told.acknowledged > 0, "{told:?}");
    db.assert_versions_have_no_gap().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_done_once_and_acknowledged() {
    for seed in [1, 2, 3] {
        let db = Db::new().await;
        let proxy = Proxy::start(&db.url, seed, 3, 0).await;
        let writing = Writing::on(&Database::new(&proxy.url, "cut off").unwrap());
        let id = CounterId::new();
        writing.done(create(id)).await;
        let enough = CancellationToken::new();
        let cut = async {
            until("enough cuts", async || proxy.cuts(), |cuts| *cuts >= 40).await;
            enough.cancel();
        };
        let (told, ()) = awaited("the load", async { tokio::join!(load(&writing, id, &enough), cut) }).await;
        assert_true(&db, id, &told).await;
        proxy.calm();
        writing.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_anywhere_lose_nothing_and_repeat_nothing() {
    for seed in [4, 5] {
        let db = Db::new().await;
        let proxy = Proxy::start(&db.url, seed, 10, 40).await;
        let writing = Writing::on(&Database::new(&proxy.url, "cut off").unwrap());
        let id = CounterId::new();
        until("the counter to be made", async || writing.submit(create(id)).await.is_ok(), |made| *made).await;
        let enough = CancellationToken::new();
        let cut = async {
            until("enough cuts", async || proxy.cuts(), |cuts| *cuts >= 40).await;
            enough.cancel();
        };
        let (told, ()) = awaited("the load", async { tokio::join!(load(&writing, id, &enough), cut) }).await;
        assert_true(&db, id, &told).await;
        proxy.calm();
        writing.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_the_server_ends_lose_nothing_and_repeat_nothing() {
    let db = Db::new().await;
    let writing = Writing::on(&db.database);
    let id = CounterId::new();
    writing.done(create(id)).await;
    let enough = CancellationToken::new();
    let terminate = async {
        let mut ended = 0;
        until(
            "enough sessions to be ended",
            async || {
                ended += db.terminate().await;
                ended
            },
            |ended| *ended >= 40,
        )
        .await;
        enough.cancel();
    };
    let (told, ()) = awaited("the load", async { tokio::join!(load(&writing, id, &enough), terminate) }).await;
    assert_true(&db, id, &told).await;
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_is_killed_and_comes_back_has_all_that_was_acknowledged() {
    let (_folder, postgres) = own_postgres(true, &[]).await;
    let mut db = Db::on(&postgres.url("postgres")).await;
    let writing = Writing::on(&db.database);
    let id = CounterId::new();
    writing.done(create(id)).await;
    let enough = CancellationToken::new();
    let strike = async {
        for kill in [true, false, true] {
            let before = writing.transactions();
            until("some progress", async || writing.transactions(), |now| *now > before + 20.0).await;
            if kill {
                postgres.process().kill().await.unwrap()
            } else {
                postgres.process().terminate().await.map(drop).unwrap()
            }
            postgres.process().start().await.unwrap();
        }
        let before = writing.transactions();
        until("progress again", async || writing.transactions(), |now| *now > before + 20.0).await;
        enough.cancel();
    };
    let (told, ()) = awaited("the load", async { tokio::join!(load(&writing, id, &enough), strike) }).await;
    db.reconnect().await;
    assert_true(&db, id, &told).await;
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_is_tried_again() {
    let db = Db::new().await;
    let (mut first, mut second, busy) = (CounterId::new(), CounterId::new(), CounterId::new());
    if first > second {
        std::mem::swap(&mut first, &mut second);
    }
    // The server looks for deadlocks once, on behalf of who has waited for so long: it is the lane that it calls off, if there
    // is one by then, and before it has waited for a lock as long as it may.
    let eager = format!("{}?options=-c%20deadlock_timeout%3D600ms", db.superuser());
    let writing = Writing::on(&Database::new(&eager, "eager").unwrap());
    writing.submit_all([create(first), create(second), create(busy)]).await;
    let stranger = db.session().await;
    stranger.batch_execute("BEGIN; SET LOCAL deadlock_timeout = '10s'").await.unwrap();
    lock(&stranger, second).await;
    let other = db.locking([busy]).await;

    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'eager' AND wait_event_type = 'Lock'";
    let waits = async |on: &str| {
        let of = format!("{waiting} AND query LIKE '%counters%' AND {on}");
        until("the lane to wait", async || db.number(&of).await, |sessions| *sessions > 0).await;
    };
    let blocker = "SELECT pg_backend_pid()";
    let stranger_pid: i32 = stranger.query_one(blocker, &[]).await.unwrap().get(0);
    let other_pid: i32 = other.query_one(blocker, &[]).await.unwrap().get(0);
    let (one, both, ()) = awaited("all", async {
        futures_util::join!(
            writing.submit(increment(busy, 1)),
            async {
                waits(&format!("{other_pid} = ANY (pg_blocking_pids(pid))")).await;
                // While the lane waits these two become one batch.
                writing.submit_all([increment(first, 1), increment(second, 1)]).await
            },
            async {
                waits(&format!("{other_pid} = ANY (pg_blocking_pids(pid))")).await;
                let queued = async || metric(&writing.metrics, r#"write_queue_commands{lane="calls"}"#);
                until("the two to wait", queued, |commands| *commands == Some(2.0)).await;
                other.batch_execute("COMMIT").await.unwrap();
                // It has the first and wants the second: the stranger, the other way round.
                waits(&format!("{stranger_pid} = ANY (pg_blocking_pids(pid))")).await;
                lock(&stranger, first).await;
                stranger.batch_execute("COMMIT").await.unwrap();
            }
        )
    })
    .await;
    for answer in both.iter().chain([&one]) {
        assert!(matches!(answer, Ok(Done::Now(_))), "{answer:?}");
    }
    let faults = metric(&writing.metrics, r#"write_faults_total{lane="calls"}"#);
    assert!(faults > Some(0.0), "there was no deadlock: {faults:?}");
    assert_eq!((db.counter(first).await, db.counter(second).await), (Some((1, 2)), Some((1, 2))));
    writing.stop().await;
}
