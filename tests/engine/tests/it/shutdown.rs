//! A process that is told to end does so in order, and nothing that it said is lost.

use engine_tests::{
    counter::v1::{CreateCounterRequest, IncrementRequest},
    domain::CounterId,
};
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::{Db, Replica, Topics, add, awaited, first_appearances, own_postgres, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_process_told_to_end_under_load_keeps_its_word_and_leaves_nothing_held() {
    let (db, topics) = (Db::new().await, Topics::new());
    topics.make_asked().await;
    let replica = Replica::of(&db.url, &topics, &[]);
    replica.process.start().await.unwrap();
    let asked = CreateCounterRequest { title: None, limit: 1_000_000, request_id: None };
    let made = replica.client().create_counter(replica.by_alice(asked)).await.unwrap();
    let id = made.into_inner().counter.unwrap().id;
    // And work from elsewhere.
    let other = CounterId::new();
    topics.put((0..500).map(|_| (0, other.to_string(), add(other, 1)))).await;

    let mut callers = JoinSet::new();
    for _ in 0..16 {
        let (mut client, id) = (replica.client(), id.clone());
        let request = replica.by_alice(IncrementRequest { id, by: None });
        callers.spawn(async move {
            let (mut acknowledged, mut unknown) = (0_i64, 0_i64);
            loop {
                let mut again = tonic::Request::new(request.get_ref().clone());
                *again.metadata_mut() = request.metadata().clone();
                match client.increment(again).await {
                    Ok(_) => acknowledged += 1,
                    Err(status) if status.code() == Code::Unavailable => break,
                    Err(_) => {
                        unknown += 1;
                        break;
                    }
                }
            }
            (acknowledged, unknown)
        });
    }
    let moved = async || db.counter(id.parse().unwrap()).await.unwrap().0;
    until("some load", moved, |value| *value > 200).await;
    let ended = replica.process.terminate().await.unwrap().unwrap();
    assert!(ended.success(), "{ended}\n{}", replica.process.log_tail());
    let told = awaited("the callers", callers.join_all()).await;
    let acknowledged: i64 = told.iter().map(|(acknowledged, _)| acknowledged).sum();
    // A caller whose connection broke is told so by its own side: at most the call under way.
    let most = acknowledged + 16;
    let value = i64::from(moved().await);
    assert!((acknowledged..=most).contains(&value), "{value} is there; {told:?}");
    assert_eq!(db.number("SELECT count(holder) FROM outbox_cursor").await, 0, "the lease is given back");
    let members = async || topics.members();
    until("the group to be left", members, |members| members.unwrap_or(0) == 0).await;
    // The relay flushed what there was.
    let events = usize::try_from(db.number("SELECT count(*) FROM outbox").await).unwrap();
    assert_eq!(first_appearances(&topics.published(events).await), events);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_told_to_end_does_so_though_its_database_answers_nothing() {
    let (_folder, postgres) = own_postgres(false, &[]).await;
    let (db, topics) = (Db::on(&postgres.url("postgres")).await, Topics::new());
    let replica = Replica::of(&db.url, &topics, &[]);
    replica.process.start().await.unwrap();
    let leading = async || db.number("SELECT count(holder) FROM outbox_cursor").await;
    until("the relay to be at work", leading, |leading| *leading == 1).await;
    // Connections stay open, and whatever is asked over them waits.
    postgres.process().pause().unwrap();
    let ended = replica.process.terminate().await.unwrap().unwrap();
    postgres.process().resume().unwrap();
    assert!(ended.success(), "{ended}\n{}", replica.process.log_tail());
    let log = std::fs::read_to_string(replica.process.log()).unwrap();
    assert!(log.contains("ends in the midst of its work"), "{log}");
}
