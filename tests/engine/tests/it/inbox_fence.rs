//! From Kafka to the database, where somebody else has moved the offset meanwhile, or a crash has.

use engine_tests::domain::CounterId;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use shared::db::Database;

use crate::support::{Consuming, Db, Proxy, Topics, add, adds, metric, own_postgres, unknown, until};

/// The value that the table's own rule forbids.
const FORBIDDEN: i32 = 999_666;

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_behind_a_fenced_message_in_its_batch_is_done_after_it() {
    let (_folder, postgres) = own_postgres(false, &[]).await;
    let (db, topics) = (Db::on(&postgres.url("postgres")).await, Topics::new());
    topics.make_asked().await;
    let consumer = Consuming::start(&db.database, &topics, 1000);
    let assigned = async || (0..3).all(|partition| consumer.next(partition) == Some(0));
    until("all partitions", assigned, |assigned| *assigned).await;

    // The consumer meets a lock within a transaction, and then the whole database stands still, until all that is to
    // be one batch has been polled.
    let stranger = db.session().await;
    stranger.batch_execute("BEGIN; SELECT FROM inbox_offsets WHERE partition = 2 FOR UPDATE").await.unwrap();
    topics.put([(2, "first".to_owned(), unknown(CounterId::new()))]).await;
    until("the consumer to wait", async || db.waiting().await, |sessions| *sessions == 1).await;
    // Somebody else has come to 5 on this partition, which the consumer doesn't know.
    db.sql.batch_execute("UPDATE inbox_offsets SET next_offset = 5 WHERE partition = 0").await.unwrap();
    postgres.process().pause().unwrap();
    let id = CounterId::new();
    let fenced = (0..20).map(|_| (0, id.to_string(), add(id, 1))).chain([(0, id.to_string(), unknown(id))]);
    // What the database rejects has the batch halved, so that of the fenced ones only the first are tried.
    let rejected = [add(CounterId::new(), FORBIDDEN), unknown(id)].map(|payload| (1, id.to_string(), payload));
    topics.put(fenced.chain(rejected)).await;
    let polled = async || metric(&consumer.metrics, r#"inbox_passed_over_total{group="counter-events"}"#);
    until("all of them to be polled", polled, |passed| *passed == Some(3.0)).await;
    postgres.process().resume().unwrap();

    until("the bad one to be found", async || consumer.stopped(1), |stopped| *stopped == Some(true)).await;
    until("the end of the others", async || consumer.next(0), |next| *next == Some(21)).await;
    let halvings = metric(&consumer.metrics, r#"write_halvings_total{lane="counter-events"}"#);
    assert!(halvings > Some(1.0), "it was one batch: {halvings:?}");
    assert_eq!(db.counter(id).await, Some((15, 16)), "from 5 on, each once");
    stranger.batch_execute("ROLLBACK").await.unwrap();
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_an_offset_that_went_back_or_away_all_is_read_again() {
    for (change, again) in [("UPDATE inbox_offsets SET next_offset = 4", 6), ("DELETE FROM inbox_offsets", 10)] {
        let (db, topics) = (Db::new().await, Topics::new().with_partitions(1));
        topics.make_asked().await;
        let id = CounterId::new();
        topics.put(adds(0, id, 10)).await;
        let consumer = Consuming::start(&db.database, &topics, 100);
        until("all so far", async || db.sum().await, |sum| *sum == 10).await;
        db.sql.batch_execute(change).await.unwrap();
        topics.put(adds(0, id, 5)).await;
        until("the end", async || db.offset(0).await, |next| *next == 15).await;
        assert_eq!(db.sum().await, 10 + again + 5, "{change}");
        assert_eq!(consumer.stopped(0), Some(false), "{change}");
        consumer.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_hears_of_isnt_flushed_and_is_read_again_after_a_crash_that_lost_it() {
    let (_folder, postgres) = own_postgres(true, &[("autovacuum", "off")]).await;
    let (mut db, topics) = (Db::on(&postgres.url("postgres")).await, Topics::new().with_partitions(1));
    topics.make_asked().await;
    // No flush that the consumer asks for by itself.
    let refusing = "\
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
            $$BEGIN RAISE EXCEPTION 'not yet' USING ERRCODE = 'check_violation'; END$$; \
        CREATE TRIGGER refuse BEFORE UPDATE ON writers FOR EACH ROW \
            WHEN (NEW.batch = OLD.batch) EXECUTE FUNCTION refuse()";
    db.sql.batch_execute(refusing).await.unwrap();
    pause_what_flushes(&db).await;
    let consumer = Consuming::start(&db.database, &topics, 100);
    let id = CounterId::new();
    topics.put(adds(0, id, 10)).await;
    until("what makes events", async || db.offset(0).await, |next| *next == 10).await;
    topics.put((0..5).map(|_| (0, id.to_string(), unknown(id)))).await;
    until("what makes none", async || db.offset(0).await, |next| *next == 15).await;
    postgres.process().kill().await.unwrap();
    postgres.process().start().await.unwrap();
    db.reconnect().await;
    assert_eq!((db.sum().await, db.offset(0).await), (10, 10), "what makes events was flushed, and nothing else");

    // Nothing comes that would meet the fence.
    pause_what_flushes(&db).await;
    db.sql.batch_execute("DROP TRIGGER refuse ON writers").await.unwrap();
    until("what was lost", async || db.offset(0).await, |next| *next == 15).await;
    let count = |name| metric(&consumer.metrics, &format!(r#"{name}{{group="counter-events"}}"#));
    assert_eq!((count("inbox_set_back_total"), count("inbox_passed_over_total")), (Some(1.0), Some(10.0)));
    let written = db.number("SELECT pg_current_wal_insert_lsn() - '0/0'").await;
    let flushed = async || db.number("SELECT pg_current_wal_flush_lsn() - '0/0'").await;
    until("it to be flushed", flushed, |flushed| *flushed >= written).await;
    topics.put(adds(0, id, 5)).await;
    until("the end", async || db.offset(0).await, |next| *next == 20).await;
    assert_eq!(db.sum().await, 15, "each once");
    db.assert_versions_have_no_gap().await;
    consumer.stop().await;
    postgres.process().terminate().await.unwrap();
}

/// From here on nothing flushes a server's log but what waits for that.
async fn pause_what_flushes(db: &Db) {
    let background = "SELECT pid FROM pg_stat_activity \
                      WHERE backend_type IN ('walwriter', 'background writer', 'checkpointer')";
    for row in db.sql.query(background, &[]).await.unwrap() {
        kill(Pid::from_raw(row.get(0)), Signal::SIGSTOP).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_has_moved_may_be_lost_too() {
    let (db, topics) = (Db::new().await, Topics::new().with_partitions(1));
    topics.make_asked().await;
    let consumer = Consuming::start(&db.database, &topics, 100);
    // The first thing it does is to look, for which its writer has to have a row.
    let confirmed = async || db.number("SELECT count(*) FROM writers").await;
    until("the consumer to have looked what it begins with", confirmed, |rows| *rows == 1).await;
    db.sql.batch_execute("UPDATE inbox_offsets SET next_offset = 5").await.unwrap();
    topics.put(adds(0, CounterId::new(), 5)).await;
    until("the fence", async || consumer.next(0), |next| *next == Some(5)).await;
    assert_eq!(db.sum().await, 0, "the other has done them");
    db.sql.batch_execute("UPDATE inbox_offsets SET next_offset = 0").await.unwrap();
    until("all of them", async || db.offset(0).await, |next| *next == 5).await;
    assert_eq!(db.sum().await, 5);
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_alone_cannot_reach_the_database_leaves_its_partitions_to_others_and_comes_back() {
    let (db, topics) = (Db::new().await, Topics::new().with_partitions(4));
    topics.make_asked().await;
    let proxy = Proxy::start(&db.url, 1, 0, 0).await;
    let alone = Consuming::start(&Database::new(&proxy.url, "cut off").unwrap(), &topics, 100);
    let other = Consuming::start(&db.database, &topics, 100);
    let shares =
        async || [&alone, &other].map(|member| (0..4).filter(|partition| member.next(*partition).is_some()).count());
    until("both to have partitions", shares, |shares| *shares == [2, 2]).await;

    proxy.cut_off();
    let ids: Vec<_> = (0..4).map(|_| CounterId::new()).collect();
    let put = async || {
        topics.put((0..4).flat_map(|partition| adds(partition, ids[usize::try_from(partition).unwrap()], 10))).await
    };
    put().await;
    until("the other to do all of it", async || db.sum().await, |sum| *sum == 40).await;
    assert_eq!(shares().await, [0, 4]);

    proxy.calm();
    until("both to have partitions again", shares, |shares| *shares == [2, 2]).await;
    put().await;
    until("all", async || db.sum().await, |sum| *sum == 80).await;
    db.assert_versions_have_no_gap().await;
    alone.stop().await;
    other.stop().await;
}
