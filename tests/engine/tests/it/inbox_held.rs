//! From Kafka to the database, where a partition waits or has stopped: nothing that lies behind is lost for that, whatever
//! comes next.

use engine_tests::domain::CounterId;

use crate::support::{Consuming, Db, Topics, adds, metric, unknown, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_cant_be_decoded_behind_what_waits_stops_its_partition_once_that_is_done() {
    let (db, topics) = (Db::new().await, Topics::new().with_partitions(1));
    topics.make_asked().await;
    let id = CounterId::new();
    topics.put(adds(0, id, 1)).await;
    let consumer = Consuming::start(&db.database, &topics, 100);
    until("the counter", async || db.sum().await, |sum| *sum == 1).await;
    let stranger = db.locking([id]).await;

    let undecodable = (0, id.to_string(), b"\xffno protobuf".to_vec());
    topics.put(adds(0, id, 10).chain([undecodable]).chain(adds(0, id, 10))).await;
    until("the consumer to meet the lock", async || db.waiting().await, |sessions| *sessions == 1).await;
    until("it to wait aside", async || db.waiting().await, |sessions| *sessions == 0).await;
    assert_eq!(consumer.stopped(0), Some(false), "what waits is not given up");
    stranger.batch_execute("COMMIT").await.unwrap();

    until("the partition to stop", async || consumer.stopped(0), |stopped| *stopped == Some(true)).await;
    assert_eq!((db.sum().await, db.offset(0).await), (11, 11), "all before it is done, and nothing behind it");
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_whose_lock_is_free_goes_on_while_others_wait_for_theirs() {
    let (db, topics) = (Db::new().await, Topics::new().with_partitions(4));
    topics.make_asked().await;
    let ids: Vec<_> = (0..3).map(|_| CounterId::new()).collect();
    let all = |messages| (0..3).zip(&ids).flat_map(move |(partition, id)| adds(partition, *id, messages));
    topics.put(all(1)).await;
    let consumer = Consuming::start(&db.database, &topics, 100);
    until("the counters", async || db.sum().await, |sum| *sum == 3).await;
    let (kept, given_up) = (db.locking([ids[0], ids[2]]).await, db.locking([ids[1]]).await);
    topics.put(all(5)).await;
    until("the consumer to meet a lock", async || db.waiting().await, |sessions| *sessions >= 1).await;
    topics.put(adds(3, CounterId::new(), 5)).await;
    until("those to wait aside", async || db.offset(3).await, |next| *next == 5).await;
    given_up.batch_execute("COMMIT").await.unwrap();
    until("the one between", async || db.offset(1).await, |next| *next == 6).await;
    assert_eq!((db.offset(0).await, db.offset(2).await), (1, 1));
    kept.batch_execute("COMMIT").await.unwrap();
    until("all of it", async || db.sum().await, |sum| *sum == 3 + 15 + 5).await;
    db.assert_versions_have_no_gap().await;
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_wait_are_read_on_when_they_have_gone_and_come_back() {
    let (db, topics) = (Db::new().await, Topics::new().with_partitions(4));
    topics.make_asked().await;
    let ids: Vec<_> = (0..4).map(|_| CounterId::new()).collect();
    let all = |messages| (0..4).zip(&ids).flat_map(move |(partition, id)| adds(partition, *id, messages));
    topics.put(all(1)).await;
    let steady = Consuming::start(&db.database, &topics, 100);
    until("the counters", async || db.sum().await, |sum| *sum == 4).await;
    let stranger = db.locking(ids.iter().copied()).await;
    topics.put(all(5)).await;
    until("the consumer to meet a lock", async || db.waiting().await, |sessions| *sessions >= 1).await;

    let assigned = |consumer: &Consuming| (0..4).filter(|one| consumer.next(*one).is_some()).count();
    let guest = Consuming::start(&db.database, &topics, 100);
    until("some to go", async || (assigned(&steady), assigned(&guest)), |found| *found == (2, 2)).await;
    guest.stop().await;
    until("them to come back", async || assigned(&steady), |found| *found == 4).await;
    stranger.batch_execute("COMMIT").await.unwrap();
    topics.put(all(5)).await;
    until("all of it", async || db.sum().await, |sum| *sum == 4 + 20 + 20).await;
    db.assert_versions_have_no_gap().await;
    steady.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_out_where_a_fault_of_the_database_and_the_end_come_together() {
    let (db, topics) = (Db::new().await, Topics::new().with_partitions(1));
    topics.make_asked().await;
    let id = CounterId::new();
    topics.put(adds(0, id, 1)).await;
    let (mut expected, mut end) = (1, 1);
    for _ in 0..6 {
        let consumer = Consuming::start(&db.database, &topics, 10);
        until("all so far", async || db.offset(0).await, |next| *next == end).await;
        assert_eq!(db.sum().await, expected, "each message once");
        let polled = async || metric(&consumer.metrics, r#"inbox_passed_over_total{group="counter-events"}"#);
        let before = polled().await.unwrap();
        let stranger = db.locking([id]).await;
        // A transaction that waits, and much behind it that has been polled by then.
        topics.put(adds(0, id, 1)).await;
        until("the consumer to meet the lock", async || db.waiting().await, |sessions| *sessions == 1).await;
        topics.put(adds(0, id, 300).chain([(0, id.to_string(), unknown(id))])).await;
        (expected, end) = (expected + 301, end + 302);
        until("the last to be polled", polled, |passed| *passed == Some(before + 1.0)).await;
        consumer.stop.cancel();
        db.terminate().await;
        stranger.batch_execute("ROLLBACK").await.unwrap();
        consumer.stop().await;
    }
    let consumer = Consuming::start(&db.database, &topics, 100);
    until("the end", async || db.offset(0).await, |next| *next == end).await;
    assert_eq!(db.sum().await, expected, "each message once");
    consumer.stop().await;
}
