//! Watching, by real processes: whichever replica writes, and whatever becomes of the broker meanwhile.

use engine_tests::counter::v1::{CreateCounterRequest, IncrementRequest, WatchCounterRequest, WatchCounterResponse};
use tonic::Streaming;

use crate::support::{Db, Replica, Topics, awaited};

/// Reads on until the counter has this value; what was told on the way, in versions that only grow.
async fn until_value(story: &mut Streaming<WatchCounterResponse>, value: i32) -> usize {
    let (mut told, mut version) = (0, 0);
    loop {
        let message = awaited("the next state", story.message()).await.unwrap().expect("it never ends by itself");
        let counter = message.counter.unwrap();
        assert!(counter.version > version, "after version {version} comes {counter:?}");
        (told, version) = (told + 1, counter.version);
        if counter.value == value {
            return told;
        }
    }
}

async fn created(replica: &Replica) -> String {
    let asked = CreateCounterRequest { title: None, limit: 1_000_000, request_id: None };
    let made = replica.client().create_counter(replica.by_alice(asked)).await.unwrap();
    made.into_inner().counter.unwrap().id
}

async fn watched(replica: &Replica, id: &str) -> Streaming<WatchCounterResponse> {
    let request = replica.by_alice(WatchCounterRequest { id: id.to_owned() });
    replica.client().watch_counter(request).await.unwrap().into_inner()
}

async fn increment(replica: &Replica, id: &str, times: i32) {
    let mut client = replica.client();
    for _ in 0..times {
        client.increment(replica.by_alice(IncrementRequest { id: id.to_owned(), by: None })).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_sees_what_another_replica_writes_and_a_late_reader_the_newest() {
    let (db, topics) = (Db::new().await, Topics::new());
    topics.make_asked().await;
    let [here, there] = [Replica::of(&db.url, &topics, &[]), Replica::of(&db.url, &topics, &[])];
    here.process.start().await.unwrap();
    there.process.start().await.unwrap();
    let id = created(&here).await;

    let (mut live, mut late) = (watched(&there, &id).await, watched(&there, &id).await);
    assert_eq!(until_value(&mut live, 0).await, 1, "the present state comes first");
    increment(&here, &id, 50).await;
    until_value(&mut live, 50).await;
    assert!(until_value(&mut late, 50).await <= 51, "no state twice");

    // Both are gone: somebody new begins with the present state, whether the topic is still being read or not.
    drop((live, late));
    assert_eq!(until_value(&mut watched(&there, &id).await, 50).await, 1);
}
