//! Replicas that start together on an empty database take turns.

use engine_tests::counter::v1::CreateCounterRequest;

use crate::support::{Db, Replica, Topics};

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_start_at_once_on_an_empty_database_both_become_ready() {
    let (db, topics) = (Db::empty().await, Topics::new());
    let replicas = [Replica::of(&db.url, &topics, &[]), Replica::of(&db.url, &topics, &[])];
    let (one, two) = tokio::join!(replicas[0].process.start(), replicas[1].process.start());
    one.unwrap();
    two.unwrap();
    for replica in &replicas {
        let asked = CreateCounterRequest { title: None, limit: 3, request_id: None };
        replica.client().create_counter(replica.by_alice(asked)).await.unwrap();
    }
    assert_eq!(db.number("SELECT count(*) FROM counters").await, 2);
    for replica in &replicas {
        let ended = replica.process.terminate().await.unwrap().unwrap();
        assert!(ended.success(), "{ended}\n{}", replica.process.log_tail());
    }
}
