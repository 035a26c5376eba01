//! One bad command, whatever is bad about it, never fails its neighbours.

use std::time::Duration;

use engine_tests::domain::{CounterId, PANICS};
use shared::command::{Done, Failure};

use crate::support::{Db, Writing, awaited, create, increment, limits, metric, titled, until, within};

/// The value that the table's own rule forbids.
const FORBIDDEN: i32 = 999_666;

/// So many counters, made.
async fn counters(writing: &Writing, count: usize) -> Vec<CounterId> {
    let ids: Vec<_> = (0..count).map(|_| CounterId::new()).collect();
    let made = writing.submit_all(ids.iter().map(|id| create(*id))).await;
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_panics_is_alone_in_that() {
    let db = Db::new().await;
    let writing = Writing::on(&db.database);
    let ids = counters(&writing, 50).await;
    let answers = writing
        .submit_all(ids.iter().enumerate().map(|(n, id)| increment(*id, if n == 25 { PANICS } else { 1 })))
        .await;
    for (number, answer) in answers.iter().enumerate() {
        match answer {
            Err(Failure::Internal) if number == 25 => {}
            Ok(Done::Now(Some(counter))) if number != 25 => assert_eq!(counter.value, 1),
            other => panic!("{number}: {other:?}"),
        }
    }
    assert_eq!(db.counter(ids[25]).await, Some((0, 1)));
    db.assert_versions_have_no_gap().await;
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_rejects_is_found_by_halving_and_the_rest_commits() {
    let db = Db::new().await;
    let writing = Writing::on(&db.database);
    // One bad one, several, the first, the last, and all.
    for bad in [vec![17], vec![3, 4, 40], vec![0], vec![63], (0..64).collect::<Vec<_>>()] {
        let ids = counters(&writing, 64).await;
        let by = |n: usize| if bad.contains(&n) { FORBIDDEN } else { 1 };
        let answers = writing.submit_all(ids.iter().enumerate().map(|(n, id)| increment(*id, by(n)))).await;
        for (number, answer) in answers.iter().enumerate() {
            match answer {
                Err(Failure::Internal) if bad.contains(&number) => {}
                Ok(Done::Now(Some(counter))) if !bad.contains(&number) => assert_eq!(counter.value, 1),
                other => panic!("{number}: {other:?}"),
            }
        }
    }
    assert!(metric(&writing.metrics, r#"write_halvings_total{lane="calls"}"#) > Some(5.0));
    let reached = |outcome| metric(&writing.metrics, &format!("counter_life_seconds_count{{outcome=\"{outcome}\"}}"));
    assert_eq!(reached("created"), Some(320.0));
    assert_eq!(reached("incremented"), Some(250.0), "however often a command was decided, what is committed counts");
    assert_eq!(metric(&writing.metrics, r#"write_faults_total{lane="calls"}"#), Some(0.0), "nothing was retried");
    db.assert_versions_have_no_gap().await;
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_postgres_cant_hold_fails_its_own_command_only() {
    let db = Db::new().await;
    let writing = Writing::on(&db.database);
    let titles = ["fine", "zero \u{0} inside", "fine, too"].repeat(10);
    let answers = writing.submit_all(titles.iter().map(|title| titled(CounterId::new(), title))).await;
    for (title, answer) in titles.iter().zip(&answers) {
        match answer {
            Err(Failure::Internal) if title.contains('\0') => {}
            Ok(Done::Now(Some(_))) if !title.contains('\0') => {}
            other => panic!("{title:?}: {other:?}"),
        }
    }
    assert_eq!(metric(&writing.metrics, r#"write_faults_total{lane="calls"}"#), Some(0.0), "nothing was retried");
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_commands_about_one_counter_survive_a_bad_one_among_them() {
    let db = Db::new().await;
    let writing = Writing::on(&db.database);
    let id = counters(&writing, 1).await[0];
    // What lands on the forbidden value depends on who comes first; whatever does fails alone.
    let answers = writing.submit_all((0..100).map(|n| increment(id, if n == 50 { FORBIDDEN - 50 } else { 1 }))).await;
    let rejected = answers.iter().filter(|answer| matches!(answer, Err(Failure::Internal))).count();
    let done = answers.iter().filter(|answer| matches!(answer, Ok(Done::Now(_)))).count();
    assert_eq!(rejected + done, 100, "{answers:?}");
    db.assert_versions_have_no_gap().await;
    let (_, version) = db.counter(id).await.unwrap();
    assert_eq!(usize::try_from(version).unwrap(), 1 + done);
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_a_stranger_locks_holds_up_nobody_but_its_own_commands() {
    let db = Db::new().await;
    let writing = Writing::with(&db.database, limits(4096, 1000));
    let ids = counters(&writing, 64).await;
    let locked = ids[20];
    let stranger = db.locking([locked]).await;

    let others = writing.submit_all(ids.iter().filter(|id| **id != locked).map(|id| increment(*id, 1)));
    // Many that want what is locked, so that it isn't one bad apple among many.
    let stuck = writing.submit_all((0..40).map(|_| increment(locked, 1)));
    let hopeless = writing.lane.submit(increment(locked, 1000), within(Duration::from_secs(4)));
    let (others, stuck, hopeless) = awaited("all answers", async {
        let (others_and_hopeless, stuck) = tokio::join!(
            async {
                // None of the others waits for the stranger, who waits for all of them.
                let answers = tokio::join!(others, hopeless);
                stranger.batch_execute("ROLLBACK").await.unwrap();
                answers
            },
            stuck,
        );
        (others_and_hopeless.0, stuck, others_and_hopeless.1)
    })
    .await;
    assert!(others.iter().all(|answer| matches!(answer, Ok(Done::Now(_)))), "{others:?}");
    assert!(stuck.iter().all(|answer| matches!(answer, Ok(Done::Now(_)))), "{stuck:?}");
    assert_eq!(hopeless.unwrap_err(), Failure::DeadlineExceeded);
    // An attempt that had begun before the deadline waits for the lock and may get it: that is what the code says.
    let found = db.counter(locked).await;
    assert!([Some((40, 41)), Some((1040, 42))].contains(&found), "{found:?}");
    db.assert_versions_have_no_gap().await;
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_root_that_a_stranger_locks_is_searched_for_once_however_many_commands_are_about_it() {
    let db = Db::new().await;
    let writing = Writing::on(&db.database);
    let ids = counters(&writing, 65).await;
    let (hot, others) = ids.split_first().unwrap();
    let stranger = db.locking([*hot]).await;

    // Eight hot ones after each of the others.
    let calls = others.iter().flat_map(|id| std::iter::once(*id).chain(std::iter::repeat_n(*hot, 8)));
    let (answers, searched) = awaited("all answers", async {
        tokio::join!(writing.submit_all(calls.map(|id| increment(id, 1))), async {
            let done = async || db.number("SELECT count(*) FROM counters WHERE value = 1").await;
            until("the others to be done", done, |done| *done == 64).await;
            let searched = metric(&writing.metrics, r#"write_halvings_total{lane="calls"}"#).unwrap();
            stranger.batch_execute("ROLLBACK").await.unwrap();
            searched
        })
    })
    .await;

    assert!(answers.iter().all(|answer| matches!(answer, Ok(Done::Now(_)))), "{answers:?}");
    assert_eq!(db.counter(*hot).await, Some((512, 513)));
    // The batch may have come in two or three.
    assert!(searched <= 30.0, "{searched} halvings to find one locked root among 576 commands");
    db.assert_versions_have_no_gap().await;
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_about_a_root_that_is_waited_for_aside_joins_it_there() {
    let db = Db::new().await;
    let writing = Writing::with(&db.database, limits(4096, 1000));
    let ids = counters(&writing, 9).await;
    let (locked, others) = ids.split_first().unwrap();
    let stranger = db.locking([*locked]).await;
    let halvings = || metric(&writing.metrics, r#"write_halvings_total{lane="calls"}"#);

    let mut stuck = Vec::new();
    let mut searched = None;
    for _ in 0..4 {
        // Each time in one batch with the others, which would be halved if it were tried among them.
        let mut call = Box::pin(writing.submit(increment(*locked, 1)));
        assert!(futures_util::poll!(&mut call).is_pending());
        stuck.push(call);
        let answers = writing.submit_all(others.iter().map(|id| increment(*id, 1))).await;
        assert!(answers.iter().all(|answer| matches!(answer, Ok(Done::Now(_)))), "{answers:?}");
        assert_eq!(*searched.get_or_insert_with(halvings), halvings(), "what is locked was searched for once");
    }
    stranger.batch_execute("ROLLBACK").await.unwrap();
    let answers = awaited("those that waited", futures_util::future::join_all(stuck)).await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Done::Now(_)))), "{answers:?}");
    // Nothing waits aside any more, so that it is tried among the others again.
    writing.done(increment(*locked, 1)).await;
    assert_eq!(db.counter(*locked).await, Some((5, 6)));
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_ends_though_a_stranger_locks_what_is_waited_for() {
    let db = Db::new().await;
    let writing = Writing::on(&db.database);
    let id = counters(&writing, 1).await[0];
    let stranger = db.session().await;
    stranger.batch_execute("BEGIN; LOCK TABLE counters").await.unwrap();
    let (answer, ()) = awaited("both", async {
        tokio::join!(writing.submit(increment(id, 1)), async {
            let mut waiting = std::collections::BTreeSet::new();
            let waits = "SELECT max(pid) FROM pg_stat_activity \
                         WHERE wait_event_type = 'Lock' AND datname = current_database()";
            until(
                "the command to wait aside, in another session than the first",
                async || {
                    waiting.extend(db.sql.query_one(waits, &[]).await.unwrap().get::<_, Option<i32>>(0));
                    waiting.len()
                },
                |sessions| *sessions > 1,
            )
            .await;
            writing.stop.cancel();
        })
    })
    .await;
    assert_eq!(answer.unwrap_err(), Failure::Unavailable, "it was not done, and its caller knows at once");
    writing.stop().await;
}
