//! An order is charged once, however often and wherever its buyer pays.

use anyhow::{Result, ensure};
use contracts::{
    orders::v1::OrderStatus,
    payments::v1::{CreatePaymentRequest, PaymentStatus},
};
use futures_util::future::join_all;
use stories::{Ledger, Refused, User, World, ledger, record};
use tonic::Code;
use uuid::Uuid;

const AT_ONCE: usize = 16;

#[tokio::test]
async fn of_sixteen_payments_of_one_order_at_once_at_two_replicas_one_is_charged() -> Result<()> {
    let world = World::twofold().await?;
    let (alice, bobs, ledger) = (world.user("alice")?, at_both(&world, "bob")?, Ledger::of(&world)?);
    let ticket = alice.lists("Concert", 29900, 50).await?;
    for _ in 0..5 {
        let order = bobs[0].places(&ticket, 1).await?;

        let calls = (0..AT_ONCE).map(|number| bobs[number % 2].pays_as(request(&order.id, Uuid::new_v4())));
        let answers = join_all(calls).await;

        let mut paid = Vec::new();
        for answer in answers {
            match answer {
                Ok(payment) => paid.push(payment),
                Err(status) => {
                    let refused = Refused::of::<()>(Err(status))?;
                    let fair = ["ALREADY_PAID", "PAYMENT_IN_PROGRESS"].contains(&refused.reason.as_str());
                    ensure!(refused.code == Code::FailedPrecondition && fair, "{refused:?}");
                }
            }
        }
        assert_eq!(paid.len(), 1, "{paid:?}");
        bobs[1].awaits_payment(&order.id, PaymentStatus::Succeeded).await?;
        let completed = bobs[1].awaits_order(&order.id, OrderStatus::Completed).await?;
        assert_eq!(ledger::wrong(&completed, &ledger.movements_of(&order.id).await?), None);
        assert_eq!(bobs[0].payments(&order.id).await?.len(), 1);
    }
    record::payments(&world).await?;
    world.end().await
}

#[tokio::test]
async fn one_payment_that_arrives_sixteen_times_at_two_replicas_is_one_payment() -> Result<()> {
    let world = World::twofold().await?;
    let (alice, bobs, ledger) = (world.user("alice")?, at_both(&world, "bob")?, Ledger::of(&world)?);
    let ticket = alice.lists("Concert", 29900, 5).await?;
    let order = bobs[0].places(&ticket, 1).await?;
    let once = request(&order.id, Uuid::new_v4());

    let calls = (0..AT_ONCE).map(|number| bobs[number % 2].pays_as(once.clone()));
    let answers: Vec<_> = join_all(calls).await.into_iter().collect::<Result<_, _>>()?;

    // Those that came later waited for the provider's answer, too.
    let paid = bobs[1].awaits_payment(&order.id, PaymentStatus::Succeeded).await?;
    assert!(answers.iter().all(|answer| *answer == paid), "one payment: {answers:?}");
    assert_eq!(paid.version, 2);
    let completed = bobs[1].awaits_order(&order.id, OrderStatus::Completed).await?;
    assert_eq!(ledger::wrong(&completed, &ledger.movements_of(&order.id).await?), None);
    // Still the same answer now that the order is paid, and for nothing else.
    assert_eq!(bobs[1].pays_as(once.clone()).await?, paid);
    let other = CreatePaymentRequest { payment_method: "pm_card_mastercard".to_owned(), ..once };
    let reused = Refused::new(Code::AlreadyExists, "REQUEST_ID_REUSED");
    assert_eq!(Refused::of(bobs[0].pays_as(other).await)?, reused);
    world.end().await
}

fn at_both(world: &World, name: &str) -> Result<[User; 2]> {
    Ok([world.user_at(name, 0)?, world.user_at(name, 1)?])
}

fn request(order_id: &str, request_id: Uuid) -> CreatePaymentRequest {
    CreatePaymentRequest {
        order_id: order_id.to_owned(),
        payment_method: "pm_card_visa".to_owned(),
        request_id: Some(request_id.to_string()),
    }
}
