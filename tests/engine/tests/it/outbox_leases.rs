//! One relay at a time.

use std::sync::Arc;

use engine_tests::domain::CounterId;
use tokio::sync::Notify;

use crate::support::{
    Db, Relaying, Replica, Topics, Writing, awaited, create, first_appearances, increment, own_kafka, until,
};

const EPOCH: &str = "SELECT epoch FROM outbox_cursor";
const HELD: &str = "SELECT count(holder) FROM outbox_cursor";

#[tokio::test(flavor = "multi_thread")]
async fn of_two_relays_one_leads_and_gives_its_lease_back_when_it_ends_for_the_other_to_take_over() {
    let (db, topics) = (Db::new().await, Topics::new());
    let relays: Vec<_> = (0..2).map(|_| Relaying::start(&db.database, &topics, 100, Arc::new(Notify::new()))).collect();
    let leading = async || relays.iter().filter(|relay| relay.leads()).count();
    until("a leader", leading, |leaders| *leaders == 1).await;
    let writing = Writing::on(&db.database);
    let ids: Vec<_> = (0..20).map(|_| CounterId::new()).collect();
    writing.submit_all(ids.iter().map(|id| create(*id))).await;
    topics.published(20).await;
    assert_eq!((leading().await, db.number(EPOCH).await), (1, 1));

    let (leader, follower): (Vec<_>, Vec<_>) = relays.into_iter().partition(Relaying::leads);
    for relay in leader {
        relay.stop().await;
    }
    // Not merely left to run out.
    assert_eq!(db.number("SELECT count(*) FROM outbox_cursor WHERE holder IS NOT NULL AND epoch = 1").await, 0);
    until("the other to lead", async || follower[0].leads(), |leads| *leads).await;
    writing.submit_all(ids.iter().map(|id| increment(*id, 1))).await;
    let published = topics.published(40).await;
    assert_eq!(first_appearances(&published), 40);
    for relay in follower {
        relay.stop().await;
    }
    assert_eq!(db.number(HELD).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_stopped_past_its_lease_and_wakes_puts_nothing_out_of_order() {
    let (db, topics) = (Db::new().await, Topics::new());
    let zombie = Replica::of(&db.url, &topics, &[("RELAY_BATCH", "20")]);
    zombie.process.start().await.unwrap();
    until("the lease to be taken", async || db.number(HELD).await, |held| *held == 1).await;
    let writing = Writing::on(&db.database);
    let ids: Vec<_> = (0..20).map(|_| CounterId::new()).collect();
    writing.submit_all(ids.iter().map(|id| create(*id))).await;
    let mut written = 20;
    let other = Relaying::start(&db.database, &topics, 20, Arc::new(Notify::new()));
    for turn in 0..2 {
        // In the middle of its work.
        for _ in 0..20 {
            writing.submit_all(ids.iter().map(|id| increment(*id, 1))).await;
            written += 20;
        }
        let epoch = db.number(EPOCH).await;
        if turn == 0 {
            zombie.process.pause().unwrap();
            until("the other to lead", async || other.leads(), |leads| *leads).await;
            assert!(db.number(EPOCH).await > epoch);
        }
        for _ in 0..20 {
            writing.submit_all(ids.iter().map(|id| increment(*id, 1))).await;
            written += 20;
        }
        if turn == 0 {
            zombie.process.resume().unwrap();
            let failed = async || zombie.metric("outbox_lease_held").await;
            until("the one that woke to step down", failed, |held| *held == Some(0.0)).await;
        }
    }
    let published = topics.published(written).await;
    assert_eq!(first_appearances(&published), written);
    assert!(other.leads(), "who leads goes on");
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whom_the_broker_does_not_answer_gives_another_its_turn() {
    let folder = tempfile::TempDir::new().unwrap();
    let kafka = own_kafka(folder.path()).await;
    let (db, topics) = (Db::new().await, Topics::on(&kafka.brokers()));
    let relays: Vec<_> = (0..2).map(|_| Relaying::start(&db.database, &topics, 100, Arc::new(Notify::new()))).collect();
    let writing = Writing::on(&db.database);
    let ids: Vec<_> = (0..20).map(|_| CounterId::new()).collect();
    writing.submit_all(ids.iter().map(|id| create(*id))).await;
    topics.published(20).await;
    let holder = async || -> Option<String> {
        db.sql.query_one("SELECT holder::text FROM outbox_cursor", &[]).await.unwrap().get(0)
    };
    let first = holder().await;
    kafka.process().pause().unwrap();
    writing.submit_all(ids.iter().map(|id| increment(*id, 1))).await;
    until("another to hold the lease", holder, |now| now.is_some() && *now != first).await;
    kafka.process().resume().unwrap();
    let published = topics.published(40).await;
    assert_eq!(first_appearances(&published), 40);
    for relay in relays {
        relay.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_ends_soon_though_others_keep_writing() {
    let (db, topics) = (Db::new().await, Topics::new());
    let relay = Relaying::start(&db.database, &topics, 100, Arc::new(Notify::new()));
    let writing = Writing::on(&db.database);
    let ids: Vec<_> = (0..20).map(|_| CounterId::new()).collect();
    writing.submit_all(ids.iter().map(|id| create(*id))).await;
    topics.published(20).await;
    let load = async {
        loop {
            writing.submit_all(ids.iter().map(|id| increment(*id, 1))).await;
        }
    };
    tokio::select! {
        () = awaited("the relay to end", relay.stop()) => {}
        () = load => {}
    }
    assert_eq!(db.number(HELD).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_that_takes_longer_to_list_than_a_lease_lasts_stays_with_its_leader() {
    const EVENTS: usize = 500;
    let (db, topics) = (Db::new().await, Topics::new());
    let writing = Writing::on(&db.database);
    writing.submit_all((0..EVENTS).map(|_| create(CounterId::new()))).await;
    // What lists asks for each event: five seconds in all.
    let slow = "\
        CREATE FUNCTION public.pg_visible_in_snapshot(xid xid8, snapshot pg_snapshot) RETURNS boolean LANGUAGE plpgsql AS $$ \
            BEGIN PERFORM pg_sleep(0.01); RETURN pg_catalog.pg_visible_in_snapshot(xid, snapshot); END $$; \
        DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$";
    db.session().await.batch_execute(slow).await.unwrap();
    let relays: Vec<_> = (0..2).map(|_| Relaying::start(&db.database, &topics, 100, Arc::new(Notify::new()))).collect();
    let published = topics.published(EVENTS).await;
    assert_eq!(first_appearances(&published), EVENTS);
    assert_eq!(db.number(EPOCH).await, 1, "it has changed hands");
    for relay in relays {
        relay.stop().await;
    }
}
