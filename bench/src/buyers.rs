//! Those who sell, order and pay, over gRPC as any client does. In: a system, and a rate. Out: what became of their orders.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant as StdInstant},
};

use anyhow::{Context, Result};
use contracts::{
    orders::v1::{CreateOrderRequest, order_service_client::OrderServiceClient},
    payments::v1::{CreatePaymentRequest, PaymentStatus, payment_service_client::PaymentServiceClient},
    tickets::v1::{CreateTicketRequest, Ticket, ticket_service_client::TicketServiceClient},
    r#type::v1::Money,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use local::{progress::say, stack::Stack};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinSet,
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use crate::{
    callers::Callers,
    lag::Lag,
    load::{self, Offered},
    outcomes::{Goal, Outcomes, Placed, Watch},
};

type Line = InterceptedService<Channel, Token>;

#[derive(Clone)]
struct Token(MetadataValue<Ascii>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// Buyers, over a few connections each of many streams.
#[derive(Clone)]
pub(crate) struct Buyers {
    callers: Callers,
    goal: Goal,
    orders: Vec<OrderServiceClient<Line>>,
    payments: Vec<PaymentServiceClient<Line>>,
    tickets: Arc<Vec<Ticket>>,
    brokers: String,
    topic: String,
    lag: Arc<Lag>,
}

/// How one run went.
#[derive(Debug)]
pub(crate) struct Run {
    /// Arrivals a second.
    pub rate: f64,
    /// What became of the calls.
    pub offered: Offered,
    /// What became of the orders.
    pub outcomes: Outcomes,
    /// Payments that were not answered with success.
    pub unpaid: usize,
    /// How long after the last call was answered all was told and handled that came of them, if it was soon enough; not
    /// known of a run that has failed by then.
    pub settled: Option<Duration>,
}

/// Connections to each replica.
pub(crate) const CONNECTIONS: usize = 4;
/// Calls of the seller's under way at once.
const LISTING: usize = 200;
/// No order sells out.
const STOCK: i32 = 1_000_000;
/// How soon after the end a system that keeps up is done.
const SOON: Duration = Duration::from_secs(1);

impl Buyers {
    /// Lists so many tickets, and stands ready to order them, and to pay if that is the goal.
    ///
    /// # Errors
    ///
    /// A service can't be reached.
    pub(crate) async fn ready(stack: &Stack, tickets: usize, goal: Goal) -> Result<Self> {
        Self::ready_as(Callers::on_one_thread()?, stack, tickets, goal).await
    }

    /// The same, of whom somebody else says on which threads they are.
    ///
    /// # Errors
    ///
    /// A service can't be reached.
    pub(crate) async fn ready_as(callers: Callers, stack: &Stack, tickets: usize, goal: Goal) -> Result<Self> {
        let token = Token(format!("Bearer {}", stack.signer().token("bench", &[])?).parse()?);
        let lines = async |service, each| callers.run(lines(addresses(stack, service), each, token.clone())).await?;
        let seller = lines("tickets", 1).await?.pop().context("no tickets")?;
        let seller = TicketServiceClient::new(seller);
        let listed = (0..tickets).map(|number| {
            let mut seller = seller.clone();
            async move {
                let request = CreateTicketRequest {
                    title: format!("Concert {number}"),
                    price: Some(Money::of("USD", 29900)),
                    quantity: Some(STOCK),
                    request_id: None,
                };
                seller.create_ticket(request).await?.into_inner().ticket.context("no ticket in the answer")
            }
        });
        let tickets = Arc::new(stream::iter(listed).buffer_unordered(LISTING).try_collect().await?);
        let orders = lines("orders", CONNECTIONS).await?;
        let payments = match goal {
            Goal::Reserved => Vec::new(),
            Goal::Completed => lines("payments", CONNECTIONS).await?,
        };
        Ok(Self {
            callers,
            goal,
            orders: orders.into_iter().map(OrderServiceClient::new).collect(),
            payments: payments.into_iter().map(PaymentServiceClient::new).collect(),
            tickets,
            brokers: stack.shared_servers().kafka_brokers.clone(),
            topic: format!("{}orders", stack.topic_prefix()),
            lag: Arc::new(Lag::of(stack).await?),
        })
    }

    /// The same buyers, who now come in by the gateway.
    ///
    /// # Errors
    ///
    /// There is none.
    pub(crate) async fn by_gateway(&self, stack: &Stack) -> Result<Self> {
        let token = Token(format!("Bearer {}", stack.signer().token("bench", &[])?).parse()?);
        let gateway = stack.gateway().context("no gateway")?.addr();
        let orders = self.callers.run(lines(vec![gateway], CONNECTIONS, token)).await??;
        Ok(Self { orders: orders.into_iter().map(OrderServiceClient::new).collect(), ..self.clone() })
    }

    /// Orders one thing, and waits for the answer alone.
    ///
    /// # Errors
    ///
    /// It is refused.
    pub(crate) async fn order(&self, chance: &mut fastrand::Rng) -> Result<()> {
        let (mut client, request) = self.next(chance);
        client.create_order(request).await?;
        Ok(())
    }

    fn next(&self, chance: &mut fastrand::Rng) -> (OrderServiceClient<Line>, CreateOrderRequest) {
        let client = self.orders[chance.usize(0..self.orders.len())].clone();
        let ticket = &self.tickets[chance.usize(0..self.tickets.len())];
        let request = CreateOrderRequest {
            ticket_id: ticket.id.clone(),
            quantity: Some(1),
            unit_price: ticket.price.clone(),
            request_id: None,
        };
        (client, request)
    }

    /// Orders at this rate for so long, and sees what becomes of it, until nothing does any more.
    ///
    /// # Errors
    ///
    /// A topic or a database can't be read.
    pub(crate) async fn run(&self, rate: f64, lasts: Duration) -> Result<Run> {
        let this = self.clone();
        let (mut run, end) = self.callers.run(async move { this.offer(rate, lasts).await }).await??;
        if run.went_well() {
            run.settled = self.lag.over(end, &run.outcomes.up_to).await?;
        }
        say(format_args!("{run}"));
        Ok(run)
    }

    /// What came of it, but for whether all others have settled; and when it was over.
    async fn offer(&self, rate: f64, lasts: Duration) -> Result<(Run, StdInstant)> {
        let (awaiting, awaited) = unbounded_channel();
        let mut paying = JoinSet::new();
        paying.spawn(pay(self.payments.clone(), awaited));
        let watch = Watch::begin(&self.brokers, &self.topic, self.goal, awaiting)?;
        let mut chance = fastrand::Rng::new();
        let placed = watch.placed();
        let offered = load::offer(rate, lasts, |due| {
            let (mut client, request) = self.next(&mut chance);
            let placed = placed.clone();
            async move {
                let answer = client.create_order(request).await;
                let Ok(Some(order)) = answer.map(|answer| answer.into_inner().order) else { return false };
                placed.send(Placed { id: order.id, due: due.into_std() }).is_ok()
            }
        })
        .await?;
        let end = StdInstant::now();
        drop(placed);
        let outcomes = tokio::task::spawn_blocking(|| watch.end()).await??;
        let unpaid = paying.join_next().await.context("nobody paid")??;
        Ok((Run { rate, offered, outcomes, unpaid, settled: None }, end))
    }

    /// Until what a rate that did not hold has left behind is worked off.
    ///
    /// # Errors
    ///
    /// It never is.
    pub(crate) async fn rest(&self) -> Result<()> {
        const LITTLE: f64 = 50.0;
        let begun = StdInstant::now();
        while begun.elapsed() < Duration::from_secs(120) {
            if self.run(LITTLE, Duration::from_secs(1)).await?.holds() {
                return Ok(());
            }
        }
        anyhow::bail!("the system does not come to rest")
    }
}

/// Of every replica of a service.
fn addresses(stack: &Stack, service: &str) -> Vec<SocketAddr> {
    stack.replicas(service).map(|replica| replica.grpc()).collect()
}

/// So many connections to each of these, whose ends are served where this is called.
async fn lines(to: Vec<SocketAddr>, each: usize, token: Token) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for at in to {
        for _ in 0..each {
            let channel = Endpoint::from_shared(format!("http://{at}"))?.tcp_nodelay(true).connect().await?;
            lines.push(InterceptedService::new(channel, token.clone()));
        }
    }
    Ok(lines)
}

/// Pays for every order as it comes to await that, until there are no more. How many payments did not succeed.
async fn pay(clients: Vec<PaymentServiceClient<Line>>, mut awaited: UnboundedReceiver<String>) -> usize {
    let mut chance = fastrand::Rng::new();
    let mut calls = JoinSet::new();
    let mut unpaid = 0;
    loop {
        tokio::select! {
            order_id = awaited.recv() => {
                let Some(order_id) = order_id else { break };
                let Some(client) = chance.choice(&clients) else { continue };
                let mut client = client.clone();
                let payment_method = "pm_card_visa".to_owned();
                calls.spawn(async move {
                    let request = CreatePaymentRequest { order_id, payment_method, request_id: None };
                    let payment = client.create_payment(request).await.ok()?.into_inner().payment?;
                    (payment.status() == PaymentStatus::Succeeded).then_some(())
                });
            }
            Some(paid) = calls.join_next() => unpaid += usize::from(!matches!(paid, Ok(Some(())))),
        }
    }
    while let Some(paid) = calls.join_next().await {
        unpaid += usize::from(!matches!(paid, Ok(Some(()))));
    }
    unpaid
}

impl Run {
    /// Whether the system kept up: every order was seen, and what came of it told and handled by all whom it concerns,
    /// soon after the last arrival, and none was refused.
    pub(crate) fn holds(&self) -> bool {
        self.went_well() && self.settled.is_some_and(|settled| settled < SOON)
    }

    /// As its buyers see it.
    fn went_well(&self) -> bool {
        let Self { offered, outcomes, unpaid, .. } = self;
        offered.failed == 0
            && *unpaid == 0
            && offered.shed == 0
            && outcomes.missing == 0
            && outcomes.tail < SOON
            && outcomes.latencies.value_at_quantile(0.99) < 1_000_000
    }

    /// A quantile of the way from due to the goal, in milliseconds.
    pub(crate) fn quantile(&self, quantile: f64) -> f64 {
        load::ms(&self.outcomes.latencies, quantile)
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rate, offered, outcomes, unpaid, settled } = self;
        let settled = match settled {
            Some(settled) => format!(", settled {:.1} s", settled.as_secs_f64()),
            None if self.went_well() => ", not settled".to_owned(),
            None => String::new(),
        };
        write!(
            f,
            "{rate:>8.0}/s: p50 {:.1} ms, p99 {:.1} ms; {} answered, {} failed, {} shed, {unpaid} unpaid, {} missing, tail {:.1} s\
             {settled}{}",
            self.quantile(0.5),
            self.quantile(0.99),
            offered.answered,
            offered.failed,
            offered.shed,
            outcomes.missing,
            outcomes.tail.as_secs_f64(),
            if self.holds() { "" } else { ": does not hold" }
        )
    }
}
