//! From the database to Kafka: nothing is lost, and each key's events first appear in the order of their versions.

use std::{collections::HashMap, sync::Arc};

use engine_tests::{TOPIC, domain::CounterId};
use rdkafka::admin::{AdminOptions, NewPartitions, ResourceSpecifier};
use shared::{
    command::Failure,
    kafka::{TopicConfig, ensure_topic, partition_of},
    outbox::ensure_partitions,
};
use tokio::sync::Notify;

use crate::support::{
    Db, Relaying, Replica, Topics, Writing, awaited, create, first_appearances, increment, limits, metric, own_kafka,
    until, versions_by_key,
};

/// Writes events until there are so many: counters made, and moved on by several lanes at once.
async fn write(lanes: &[Writing], counters: usize, rounds: usize) -> usize {
    let ids: Vec<_> = (0..counters).map(|_| CounterId::new()).collect();
    let made = lanes[0].submit_all(ids.iter().map(|id| create(*id))).await;
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    let all = lanes.iter().map(async |lane| {
        for _ in 0..rounds {
            let moved = lane.submit_all(ids.iter().map(|id| increment(*id, 1))).await;
            assert!(moved.iter().all(Result::is_ok), "{moved:?}");
        }
    });
    futures_util::future::join_all(all).await;
    counters * (1 + lanes.len() * rounds)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_missing_is_waited_for_and_nobodys_fault() {
    let db = Db::new().await;
    let writing = Writing::on(&db.database);
    let names =
        "SELECT string_agg(inhrelid::regclass::text, ', ') FROM pg_inherits WHERE inhparent = 'outbox'::regclass";
    let names: String = db.sql.query_one(names, &[]).await.unwrap().get(0);
    db.sql.batch_execute(&format!("DROP TABLE {names}")).await.unwrap();
    let id = CounterId::new();
    let answer = writing.submit(create(id)).await;
    assert!(matches!(answer, Err(Failure::Unavailable)), "{answer:?}");
    ensure_partitions(&db.database).await.unwrap();
    writing.done(create(id)).await;
    assert_eq!(db.number("SELECT count(*) FROM outbox").await, 1);
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_four_writers_lose_nothing_and_keep_each_keys_order() {
    let (db, elsewhere, topics) = (Db::new().await, Db::new().await, Topics::new());
    // A transaction that stays open elsewhere in the cluster, with an id of its own, must not hold anything up.
    elsewhere.sql.batch_execute("BEGIN; CREATE TABLE held (); SELECT pg_current_xact_id()").await.unwrap();
    let wake = Arc::new(Notify::new());
    let relay = Relaying::start(&db.database, &topics, 100, wake.clone());
    let limits = limits(4096, 7);
    // Some wake the relay, as those of its own process do; some don't, as those of other replicas.
    let lanes: Vec<_> = (0..24)
        .map(|number| match number % 2 {
            0 => Writing::waking(&db.database, limits, wake.clone()),
            _ => Writing::with(&db.database, limits),
        })
        .collect();
    let written = awaited("the writers", write(&lanes, 20, 5)).await;
    let published = topics.published(written).await;
    assert_eq!(first_appearances(&published), written);
    assert_eq!(published.len(), written, "without a fault nothing is repeated");
    for (partition, event) in &published {
        assert_eq!(*partition, partition_of(event.counter_id.as_bytes(), topics.new_topic.partitions));
    }
    elsewhere.sql.batch_execute("ROLLBACK").await.unwrap();
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_commits_late_is_not_passed_over() {
    let (db, topics) = (Db::new().await, Topics::new());
    let writing = Writing::on(&db.database);
    let relay = Relaying::start(&db.database, &topics, 100, Arc::new(Notify::new()));
    // Draws its sequence number first, and commits last.
    let late = db.session().await;
    let counter = CounterId::new();
    let template = writing.done(create(counter)).await.id;
    late.batch_execute(&format!(
        "BEGIN; INSERT INTO outbox (event_id, event_type, key, traceparent, payload) \
         SELECT gen_random_uuid(), event_type, 'late', traceparent, payload FROM outbox WHERE key = '{template}'"
    ))
    .await
    .unwrap();
    let written = write(&[writing], 10, 5).await;
    topics.published(written + 1).await;
    late.batch_execute("COMMIT").await.unwrap();
    let acknowledged = async || metric(&relay.metrics, "outbox_published_total");
    #[allow(clippy::cast_precision_loss, reason = "few")]
    let all = (written + 2) as f64;
    until("the late one to be published", acknowledged, |events| *events == Some(all)).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_backlog_is_worked_off_in_order_though_the_relay_is_killed_halfway() {
    let (db, topics) = (Db::new().await, Topics::new());
    let limits = limits(4096, 50);
    let lanes: Vec<_> = (0..4).map(|_| Writing::with(&db.database, limits)).collect();
    let written = awaited("the writers", write(&lanes, 100, 15)).await;
    assert!(written >= 5000);
    for _ in 0..4 {
        let before = db.number("SELECT coalesce(published_seq, 0) FROM outbox_cursor").await;
        let replica = Replica::of(&db.url, &topics, &[("RELAY_BATCH", "100")]);
        replica.process.start().await.unwrap();
        let place = "SELECT CASE WHEN target IS NULL AND published::text <> '1:1:' THEN 1000000 ELSE coalesce(published_seq, 0) END \
                     FROM outbox_cursor";
        until("the relay to get on", async || db.number(place).await, |place| *place > before + 300).await;
        replica.process.kill().await.unwrap();
    }
    let relay = Relaying::start(&db.database, &topics, 100, Arc::new(Notify::new()));
    let published = topics.published(written).await;
    assert_eq!(first_appearances(&published), written);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_while_a_large_backlog_is_worked_off_comes_after_it() {
    let (db, topics) = (Db::new().await, Topics::new());
    let lanes: Vec<_> = (0..3).map(|_| Writing::on(&db.database)).collect();
    let mut written = write(&lanes, 50, 10).await;
    let relay = Relaying::start(&db.database, &topics, 10, Arc::new(Notify::new()));
    until("the backlog to be begun", async || relay.leads(), |leads| *leads).await;
    written += awaited("more to be written", write(&lanes, 50, 10)).await;
    let published = topics.published(written).await;
    assert_eq!(first_appearances(&published), written);
    assert_eq!(published.len(), written, "without a fault nothing is repeated");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_differences_that_lie_between_each_other_are_each_published_once() {
    let (db, topics) = (Db::new().await, Topics::new());
    let template = Writing::on(&db.database).done(create(CounterId::new())).await.id;
    // Three transactions draw their sequence numbers in turn: two of them close together, the last far apart.
    let mut open = Vec::new();
    for _ in 0..3 {
        let session = db.session().await;
        session.batch_execute("BEGIN").await.unwrap();
        open.push(session);
    }
    let append = format!(
        "INSERT INTO outbox (event_id, event_type, key, traceparent, payload) \
         SELECT gen_random_uuid(), event_type, key, traceparent, payload FROM outbox WHERE key = '{template}' LIMIT 1"
    );
    let mut written = [0_u32; 3];
    for draw in 0..21 * 12 {
        let number = match draw % 21 {
            20 => 2,
            turn => turn % 2,
        };
        open[number].batch_execute(&append).await.unwrap();
        written[number] += 1;
    }
    let relay = Relaying::start(&db.database, &topics, 10, Arc::new(Notify::new()));
    let acknowledged = || metric(&relay.metrics, "outbox_published_total");
    let mut all = 1_u32;
    for (session, written) in open.iter().zip(written) {
        session.batch_execute("COMMIT").await.unwrap();
        all += written;
        let enough = |events: &Option<f64>| events.is_some_and(|events| events >= f64::from(all));
        until("a difference to be published", async || acknowledged(), enough).await;
    }
    let metrics = relay.metrics.clone();
    relay.stop().await;
    assert_eq!(metric(&metrics, "outbox_published_total"), Some(f64::from(all)), "nothing is repeated");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_or_paused_under_load_costs_neither_an_event_nor_an_order() {
    let folder = tempfile::TempDir::new().unwrap();
    let kafka = own_kafka(folder.path()).await;
    let (db, topics) = (Db::new().await, Topics::on(&kafka.brokers()));
    let relay = Relaying::start(&db.database, &topics, 50, Arc::new(Notify::new()));
    let lanes: Vec<_> = (0..3).map(|_| Writing::with(&db.database, limits(4096, 20))).collect();
    let published = async || metric(&relay.metrics, "outbox_published_total").unwrap_or(0.0);
    let strike = async {
        for kill in [true, false] {
            let before = published().await;
            until("events to flow", published, |now| *now > before + 50.0).await;
            if kill {
                kafka.process().kill().await.unwrap();
                kafka.process().start().await.unwrap();
            } else {
                kafka.process().pause().unwrap();
                // Longer than a lease lasts: it is kept meanwhile.
                let expires = "SELECT CASE WHEN isfinite(expires_at) THEN extract(epoch FROM expires_at)::bigint END FROM outbox_cursor";
                let expired = db.number(expires).await;
                until("the lease to be kept", async || db.number(expires).await, |now| *now > expired + 4).await;
                kafka.process().resume().unwrap();
            }
        }
    };
    let enough = tokio_util::sync::CancellationToken::new();
    let writing = async {
        let mut written = 0;
        // Steadily: what piles up while the broker is away is to be read back in a test's time.
        let mut pace = tokio::time::interval(std::time::Duration::from_millis(100));
        while !enough.is_cancelled() {
            pace.tick().await;
            written += write(&lanes, 10, 2).await;
        }
        written
    };
    let ((), written) = tokio::time::timeout(crate::support::PATIENCE * 2, async {
        tokio::join!(
            async {
                strike.await;
                enough.cancel();
            },
            writing
        )
    })
    .await
    .unwrap();
    let all = topics.published(written).await;
    assert_eq!(first_appearances(&all), written);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_added_to_a_topic_later_dont_move_keys() {
    let (db, topics) = (Db::new().await, Topics::new());
    let writing = Writing::on(&db.database);
    let relay = Relaying::start(&db.database, &topics, 100, Arc::new(Notify::new()));
    let ids: Vec<_> = (0..30).map(|_| CounterId::new()).collect();
    writing.submit_all(ids.iter().map(|id| create(*id))).await;
    topics.published(30).await;
    relay.stop().await;

    let name = topics.config.topic(TOPIC);
    topics.admin().create_partitions(&[NewPartitions::new(&name, 7)], &AdminOptions::new()).await.unwrap();
    let relay = Relaying::start(&db.database, &topics, 100, Arc::new(Notify::new()));
    writing.submit_all(ids.iter().map(|id| increment(*id, 1))).await;
    let published = topics.published(60).await;
    let mut places = HashMap::new();
    for (partition, event) in &published {
        assert_eq!(places.entry(&event.counter_id).or_insert(partition), &partition, "of {}", event.counter_id);
    }
    assert!(versions_by_key(&published).values().all(|versions| *versions == [1, 2]));
    assert_eq!(db.number("SELECT partitions FROM outbox_cursor").await, 3);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_made_to_keep_all_and_by_many_replicas_at_once() {
    let topics = Topics::new();
    let config = TopicConfig { partitions: 4, replication: 1 };
    let made = futures_util::future::join_all((0..8).map(|_| ensure_topic(&topics.config, TOPIC, config))).await;
    assert!(made.iter().any(|partitions| matches!(partitions, Ok(4))), "{made:?}");
    until("all to agree", async || ensure_topic(&topics.config, TOPIC, config).await.ok(), |found| *found == Some(4))
        .await;

    let name = topics.config.topic(TOPIC);
    let described =
        topics.admin().describe_configs(&[ResourceSpecifier::Topic(&name)], &AdminOptions::new()).await.unwrap();
    let described = described.into_iter().next().unwrap().unwrap();
    for (setting, expected) in
        [("cleanup.policy", "delete"), ("retention.ms", "-1"), ("message.timestamp.type", "LogAppendTime")]
    {
        let found = described.entry_map()[setting].value.clone();
        assert_eq!(found.as_deref(), Some(expected), "{setting}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_has_partitions_for_days_ahead_whoever_makes_them() {
    let db = Db::new().await;
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'outbox'::regclass";
    assert_eq!(db.number(partitions).await, 3);
    // As if those days had passed without anybody to make any.
    db.sql
        .batch_execute(
            "DO $$ DECLARE name text; BEGIN \
             FOR name IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'outbox'::regclass LOOP \
             EXECUTE 'DROP TABLE ' || name; END LOOP; END $$",
        )
        .await
        .unwrap();
    let all = (0..8).map(|_| async {
        // Whoever collides with another comes back later.
        until("the partitions", async || shared::outbox::ensure_partitions(&db.database).await.is_ok(), |made| *made)
            .await
    });
    awaited("all to agree", futures_util::future::join_all(all)).await;
    assert_eq!(db.number(partitions).await, 3);
    let covered = "SELECT count(*) FROM generate_series(0, 2) ahead WHERE to_regclass('outbox_' || \
                   to_char(now() AT TIME ZONE 'UTC' + ahead * interval '1 day', 'YYYYMMDD')) IS NOT NULL";
    assert_eq!(db.number(covered).await, 3);
    let writing = Writing::on(&db.database);
    writing.done(create(CounterId::new())).await;
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_to_be_published_is_counted_wherever_the_cursor_is() {
    // Given a replica that may not publish, for somebody who is long gone has the lease.
    let (db, topics) = (Db::new().await, Topics::new());
    let held = "UPDATE outbox_cursor SET holder = gen_random_uuid(), expires_at = 'infinity'";
    db.sql.batch_execute(held).await.unwrap();
    let replica = Replica::of(&db.url, &topics, &[("METRICS_SAMPLE_EVERY", "50ms")]);
    replica.process.start().await.unwrap();
    let waiting = async |expected: f64| {
        until(
            "the outbox to be counted",
            async || replica.metric("outbox_lag_events").await,
            |events| *events == Some(expected),
        )
        .await;
    };
    waiting(0.0).await;

    // When events are written, one of them by a transaction that was under way when all before it had been published.
    let late = db.session().await;
    let event = "INSERT INTO outbox (event_id, event_type, key, traceparent, payload) \
                 VALUES (gen_random_uuid(), 'test', gen_random_uuid()::text, \
                     '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00', '')";
    late.batch_execute(&format!("BEGIN; {event}")).await.unwrap();
    db.sql.batch_execute("UPDATE outbox_cursor SET published = pg_current_snapshot()").await.unwrap();
    waiting(0.0).await;
    late.batch_execute("COMMIT").await.unwrap();
    waiting(1.0).await;
    for _ in 0..40 {
        db.sql.batch_execute(event).await.unwrap();
    }
    waiting(41.0).await;
    let aged = async || replica.metric("outbox_lag_seconds").await;
    until("what waits to grow old", aged, |age| age.is_some_and(|age| age > 0.2)).await;

    // When half of a large difference has been worked off.
    let half = "UPDATE outbox_cursor SET target = pg_current_snapshot(), \
                published_seq = (SELECT seq FROM outbox ORDER BY seq LIMIT 1 OFFSET 19)";
    db.sql.batch_execute(half).await.unwrap();
    waiting(21.0).await;

    // Then nothing waits once it can be published.
    db.sql.batch_execute("UPDATE outbox_cursor SET expires_at = '-infinity'").await.unwrap();
    waiting(0.0).await;
    assert_eq!(replica.metric("outbox_lag_seconds").await, Some(0.0));
    assert_eq!(replica.metric("outbox_published_total").await, Some(21.0));
}
