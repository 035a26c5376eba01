//! From Kafka to the database, in one process: effects are there once, and what can't be handled stops its partition
//! there and then.

use engine_tests::{
    domain::{CounterId, PANICS},
    events::{DEADLY, UNREADABLE},
};

use crate::support::{Consuming, Db, Topics, add, awaited, metric, unknown, until};

/// So many messages of 1 each on a partition, over a few counters; the counters.
async fn put(topics: &Topics, partition: i32, messages: usize) -> Vec<CounterId> {
    let ids: Vec<_> = (0..5).map(|_| CounterId::new()).collect();
    topics.put((0..messages).map(|n| (partition, ids[n % 5].to_string(), add(ids[n % 5], 1)))).await;
    ids
}

async fn eventually(db: &Db, expected: i64) {
    until("the effects", async || db.sum().await, |sum| *sum >= expected).await;
    assert_eq!(db.sum().await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_group_begins_at_the_beginning_and_tells_kafka_how_far_it_is() {
    let (db, topics) = (Db::new().await, Topics::new());
    topics.make_asked().await;
    for partition in 0..3 {
        put(&topics, partition, 400).await;
    }
    let consumer = Consuming::start(&db.database, &topics, 100);
    eventually(&db, 1200).await;
    db.assert_versions_have_no_gap().await;
    for partition in 0..3 {
        assert_eq!(db.offset(partition).await, 400);
        let told = async || topics.told(partition);
        until("Kafka to be told", told, |told| *told == Some(400)).await;
    }
    let transactions = metric(&consumer.metrics, r#"write_batch_units_count{lane="counter-events"}"#).unwrap();
    assert!(transactions < 120.0, "{transactions} transactions for 1200 messages");
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_transactions_are_at_it_while_more_waits_than_one_takes_and_one_else() {
    let (db, topics) = (Db::new().await, Topics::new());
    topics.make_asked().await;
    let writers = async || db.number("SELECT count(*) FROM writers WHERE batch > 0").await;
    let consumer = Consuming::start(&db.database, &topics, 100);
    for partition in 0..3 {
        put(&topics, partition, 20).await;
    }
    eventually(&db, 60).await;
    assert_eq!(writers().await, 1);
    consumer.stop().await;

    for partition in 0..3 {
        put(&topics, partition, 1000).await;
    }
    let consumer = Consuming::start(&db.database, &topics, 100);
    eventually(&db, 3060).await;
    assert_eq!(writers().await, 1 + 2, "those of both consumers");
    for partition in 0..3 {
        assert_eq!(db.offset(partition).await, 1020);
    }
    db.assert_versions_have_no_gap().await;
    let lane = r#"lane="counter-events""#;
    let small = metric(&consumer.metrics, &format!(r#"write_batch_units_bucket{{le="128.0",{lane}}}"#)).unwrap();
    let all = metric(&consumer.metrics, &format!("write_batch_units_count{{{lane}}}")).unwrap();
    assert_eq!(small, all, "none took more than 100 messages");
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_isnt_there_yet_is_read_once_it_is() {
    let (db, topics) = (Db::new().await, Topics::new());
    let consumer = Consuming::start(&db.database, &topics, 100);
    topics.make_asked().await;
    put(&topics, 0, 50).await;
    eventually(&db, 50).await;
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_comes_back_goes_on_where_the_database_is_whatever_kafka_was_told() {
    let (db, topics) = (Db::new().await, Topics::new());
    topics.make_asked().await;
    put(&topics, 0, 100).await;
    let consumer = Consuming::start(&db.database, &topics, 10);
    eventually(&db, 100).await;
    consumer.stop().await;
    put(&topics, 0, 100).await;
    // As if restored from an earlier time.
    db.sql.batch_execute("UPDATE inbox_offsets SET next_offset = 60 WHERE partition = 0").await.unwrap();
    let consumer = Consuming::start(&db.database, &topics, 10);
    eventually(&db, 240).await;
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_not_known_is_passed_over_and_counted() {
    let (db, topics) = (Db::new().await, Topics::new());
    topics.make_asked().await;
    let id = CounterId::new();
    let messages = [add(id, 1), unknown(id), unknown(id), add(id, 1)];
    topics.put(messages.map(|payload| (0, id.to_string(), payload))).await;
    let consumer = Consuming::start(&db.database, &topics, 100);
    eventually(&db, 2).await;
    until("the offset", async || db.offset(0).await, |next| *next == 4).await;
    assert_eq!(metric(&consumer.metrics, r#"inbox_passed_over_total{group="counter-events"}"#), Some(2.0));
    consumer.stop().await;
}

/// A message that can't be handled, after ten that can be, and before ten more.
async fn stops_at(bad: impl Fn(CounterId) -> Vec<u8>) {
    let (db, topics) = (Db::new().await, Topics::new());
    topics.make_asked().await;
    let id = CounterId::new();
    let messages = (0..21).map(|n| (1, id.to_string(), if n == 10 { bad(id) } else { add(id, 1) }));
    topics.put(messages).await;
    put(&topics, 0, 200).await;
    let consumer = Consuming::start(&db.database, &topics, 100);

    until("the partition to stop", async || consumer.stopped(1), |stopped| *stopped == Some(true)).await;
    eventually(&db, 210).await;
    // The others go on.
    put(&topics, 0, 200).await;
    put(&topics, 2, 200).await;
    eventually(&db, 610).await;
    assert_eq!(db.offset(1).await, 10, "exactly there");
    assert_eq!(consumer.stopped(0), Some(false));
    assert_eq!(db.counter(id).await, Some((10, 11)));
    consumer.stop().await;

    // Who comes after it stops there, too.
    let consumer = Consuming::start(&db.database, &topics, 100);
    until("the partition to stop again", async || consumer.stopped(1), |stopped| *stopped == Some(true)).await;
    // Until an operator says so.
    consumer.stop().await;
    db.sql.batch_execute("UPDATE inbox_offsets SET next_offset = 11 WHERE partition = 1").await.unwrap();
    let consumer = Consuming::start(&db.database, &topics, 100);
    eventually(&db, 620).await;
    assert_eq!(db.counter(id).await, Some((20, 21)));
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cant_be_decoded_stops_its_partition_there() {
    stops_at(|_| b"\xffno protobuf".to_vec()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_about_no_counter_stops_its_partition_there() {
    stops_at(|_| engine_tests::counter::v1::CounterCommand { counter_id: "x".to_owned(), change: None }.encode()).await;
}

trait Encode {
    fn encode(&self) -> Vec<u8>;
}
impl<T: prost::Message> Encode for T {
    fn encode(&self) -> Vec<u8> {
        self.encode_to_vec()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_panics_its_reader_stops_its_partition_there() {
    stops_at(|_| UNREADABLE.to_vec()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_whose_thread_dies_ends_rather_than_fall_silent() {
    let (db, topics) = (Db::new().await, Topics::new());
    topics.make_asked().await;
    let consumer = Consuming::start(&db.database, &topics, 100);
    put(&topics, 0, 10).await;
    eventually(&db, 10).await;
    topics.put([(0, CounterId::new().to_string(), DEADLY.to_vec())]).await;
    // The engine ends the whole process by that, as by any part that ends.
    consumer.ended().await;
    assert_eq!(db.offset(0).await, 10, "the message is still to be handled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_the_rules_forbid_stops_its_partition_there() {
    stops_at(|id| add(id, -1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_panics_stops_its_partition_there() {
    stops_at(|id| add(id, PANICS)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_the_database_rejects_stops_its_partition_there() {
    // About a counter of its own: what is saved, and judged, is a counter's state after the whole batch.
    stops_at(|_| add(CounterId::new(), 999_666)).await;
}

/// A topic of one partition, and a consumer of it that has handled a hundred messages.
async fn with_a_hundred_handled() -> (Db, Topics, Consuming) {
    let (db, topics) = (Db::new().await, Topics::new().with_partitions(1));
    topics.make_asked().await;
    put(&topics, 0, 100).await;
    let consumer = Consuming::start(&db.database, &topics, 100);
    eventually(&db, 100).await;
    (db, topics, consumer)
}

async fn make_anew(topics: &Topics) {
    topics.delete_asked().await;
    until(
        "the topic to be made anew",
        async || {
            topics.make_asked().await;
            topics.end_of("counter-commands", 0)
        },
        |end| *end == 0,
    )
    .await;
}

/// A topic of which a hundred messages were handled, and that is made anew, with so many, before it is read again.
async fn stops_on_a_topic_made_anew_with(messages: usize) {
    let (db, topics, consumer) = with_a_hundred_handled().await;
    consumer.stop().await;
    make_anew(&topics).await;
    put(&topics, 0, messages).await;
    let consumer = Consuming::start(&db.database, &topics, 100);
    until("the partition to stop", async || consumer.stopped(0), |stopped| *stopped == Some(true)).await;
    assert_eq!((db.sum().await, db.offset(0).await), (100, 100));
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_stops_its_partitions_rather_than_being_skipped() {
    stops_on_a_topic_made_anew_with(20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_that_has_grown_past_the_offset_since_stops_its_partitions_too() {
    stops_on_a_topic_made_anew_with(300).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_whose_past_is_gone_is_read_on() {
    let (db, topics, consumer) = with_a_hundred_handled().await;
    consumer.stop().await;
    // A part of what was read, and then all of it.
    for before in [50, 120] {
        topics.delete_before(0, before).await;
        let begun = db.sum().await;
        put(&topics, 0, 20).await;
        let consumer = Consuming::start(&db.database, &topics, 100);
        eventually(&db, begun + 20).await;
        assert_eq!(consumer.stopped(0), Some(false));
        consumer.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_under_a_consumer_stops_its_partitions() {
    let (db, topics, consumer) = with_a_hundred_handled().await;
    make_anew(&topics).await;
    put(&topics, 0, 20).await;
    until("the partition to stop", async || consumer.stopped(0), |stopped| *stopped == Some(true)).await;
    assert_eq!((db.sum().await, db.offset(0).await), (100, 100));
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_cut_ahead_of_what_is_read_stops_there_and_no_other() {
    let (db, topics) = (Db::new().await, Topics::new());
    topics.make_asked().await;
    let ids = put(&topics, 0, 10).await;
    let consumer = Consuming::start(&db.database, &topics, 100);
    eventually(&db, 10).await;
    // Given a partition that waits for a lock and isn't read meanwhile, as others are that come later.
    let stranger = db.locking([ids[2]]).await;
    topics.put(ids.iter().map(|id| (0, id.to_string(), add(*id, 1)))).await;
    until("the partition to come to the lock", async || db.offset(0).await, |offset| *offset == 12).await;
    put(&topics, 1, 10).await;
    eventually(&db, 10 + 2 + 10).await;
    // When what comes next of it is cut off.
    put(&topics, 0, 30).await;
    topics.delete_before(0, 40).await;
    stranger.batch_execute("COMMIT").await.unwrap();
    // Then all that was read is done, and nothing behind what is missing; and the others go on.
    until("the partition to stop", async || consumer.stopped(0), |stopped| *stopped == Some(true)).await;
    assert_eq!(db.offset(0).await, 15);
    put(&topics, 1, 10).await;
    eventually(&db, 15 + 20).await;
    assert_eq!((consumer.stopped(1), db.offset(1).await), (Some(false), 20));
    db.assert_versions_have_no_gap().await;
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_a_stranger_locks_holds_its_partition_and_no_other() {
    let (db, topics) = (Db::new().await, Topics::new());
    topics.make_asked().await;
    let ids = put(&topics, 0, 100).await;
    let consumer = Consuming::start(&db.database, &topics, 100);
    eventually(&db, 100).await;
    let stranger = db.locking([ids[2]]).await;

    // The partition comes to the locked one after two others.
    topics.put((0..50).map(|n| (0, ids[n % 5].to_string(), add(ids[n % 5], 1)))).await;
    for _ in 0..3 {
        let before = db.sum().await;
        put(&topics, 1, 100).await;
        put(&topics, 2, 100).await;
        until("the others to go on", async || db.sum().await, |sum| *sum >= before + 200).await;
    }
    assert!(db.offset(0).await <= 102, "what is locked is not passed");
    // More of it meanwhile.
    topics.put((0..50).map(|n| (0, ids[n % 5].to_string(), add(ids[n % 5], 1)))).await;
    stranger.batch_execute("COMMIT").await.unwrap();
    eventually(&db, 100 + 600 + 100).await;
    assert_eq!(db.offset(0).await, 200);
    assert_eq!(consumer.stopped(0), Some(false));
    for id in ids {
        assert_eq!(db.counter(id).await.unwrap().0, 40, "each of them once, in their order");
    }
    db.assert_versions_have_no_gap().await;
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_share_the_partitions_and_one_that_leaves_leaves_them_to_the_other() {
    let (db, topics) = (Db::new().await, Topics::new().with_partitions(4));
    topics.make_asked().await;
    let (one, two) = (Consuming::start(&db.database, &topics, 50), Consuming::start(&db.database, &topics, 50));
    let assigned = |consumer: &Consuming| (0..4).filter(|one| consumer.next(*one).is_some()).count();
    until("both to have some", async || (assigned(&one), assigned(&two)), |found| *found == (2, 2)).await;
    for partition in 0..4 {
        put(&topics, partition, 300).await;
    }
    eventually(&db, 1200).await;
    one.stop().await;
    until("the other to have all", async || assigned(&two), |found| *found == 4).await;
    for partition in 0..4 {
        put(&topics, partition, 300).await;
    }
    eventually(&db, 2400).await;
    db.assert_versions_have_no_gap().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rebalances_under_load_lose_nothing_and_repeat_nothing() {
    let (db, topics) = (Db::new().await, Topics::new().with_partitions(4));
    topics.make_asked().await;
    let steady = Consuming::start(&db.database, &topics, 20);
    let mut expected = 0;
    for _ in 0..6 {
        let guest = Consuming::start(&db.database, &topics, 20);
        for partition in 0..4 {
            put(&topics, partition, 500).await;
            expected += 500;
        }
        let before = db.sum().await;
        until("some progress", async || db.sum().await, |sum| *sum >= (before + 200).min(expected)).await;
        guest.stop().await;
    }
    eventually(&db, expected).await;
    db.assert_versions_have_no_gap().await;
    awaited("the end", steady.stop()).await;
}
