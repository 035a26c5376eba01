//! From Kafka to the database, where somebody else has moved the offset meanwhile.

use std::path::Path;

use engine_tests::domain::CounterId;
use local::{
    ports::Port,
    postgres::{Postgres, PostgresConfig},
    tools::Tools,
};

use crate::support::{Consuming, Db, Topics, add, metric, unknown, until};

/// The value that the table's own rule forbids.
const FORBIDDEN: i32 = 999_666;

async fn own_postgres(folder: &Path) -> Postgres {
    let port = Port::free().unwrap();
    let config = PostgresConfig { dir: folder.join("postgres"), port, fsync: false, settings: vec![] };
    let postgres = Postgres::create(&Tools::from_env().unwrap(), config).await.unwrap();
    postgres.process().start().await.unwrap();
    postgres
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_behind_a_fenced_message_in_its_batch_is_done_after_it() {
    let folder =
        tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    let postgres = own_postgres(folder.path()).await;
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
