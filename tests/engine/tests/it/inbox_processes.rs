//! From Kafka to the database, by processes that are killed or stopped in their tracks.

use engine_tests::{domain::CounterId, events::DEADLY};

use crate::support::{Db, Random, Replica, Topics, add, awaited, until};

async fn sum(db: &Db) -> i64 {
    db.number("SELECT coalesce(sum(value), 0) FROM counters").await
}

/// So many messages of 1 each on each of three partitions.
async fn put(topics: &Topics, ids: &[CounterId], messages: usize) {
    let all = (0..3).flat_map(|partition| (0..messages).map(move |n| (partition, n)));
    // A counter's messages are all on one partition.
    let message = |(partition, n): (i32, usize)| {
        let id = ids[(n % 10) * 3 + usize::try_from(partition).unwrap()];
        (partition, id.to_string(), add(id, 1))
    };
    topics.put(all.map(message)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_that_are_killed_again_and_again_leave_each_effect_once() {
    let (db, topics) = (Db::new().await, Topics::new());
    topics.make_asked().await;
    let ids: Vec<_> = (0..30).map(|_| CounterId::new()).collect();
    let settings = [("CONSUMER_BATCH", "10")];
    let replicas = [Replica::of(&db.url, &topics, &settings), Replica::of(&db.url, &topics, &settings)];
    for replica in &replicas {
        replica.process.start().await.unwrap();
    }
    let mut random = Random::seeded(7);
    let mut expected = 0;
    for _ in 0..4 {
        put(&topics, &ids, 1000).await;
        expected += 3000;
        let before = sum(&db).await;
        let some = i64::try_from(random.below(1000)).unwrap();
        until("some effects", async || sum(&db).await, |sum| *sum >= (before + some).min(expected)).await;
        let victim = &replicas[usize::try_from(random.below(2)).unwrap()];
        victim.process.kill().await.unwrap();
        victim.process.spawn().unwrap();
    }
    until("all effects", async || sum(&db).await, |sum| *sum >= expected).await;
    assert_eq!(sum(&db).await, expected);
    db.assert_versions_have_no_gap().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_slept_past_its_session_is_fenced_and_repeats_nothing() {
    let (db, topics) = (Db::new().await, Topics::new());
    topics.make_asked().await;
    let ids: Vec<_> = (0..30).map(|_| CounterId::new()).collect();
    let zombie = Replica::of(&db.url, &topics, &[("CONSUMER_BATCH", "10")]);
    zombie.process.start().await.unwrap();
    put(&topics, &ids, 1000).await;
    until("some effects", async || sum(&db).await, |sum| *sum >= 100).await;
    zombie.process.pause().unwrap();
    let heir = Replica::of(&db.url, &topics, &[("CONSUMER_BATCH", "10")]);
    heir.process.start().await.unwrap();
    let slept = sum(&db).await;
    // The group waits for the sleeper's session, and the database for its transaction.
    until("the heir to go on", async || sum(&db).await, |sum| *sum >= slept + 500).await;
    zombie.process.resume().unwrap();
    // What it was at, or had read ahead, others have done by now.
    let fenced = async || zombie.metric("inbox_fenced_total{group=\"counter-events\"}").await;
    until("the sleeper to be fenced", fenced, |fenced| fenced.is_some_and(|times| times > 0.0)).await;
    put(&topics, &ids, 1000).await;
    until("all effects", async || sum(&db).await, |sum| *sum >= 6000).await;
    assert_eq!(sum(&db).await, 6000);
    db.assert_versions_have_no_gap().await;
    for partition in 0..3 {
        let next = format!("SELECT next_offset FROM inbox_offsets WHERE partition = {partition}");
        assert_eq!(db.number(&next).await, 2000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_consumer_dies_says_so_in_lines_for_machines_and_ends_for_another_to_begin() {
    let (db, topics) = (Db::new().await, Topics::new());
    topics.make_asked().await;
    let replica = Replica::of(&db.url, &topics, &[]);
    replica.process.start().await.unwrap();
    topics.put([(0, CounterId::new().to_string(), DEADLY.to_vec())]).await;
    let ended = awaited("the process to end by itself", replica.process.ended()).await.unwrap();
    assert_eq!(ended.code(), Some(1), "{}", replica.process.log_tail());
    let log = std::fs::read_to_string(replica.process.log()).unwrap();
    let said: Vec<serde_json::Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    for message in ["panicked", "the thread that polls ended by itself", "ending"] {
        assert!(said.iter().any(|line| line["message"] == message && line["level"] == "ERROR"), "{message}?\n{log}");
    }
    // The last word is for whoever has started it.
    assert_eq!(log.lines().count(), said.len() + 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_asked_seldom_shows_how_it_is_now_and_not_how_it_was() {
    let (db, topics) = (Db::new().await, Topics::new());
    topics.make_asked().await;
    // librdkafka has told four times in between.
    let replica = Replica::of(&db.url, &topics, &[("METRICS_SAMPLE_EVERY", "20s")]);
    replica.process.start().await.unwrap();
    let requests = async || replica.metric(r#"kafka_requests_total{client="lag"}"#).await.unwrap_or_default();
    let first = until("its first requests", requests, |requests| *requests > 0.0).await;
    until("the next, a sample later", requests, |requests| *requests > first).await;
}
