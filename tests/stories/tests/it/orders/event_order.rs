//! A key's events come in the order of its versions, whoever writes.

use anyhow::{Result, ensure};
use contracts::tickets::v1::UpdateTicketRequest;
use futures_util::future::try_join_all;
use local::wait;
use stories::{Refused, SOON, World, record};
use tonic::Code;

const WRITERS: usize = 24;
const ROUNDS: usize = 6;
const TICKETS: usize = 3;

#[tokio::test]
async fn a_tickets_events_come_in_the_order_of_its_versions_under_24_concurrent_writers() -> Result<()> {
    let world = World::twofold().await?;
    let alice = world.user("alice")?;
    let tickets = try_join_all((0..TICKETS).map(|_| alice.lists("Busy", 100, 1000))).await?;

    // Half of them edit, half of them order, at both replicas, all on the same few tickets.
    let writers = (0..WRITERS).map(|writer| {
        let (world, tickets) = (&world, &tickets);
        async move {
            let name = if writer % 4 < 2 { "alice".to_owned() } else { format!("buyer-{writer}") };
            let user = world.user_at(&name, writer)?;
            for round in 0..ROUNDS {
                let ticket = &tickets[(writer + round) % TICKETS];
                if name == "alice" {
                    let title = Some(format!("Busy, as writer {writer} has it in round {round}"));
                    user.edits(UpdateTicketRequest { id: ticket.id.clone(), title, ..Default::default() }).await?;
                } else {
                    let placed = user.places(ticket, 1).await?;
                    if round % 2 == 0 {
                        user.cancels(&placed.id).await?;
                    }
                }
            }
            anyhow::Ok(())
        }
    });
    try_join_all(writers).await?;

    // 12 buyers keep the orders of every other round.
    wait::until("every order to be decided and every stock to be settled", SOON, || async {
        let now = try_join_all(tickets.iter().map(|ticket| alice.ticket(&ticket.id))).await?;
        let reserved: i32 = now.iter().map(|ticket| ticket.reserved).sum();
        ensure!(reserved == 12 * 3, "{reserved} are reserved");
        // An order that was cancelled may still have its reservation before it.
        let told = record::tickets(&world).await?;
        for ticket in &now {
            let last = told[&ticket.id].last().map(|event| event.version);
            ensure!(last == Some(ticket.version), "{last:?} of {} is told", ticket.version);
        }
        Ok(())
    })
    .await?;

    let told = record::tickets(&world).await?;
    let edits: i64 = try_join_all(tickets.iter().map(|ticket| alice.ticket(&ticket.id)))
        .await?
        .iter()
        .map(|ticket| ticket.revision - 1)
        .sum();
    assert_eq!(edits, i64::try_from(WRITERS / 2 * ROUNDS)?, "no edit is lost");
    assert!(told.values().all(|events| events.len() >= 24), "each had its share");
    record::orders(&world).await?;

    // Who edits what somebody else has edited since is told so.
    let stale = UpdateTicketRequest {
        id: tickets[0].id.clone(),
        quantity: Some(7),
        expected_revision: Some(1),
        ..Default::default()
    };
    assert_eq!(Refused::of(alice.edits(stale).await)?, Refused::new(Code::Aborted, "REVISION_MISMATCH"));
    world.end().await
}
