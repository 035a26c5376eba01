//! Payments is killed at each step of a charge and of a refund: between the intent and the call, during the call, and
//! between the call and its outcome; or its caller goes, or the order ends. Whatever was lost, one charge, one refund, one
//! outcome.

use std::time::Duration;

use anyhow::{Result, ensure};
use contracts::{
    orders::v1::{Order, OrderStatus},
    payments::v1::{CreatePaymentRequest, PaymentStatus},
    tickets::v1::Ticket,
};
use futures_util::future::try_join_all;
use local::wait;
use stories::{
    Ledger, SETTLED, SOON, User, World,
    delay::{Delay, connect, times_asked},
    groups::awaits_caught_up,
    ledger::{self, Kind, Often},
    metrics::Page,
    record,
};
use tokio::{sync::watch, task::JoinSet};
use uuid::Uuid;

/// As good as for ever.
const LONG: Often = Often::For(Duration::from_secs(3600));
const VISA: &str = "pm_card_visa";

#[tokio::test]
async fn killed_between_the_intent_and_the_call_payments_makes_it_when_it_is_back() -> Result<()> {
    let world = World::start().await?;
    let story = Story::new(&world).await?;
    // A charge, while the provider is away.
    let charged = story.orders().await?;
    story.provider()?.kill().await?;
    assert_eq!(story.bob.pays(&charged.id, VISA).await?.status(), PaymentStatus::Pending);
    story.payments()?.kill().await?;
    story.provider()?.start().await?;
    assert_eq!(story.ledger.movements_of(&charged.id).await?, []);
    story.payments()?.start().await?;
    story.ends_well(&charged, OrderStatus::Completed).await?;

    // A refund, likewise.
    let refunded = story.owes_a_refund().await?;
    story.provider()?.kill().await?;
    story.payments()?.kill().await?;
    story.provider()?.start().await?;
    assert_eq!(story.ledger.movements_of(&refunded.id).await?.len(), 1);
    story.payments()?.start().await?;
    story.ends_well(&refunded, OrderStatus::Cancelled).await?;
    world.end().await
}

#[tokio::test]
async fn killed_during_the_call_payments_finds_out_what_became_of_it() -> Result<()> {
    let world = World::start().await?;
    let story = Story::new(&world).await?;
    // The money moves, and nobody says so.
    let charged = story.orders().await?;
    story.ledger.breaks(&charged.id, Kind::Charge, "charge_then_hang", Often::Times(1)).await?;
    let call = story.pays_in_the_background(&charged);
    story.ledger.awaits(&charged.id, 1, 0).await?;
    assert_eq!(story.status_of(&charged).await?, PaymentStatus::Pending);
    story.payments()?.kill().await?;
    story.payments()?.start().await?;
    story.ends_well(&charged, OrderStatus::Completed).await?;
    call.join_all().await;

    // The provider says nothing at all, and does all of it later, when payments has gone.
    let unheard = story.orders().await?;
    story.provider()?.pause()?;
    let call = story.pays_in_the_background(&unheard);
    story.bob.awaits_payment(&unheard.id, PaymentStatus::Pending).await?;
    story.payments()?.kill().await?;
    story.provider()?.resume()?;
    story.payments()?.start().await?;
    story.ends_well(&unheard, OrderStatus::Completed).await?;
    call.join_all().await;

    // A refund, whose money moves, and nobody says so.
    let refunded = story.owes_a_refund().await?;
    story.provider()?.restart().await?;
    story.ledger.breaks(&refunded.id, Kind::Refund, "charge_then_hang", Often::Times(1)).await?;
    story.ledger.awaits(&refunded.id, 1, 1).await?;
    story.payments()?.kill().await?;
    story.payments()?.start().await?;
    story.ends_well(&refunded, OrderStatus::Cancelled).await?;
    world.end().await
}

#[tokio::test]
async fn killed_between_the_call_and_its_outcome_payments_hears_the_same_again() -> Result<()> {
    let world = World::start().await?;
    let story = Story::new(&world).await?;
    // The charge is under way when a foreign transaction gets hold of its account: its outcome can't be recorded.
    let charged = story.orders().await?;
    story.provider()?.pause()?;
    let call = story.pays_in_the_background(&charged);
    story.bob.awaits_payment(&charged.id, PaymentStatus::Pending).await?;
    let delay = Delay::of_account(&world, &charged.id).await?;
    story.provider()?.resume()?;
    story.ledger.awaits(&charged.id, 1, 0).await?;
    assert_eq!(story.status_of(&charged).await?, PaymentStatus::Pending);
    story.payments()?.kill().await?;
    delay.ends().await?;
    story.payments()?.start().await?;
    story.ends_well(&charged, OrderStatus::Completed).await?;
    call.join_all().await;

    // A refund: nothing is asked while the account is held, so that the next call meets a provider that is paused.
    let refunded = story.owes_a_refund().await?;
    let delay = Delay::of_account(&world, &refunded.id).await?;
    let asked = times_asked(&world, &refunded.id).await?;
    story.ledger.mends().await?;
    story.provider()?.pause()?;
    delay.ends().await?;
    story.asks_once_more(&refunded, asked).await?;
    let delay = Delay::of_account(&world, &refunded.id).await?;
    story.provider()?.resume()?;
    story.ledger.awaits(&refunded.id, 1, 1).await?;
    assert_eq!(story.status_of(&refunded).await?, PaymentStatus::RefundPending);
    story.payments()?.kill().await?;
    delay.ends().await?;
    story.payments()?.start().await?;
    story.ends_well(&refunded, OrderStatus::Cancelled).await?;
    world.end().await
}

#[tokio::test]
async fn a_charge_that_nobody_wants_any_more_is_voided_or_goes_back() -> Result<()> {
    let world = World::start().await?;
    let story = Story::new(&world).await?;
    // It never reached the provider, which was away.
    let unasked = story.orders().await?;
    story.provider()?.kill().await?;
    assert_eq!(story.bob.pays(&unasked.id, VISA).await?.status(), PaymentStatus::Pending);
    story.bob.cancels(&unasked.id).await?;
    awaits_caught_up(&world).await?;
    // What asks now knows of that; what asked before would still charge.
    let asked = times_asked(&world, &unasked.id).await?;
    story.asks_once_more(&unasked, asked).await?;
    story.provider()?.start().await?;
    let failed = story.bob.awaits_payment(&unasked.id, PaymentStatus::Failed).await?;
    assert_eq!((failed.failure_reason.as_str(), failed.version), ("never_charged", 2));
    assert_eq!(story.ledger.movements_of(&unasked.id).await?, []);

    // It moved the money, and nobody says so.
    let unheard = story.orders().await?;
    story.ledger.breaks(&unheard.id, Kind::Charge, "charge_then_hang", Often::Times(1)).await?;
    let call = story.pays_in_the_background(&unheard);
    story.ledger.awaits(&unheard.id, 1, 0).await?;
    story.payments()?.kill().await?;
    story.bob.cancels(&unheard.id).await?;
    story.payments()?.start().await?;
    story.ends_well(&unheard, OrderStatus::Cancelled).await?;
    call.join_all().await;
    world.end().await
}

#[tokio::test]
async fn a_charge_is_made_at_once_though_its_caller_hangs_up_while_it_is_recorded() -> Result<()> {
    let world = World::start().await?;
    let story = Story::new(&world).await?;
    let order = story.orders().await?;
    let delay = Delay::of_account(&world, &order.id).await?;
    let mut call = story.pays_in_the_background(&order);
    let calls = async |under_way: f64| {
        let rpc = "ticketing.payments.v1.PaymentService/CreatePayment";
        let series = format!("grpc_server_calls_in_flight{{rpc=\"{rpc}\"}}");
        wait::until(&format!("{under_way} calls under way"), SOON, || async {
            let now = Page::of(&world, "payments", 0).await?.value(&series)?;
            ensure!(now.total_cmp(&under_way).is_eq(), "{now}");
            Ok(())
        })
        .await
    };
    calls(1.0).await?;
    let session = connect(&world, "payments").await?;
    wait::until("the payment to wait for its account", SOON, || async {
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        ensure!(session.query_one(waiting, &[]).await?.get::<_, i64>(0) > 0, "it doesn't");
        Ok(())
    })
    .await?;
    call.shutdown().await;
    calls(0.0).await?;
    delay.ends().await?;

    story.ends_well(&order, OrderStatus::Completed).await?;
    assert_eq!(times_asked(&world, &order.id).await?, 1, "not by the timers, once the lease is over");
    world.end().await
}

/// What these stories have in common.
struct Story<'a> {
    world: &'a World,
    ledger: Ledger,
    bob: User,
    ticket: Ticket,
}

impl<'a> Story<'a> {
    async fn new(world: &'a World) -> Result<Self> {
        let ticket = world.user("alice")?.lists("Concert", 29900, 50).await?;
        Ok(Self { world, ledger: Ledger::of(world)?, bob: world.user("bob")?, ticket })
    }

    /// Waits until the provider has been asked about this order more often than that.
    async fn asks_once_more(&self, order: &Order, asked: i64) -> Result<()> {
        wait::until("payments to ask once more", SOON, || async {
            ensure!(times_asked(self.world, &order.id).await? > asked, "still {asked} times");
            Ok(())
        })
        .await
    }

    fn payments(&self) -> Result<&local::process::Process> {
        Ok(self.world.replica("payments", 0)?.process())
    }

    fn provider(&self) -> Result<&local::process::Process> {
        self.world.provider()
    }

    async fn status_of(&self, order: &Order) -> Result<PaymentStatus> {
        let payments = self.bob.payments(&order.id).await?;
        ensure!(payments.len() == 1, "one payment: {payments:?}");
        Ok(payments[0].status())
    }

    /// An order that can be paid, as payments knows, too.
    async fn orders(&self) -> Result<Order> {
        let order = self.bob.places(&self.ticket, 1).await?;
        let order = self.bob.awaits_order(&order.id, OrderStatus::AwaitingPayment).await?;
        awaits_caught_up(self.world).await?;
        Ok(order)
    }

    /// Payments is killed while this is under way: the call may fail, and its caller know nothing.
    fn pays_in_the_background(&self, order: &Order) -> JoinSet<()> {
        let (bob, order) = (self.bob.clone(), order.id.clone());
        let mut call = JoinSet::new();
        call.spawn(async move { drop(bob.pays(&order, VISA).await) });
        call
    }

    /// An order that was cancelled while it was charged, and whose refund is refused until the provider is mended or
    /// starts again.
    async fn owes_a_refund(&self) -> Result<Order> {
        let order = self.orders().await?;
        self.ledger.breaks(&order.id, Kind::Refund, "refuse_refund", LONG).await?;
        self.provider()?.pause()?;
        let call = self.pays_in_the_background(&order);
        self.bob.awaits_payment(&order.id, PaymentStatus::Pending).await?;
        let order = self.bob.cancels(&order.id).await?;
        awaits_caught_up(self.world).await?;
        self.provider()?.resume()?;
        call.join_all().await;
        self.bob.awaits_payment(&order.id, PaymentStatus::RefundPending).await?;
        Ok(order)
    }

    /// One charge, and a refund if it was in vain, in the ledger and in what is told.
    async fn ends_well(&self, order: &Order, status: OrderStatus) -> Result<()> {
        let order = wait::until(&format!("order {} to end as {}", order.id, status.as_str_name()), SETTLED, || async {
            let order = self.bob.order(&order.id).await?;
            ensure!(order.status() == status, "it is {}", order.status().as_str_name());
            Ok(order)
        })
        .await?;
        let payments = self.bob.awaits_rest(&order).await?;
        ensure!(payments.len() == 1, "one payment: {payments:?}");
        let moved = self.ledger.movements_of(&order.id).await?;
        let wrong = ledger::wrong(&order, &moved);
        ensure!(wrong.is_none(), "{wrong:?}");
        let versions = if status == OrderStatus::Completed { 2 } else { 4 };
        ensure!(payments[0].version == versions, "one outcome each: {payments:?}");
        ensure!(moved.len() * 2 == usize::try_from(versions)?, "{moved:?}");
        record::payments(self.world).await?;
        Ok(())
    }
}

const BUYERS: usize = 30;

#[tokio::test]
async fn when_a_replica_of_payments_is_killed_in_the_middle_of_thirty_payments_all_settle() -> Result<()> {
    let world = World::twofold().await?;
    let (alice, ledger) = (world.user("alice")?, Ledger::of(&world)?);
    let ticket = alice.lists("Concert", 29900, 50).await?;
    let orders = (0..BUYERS).map(|number| {
        let (world, ticket) = (&world, &ticket);
        async move {
            let buyer = world.user(&format!("buyer-{number}"))?;
            let order = buyer.places(ticket, 1).await?;
            buyer.awaits_order(&order.id, OrderStatus::AwaitingPayment).await
        }
    });
    let orders = try_join_all(orders).await?;

    // All pay, half of them at a replica that is killed when a third has paid; they then try the other one, with the
    // same request id.
    let paid = watch::Sender::new(0);
    let kill = async {
        paid.subscribe().wait_for(|paid| *paid >= BUYERS / 3).await?;
        world.replica("payments", 0)?.process().kill().await
    };
    let buyers = orders.iter().enumerate().map(|(number, order)| {
        let (world, paid) = (&world, &paid);
        async move {
            let request = CreatePaymentRequest {
                order_id: order.id.clone(),
                payment_method: VISA.to_owned(),
                request_id: Some(Uuid::new_v4().to_string()),
            };
            // One after the other, or all would have paid before anybody is killed.
            paid.subscribe().wait_for(|paid| *paid + 6 > number).await?;
            let first = world.user_at(&order.user_id, number)?.pays_as(request.clone()).await;
            let answer = match first {
                Ok(payment) => Ok(payment),
                Err(_) => world.user_at(&order.user_id, 1)?.pays_as(request).await,
            };
            paid.send_modify(|paid| *paid += 1);
            anyhow::Ok(answer?)
        }
    });
    let (answers, killed) = tokio::join!(try_join_all(buyers), kill);
    killed?;
    let answers = answers?;

    for (order, answer) in orders.iter().zip(answers) {
        let buyer = world.user_at(&order.user_id, 1)?;
        let completed = wait::until(&format!("order {} to be completed", order.id), SETTLED, || async {
            let order = buyer.order(&order.id).await?;
            ensure!(order.status() == OrderStatus::Completed, "it is {}", order.status().as_str_name());
            Ok(order)
        })
        .await?;
        let payments = buyer.awaits_rest(&completed).await?;
        assert_eq!((payments.len(), &payments[0].id), (1, &answer.id));
        assert_eq!(ledger::wrong(&completed, &ledger.movements_of(&order.id).await?), None);
    }
    let sold = i32::try_from(BUYERS)?;
    alice.awaits_stock(&ticket.id, 50 - sold, 0, sold).await?;
    record::payments(&world).await?;
    world.end().await
}
