//! Request ids: the same one is done once.

use engine_tests::domain::{Command, CounterId};
use shared::command::{Claim, Done, Envelope, Failure};
use uuid::Uuid;

use crate::support::{Db, Writing, alice, asked, create, increment, titled};

fn once(id: CounterId, request: Uuid, content: &str) -> Envelope<Command> {
    create(id).with_claim(Some(Claim::new("alice", "CreateCounter", request, content.as_bytes(), id.uuid())))
}

/// The counter that the answer is about.
fn about(answer: &crate::support::Answer) -> Uuid {
    match answer {
        Ok(Done::Now(Some(counter))) => counter.id.uuid(),
        Ok(Done::Before(id)) => *id,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_given_fifty_times_to_two_replicas_is_done_once() {
    let db = Db::new().await;
    let (one, two) = (Writing::on(&db.database), Writing::on(&db.database));
    for _ in 0..10 {
        let request = Uuid::new_v4();
        let before = db.number("SELECT count(*) FROM counters").await;
        let (mut first, second) = tokio::join!(
            one.submit_all((0..25).map(|_| once(CounterId::new(), request, "same"))),
            two.submit_all((0..25).map(|_| once(CounterId::new(), request, "same"))),
        );
        first.extend(second);
        let made = about(&first[0]);
        assert!(first.iter().all(|answer| about(answer) == made), "{first:?}");
        assert_eq!(db.number("SELECT count(*) FROM counters").await, before + 1);
        assert!(db.counter(CounterId::from_uuid(made)).await.is_some());
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_with_another_content_is_told_so() {
    let db = Db::new().await;
    let writing = Writing::on(&db.database);
    let request = Uuid::new_v4();
    let first = CounterId::new();
    writing.done(once(first, request, "this")).await;
    let reused = writing.submit(once(CounterId::new(), request, "that")).await;
    assert_eq!(reused.unwrap_err(), Failure::RequestIdReused);
    // Of another caller, or for another RPC, it is another request.
    for (caller, rpc) in [("bob", "CreateCounter"), ("alice", "Other")] {
        let id = CounterId::new();
        let claim = Claim::new(caller, rpc, request, b"that", id.uuid());
        writing.done(create(id).with_claim(Some(claim))).await;
    }
    // In one batch.
    let request = Uuid::new_v4();
    let answers = writing
        .submit_all((0..20).map(|n| once(CounterId::new(), request, if n % 2 == 0 { "this" } else { "that" })))
        .await;
    let reused = answers.iter().filter(|answer| matches!(answer, Err(Failure::RequestIdReused))).count();
    assert_eq!(reused, 10, "{answers:?}");
    assert_eq!(db.number("SELECT count(*) FROM counters").await, 4);
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_refused_may_be_made_again() {
    let db = Db::new().await;
    let writing = Writing::on(&db.database);
    let (id, request) = (CounterId::new(), Uuid::new_v4());
    let claimed = |resource: Uuid| {
        increment(id, 1).with_claim(Some(Claim::new("alice", "Increment", request, b"by 1", resource)))
    };
    for _ in 0..2 {
        let refused = writing.submit_all((0..10).map(|_| claimed(Uuid::new_v4()))).await;
        for answer in &refused {
            assert!(matches!(answer, Err(Failure::Refused(_))), "{refused:?}");
        }
    }
    assert_eq!(db.number("SELECT count(*) FROM request_ids").await, 0);
    writing.done(create(id)).await;
    writing.done(claimed(id.uuid())).await;
    let again = writing.submit(claimed(id.uuid().max(Uuid::new_v4()))).await;
    assert!(matches!(again, Ok(Done::Before(resource)) if resource == id.uuid()), "{again:?}");
    assert_eq!(db.counter(id).await, Some((1, 2)));
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_repeats_a_request_that_was_not_done_is_not_told_that_it_was() {
    let db = Db::new().await;
    let writing = Writing::on(&db.database);
    // In one batch with the first, which panics or which the database rejects.
    for title in ["panic", "zero \u{0} inside"] {
        let request = Uuid::new_v4();
        let answers = writing
            .submit_all((0..10).map(|_| {
                let id = CounterId::new();
                titled(id, title).with_claim(Some(Claim::new(
                    "alice",
                    "CreateCounter",
                    request,
                    title.as_bytes(),
                    id.uuid(),
                )))
            }))
            .await;
        for answer in &answers {
            assert!(matches!(answer, Err(Failure::Internal)), "{title:?}: {answers:?}");
        }
    }
    assert_eq!(db.number("SELECT count(*) FROM request_ids").await, 0);
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_of_a_batch_claims_and_a_sound_one_behind_a_refused_one_is_done() {
    let db = Db::new().await;
    let writing = Writing::on(&db.database);
    for _ in 0..20 {
        let (missing, request) = (CounterId::new(), Uuid::new_v4());
        // The first is refused; the second, of another content, is then the first of its kind.
        let made = CounterId::new();
        let refused = asked(Command::Increment { id: missing, caller: alice(), by: 1 });
        let refused = refused.with_claim(Some(Claim::new("alice", "Any", request, b"one", Uuid::new_v4())));
        let sound = create(made).with_claim(Some(Claim::new("alice", "Any", request, b"two", made.uuid())));
        let answers = writing.submit_all([refused, sound]).await;
        assert!(matches!(answers[0], Err(Failure::Refused(_)) | Err(Failure::RequestIdReused)), "{answers:?}");
        assert!(matches!(answers[1], Ok(Done::Now(Some(_)))), "{answers:?}");
    }
    writing.stop().await;
}
