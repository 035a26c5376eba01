//! A run in which buyers order and pay while services and servers are killed at random, and what is left of it is audited.
//! In: how many orders and kills, and the seed of the chances. Out: what was done, and every violation.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use contracts::{orders::v1::CreateOrderRequest, payments::v1::CreatePaymentRequest, tickets::v1::Ticket};
use futures_util::future::try_join_all;
use local::{process::Process, progress::say, wait};
use tokio::sync::watch;
use tonic::Code;

use crate::{Ledger, SERVICES, User, World, audit::audit, groups, ledger::Totals};

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Orders to be acknowledged.
    pub orders: usize,
    /// How often something is to be killed meanwhile.
    pub kills: usize,
    /// What the chances begin with.
    pub seed: u64,
}

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    /// Orders that were acknowledged.
    pub acknowledged: usize,
    /// Orders that were refused at once, for there was no stock.
    pub refused: usize,
    /// Payments that buyers were told of, whatever became of them.
    pub payments: usize,
    /// Calls that failed on the way and were made again, with the same request id.
    pub repeated: usize,
    /// What the provider moved.
    pub moved: BTreeMap<String, Totals>,
    /// What is not as it must be.
    pub violations: Vec<String>,
}

const BUYERS: usize = 8;
const TICKETS: usize = 5;
/// How long an order holds stock: less than the run, so that stock comes back meanwhile.
const TTL: &str = "8s";
/// How long a call may take before it is made again: longer than a payment waits for its outcome, so that a buyer is told that it
/// is pending, and goes on.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long all may take to be decided at the end.
const REST: Duration = Duration::from_secs(180);

/// Runs it in a world of its own, with servers of its own.
///
/// # Errors
///
/// The system can't be started or asked, or doesn't come to rest.
pub async fn run(plan: Plan) -> Result<Report> {
    let world = World::unborn(|stack| Ok(stack.env("orders", "ORDER_TTL", TTL))).await?;
    world.stack().start().await?;
    groups::awaits_all(&world).await?;
    let mut chance = fastrand::Rng::with_seed(plan.seed);
    let seller = world.user("alice")?;
    let stock = i32::try_from(plan.orders / TICKETS).unwrap_or(i32::MAX).max(1);
    let tickets = try_join_all((0..TICKETS).map(|_| seller.lists("Concert", 29900, stock))).await?;

    let told = Told::default();
    let placed = watch::Sender::new(0);
    let buyers = (0..BUYERS).map(|number| {
        let (mut chance, share) = (chance.fork(), plan.orders.div_ceil(BUYERS));
        let (world, tickets, told, placed) = (&world, &tickets, &told, &placed);
        async move {
            let buyer = world.user(&format!("buyer-{number}"))?;
            for _ in 0..share {
                buy(&buyer, tickets, told, &mut chance).await?;
                placed.send_modify(|placed| *placed += 1);
            }
            anyhow::Ok(())
        }
    });
    tokio::try_join!(try_join_all(buyers), kill(&world, plan, &placed, chance.fork()))?;

    // All that was killed is back; every order is paid or ends by its timer, and what was charged in vain goes back.
    let acknowledged = told.acknowledged();
    let operator = world.operator()?;
    for id in &acknowledged {
        let order = operator.awaits_end(id).await?;
        operator.awaits_rest(&order).await?;
    }
    wait::until("no stock to be held any more", REST, || async {
        for ticket in &tickets {
            let now = operator.ticket(&ticket.id).await?;
            ensure!(now.reserved == 0, "{} of {} are held", now.reserved, ticket.id);
        }
        Ok(())
    })
    .await?;
    let violations = audit(&world, &acknowledged).await?;
    let moved = Ledger::of(&world)?.totals().await?;
    let report = Report { acknowledged: acknowledged.len(), moved, violations, ..told.report() };
    world.end().await?;
    Ok(report)
}

/// What buyers were told.
#[derive(Default)]
struct Told {
    acknowledged: Mutex<BTreeSet<String>>,
    refused: Mutex<usize>,
    payments: Mutex<usize>,
    repeated: Mutex<usize>,
}

impl Told {
    fn acknowledged(&self) -> BTreeSet<String> {
        self.acknowledged.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn report(&self) -> Report {
        let count = |of: &Mutex<usize>| *of.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Report {
            acknowledged: 0,
            refused: count(&self.refused),
            payments: count(&self.payments),
            repeated: count(&self.repeated),
            moved: BTreeMap::new(),
            violations: Vec::new(),
        }
    }

    fn count(of: &Mutex<usize>) {
        *of.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += 1;
    }
}

/// Places one order, again and again under the same request id until there is an answer; then pays it, or cancels it, or
/// leaves it alone.
async fn buy(buyer: &User, tickets: &[Ticket], told: &Told, chance: &mut fastrand::Rng) -> Result<()> {
    let ticket = chance.choice(tickets).context("there are tickets")?;
    let request = CreateOrderRequest {
        ticket_id: ticket.id.clone(),
        quantity: Some(chance.i32(1..=3)),
        unit_price: ticket.price.clone(),
        request_id: Some(uuid::Uuid::new_v4().to_string()),
    };
    let placed = wait::until("an order to be answered", REST, || async {
        match tokio::time::timeout(PATIENCE, buyer.places_as(request.clone())).await {
            Ok(Ok(order)) => Ok(Some(order)),
            Ok(Err(status)) if status.code() == Code::FailedPrecondition => Ok(None),
            failed => {
                Told::count(&told.repeated);
                anyhow::bail!("{failed:?}")
            }
        }
    })
    .await?;
    let Some(order) = placed else {
        Told::count(&told.refused);
        return Ok(());
    };
    told.acknowledged.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(order.id.clone());
    match chance.u8(0..20) {
        0..4 => {
            // Whether it gets through or not: the order ends either way.
            let _ = tokio::time::timeout(PATIENCE, buyer.cancels(&order.id)).await;
            Ok(())
        }
        // Forgotten: it expires.
        4..7 => Ok(()),
        7..9 => pay(buyer, &order.id, "pm_card_chargeDeclined", told).await,
        // Charged when it has expired.
        9 => pay(buyer, &order.id, "pm_sandbox_slow", told).await,
        _ => pay(buyer, &order.id, "pm_card_visa", told).await,
    }
}

/// Pays, again and again under the same request id until there is an answer, be it that it is too late.
async fn pay(buyer: &User, order_id: &str, card: &str, told: &Told) -> Result<()> {
    let request = CreatePaymentRequest {
        order_id: order_id.to_owned(),
        payment_method: card.to_owned(),
        request_id: Some(uuid::Uuid::new_v4().to_string()),
    };
    wait::until("a payment to be answered", REST, || async {
        match tokio::time::timeout(PATIENCE, buyer.pays_as(request.clone())).await {
            Ok(Ok(_)) => Told::count(&told.payments),
            Ok(Err(status)) if status.code() == Code::FailedPrecondition => {}
            failed => {
                Told::count(&told.repeated);
                anyhow::bail!("{failed:?}")
            }
        }
        Ok(())
    })
    .await
}

/// Kills something at random each time that so many more orders were placed, and starts it again at once.
async fn kill(world: &World, plan: Plan, placed: &watch::Sender<usize>, mut chance: fastrand::Rng) -> Result<()> {
    let mut victims = Vec::new();
    for name in SERVICES {
        victims.push(world.replica(name, 0)?.process());
    }
    victims.extend(servers(world)?);
    let mut placed = placed.subscribe();
    for number in 1..=plan.kills {
        let due = plan.orders * number / (plan.kills + 1);
        placed.wait_for(|placed| *placed >= due).await?;
        let process = chance.choice(&victims).context("there is something")?;
        say(format_args!("kill {number} of {}: {}, after {due} orders", plan.kills, process.name()));
        process.kill().await?;
        process.spawn()?;
    }
    for process in victims {
        process.ready().await?;
    }
    Ok(())
}

/// What the services can't do without.
fn servers(world: &World) -> Result<[&Process; 3]> {
    let stack = world.stack();
    let postgres = stack.postgres().context("its own Postgres")?.process();
    let kafka = stack.kafka().context("its own Kafka")?.process();
    Ok([postgres, kafka, world.provider()?])
}
