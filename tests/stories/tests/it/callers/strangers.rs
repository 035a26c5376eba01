//! Whatever a stranger sends: one table of it, a file for each kind. Each row is sent by every way in that there is for it, is
//! answered alike by all, leaves nothing behind, and disturbs nobody.

mod bytes;
mod fields;
mod headers;
mod http;
mod others;
mod tokens;

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use contracts::{
    expiration::v1::ExpirationStatus,
    orders::v1::{CreateOrderRequest, ListOrdersRequest, OrderStatus},
    payments::v1::{CreatePaymentRequest, PaymentStatus},
    tickets::v1::{CreateTicketRequest, ListTicketsRequest},
    r#type::v1::Money,
};
use futures_util::{StreamExt as _, stream};
use local::keys::{Claims, Signer};
use serde_json::{Value, json};
use stories::{
    Refused, User, World, footprint,
    stranger::{Call, Sent, Stranger, Way},
};
use tonic::Code;
use uuid::Uuid;

/// How many rows are on their way at once.
const AT_ONCE: usize = 16;

/// A row: what it is, how it is sent, and what comes back.
struct Case {
    name: String,
    call: Call,
    back: Option<Refused>,
    /// What comes back by some ways, where protocols differ by their nature.
    but: Vec<(Way, Option<Refused>)>,
}

/// What is there when the strangers come.
struct Town<'w> {
    signer: &'w Signer,
    /// Alice's, of which there are some left; and one that is too dear for two.
    ticket: String,
    dear: String,
    /// Bob's: one waits to be paid, one was paid by this payment, one he has cancelled.
    order: String,
    paid: String,
    payment: String,
    cancelled: String,
    /// The ids of the requests that made them: Alice's ticket, Bob's order, Bob's payment.
    requests: [String; 3],
    /// Where Alice's first page of tickets ends, and Bob's of orders.
    tickets_page: String,
    orders_page: String,
}

impl Case {
    fn new(name: &str, call: Call, back: Option<Refused>) -> Self {
        Self { name: name.to_owned(), call, back, but: Vec::new() }
    }

    /// The same, with one more header.
    fn with(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        self.call.headers.push((name, value.as_ref().to_vec()));
        self
    }

    async fn run(&self, stranger: &Stranger) -> Result<()> {
        for way in Way::ALL {
            let expected = self.but.iter().find(|(of, _)| *of == way).map_or(&self.back, |(_, back)| back);
            let sent = stranger.send(&self.call, way).await;
            let Some(refused) = sent.with_context(|| format!("{}, by {way:?}", self.name))? else { continue };
            let refused = refused.map(|refused| Refused { retry: false, ..refused });
            ensure!(refused == *expected, "{}, by {way:?}:\n got {refused:?}\nwant {expected:?}", self.name);
        }
        Ok(())
    }
}

fn refused(code: Code, reason: &str) -> Refused {
    Refused::new(code, reason)
}

fn invalid(fields: &[&str]) -> Refused {
    let fields = fields.iter().map(|field| (*field).to_owned()).collect();
    Refused { fields, ..refused(Code::InvalidArgument, "INVALID_ARGUMENT") }
}

fn too_large() -> Refused {
    refused(Code::ResourceExhausted, "MESSAGE_TOO_LARGE")
}

fn malformed_message() -> Refused {
    refused(Code::InvalidArgument, "MALFORMED_MESSAGE")
}

/// As the gateway has it, of JSON and of HTTP.
fn malformed() -> Refused {
    refused(Code::InvalidArgument, "MALFORMED_REQUEST")
}

impl<'w> Town<'w> {
    async fn settle(world: &'w World) -> Result<Self> {
        let (alice, bob) = (world.user("alice")?, world.user("bob")?);
        let requests = [(); 3].map(|()| Uuid::now_v7().to_string());
        let ticket = alice.lists_as(concert(&requests[0])).await?;
        let dear = alice.lists("Dear", i64::MAX, 10).await?;
        let order = bob.places_as(ordered(&ticket.id, &requests[1])).await?;
        let (paid, cancelled) = (bob.places(&ticket, 1).await?, bob.places(&ticket, 1).await?);
        for order in [&order, &paid, &cancelled] {
            bob.awaits_order(&order.id, OrderStatus::AwaitingPayment).await?;
        }
        let payment = bob.pays_as(paid_for(&paid.id, &requests[2])).await?;
        ensure!(payment.status() == PaymentStatus::Succeeded, "{payment:?}");
        bob.cancels(&cancelled.id).await?;
        bob.awaits_order(&paid.id, OrderStatus::Completed).await?;
        alice.awaits_stock(&ticket.id, 8, 1, 1).await?;
        for (order, status) in [(&order, ExpirationStatus::Scheduled), (&paid, ExpirationStatus::Dropped)] {
            world.operator()?.awaits_timer(&order.id, status).await?;
        }
        let first = ListTicketsRequest { page_size: Some(1), ..Default::default() };
        let tickets_page = alice.tickets.clone().list_tickets(first).await?.into_inner().next_page_token;
        let first = ListOrdersRequest { page_size: Some(1), ..Default::default() };
        let orders_page = bob.orders.clone().list_orders(first).await?.into_inner().next_page_token;
        ensure!(!tickets_page.is_empty() && !orders_page.is_empty());
        Ok(Self {
            signer: world.stack().signer(),
            ticket: ticket.id,
            dear: dear.id,
            order: order.id,
            paid: paid.id,
            payment: payment.id,
            cancelled: cancelled.id,
            requests,
            tickets_page,
            orders_page,
        })
    }

    fn bearer(&self, claims: &impl serde::Serialize) -> Result<Vec<u8>> {
        Ok(format!("Bearer {}", self.signer.sign(claims)?).into_bytes())
    }

    /// By somebody with a sound token.
    fn by(&self, user: &str, rpc: &'static str, sent: Sent) -> Result<Call> {
        let roles: &[&str] = if user == "olga" { &["operator"] } else { &[] };
        let authorization = self.bearer(&Claims::new(user, roles))?;
        Ok(Call { rpc, headers: vec![("authorization", authorization)], sent })
    }

    fn create_ticket(&self) -> Value {
        json!({
            "title": "Concert", "price": {"currency_code": "USD", "minor_units": 29900}, "quantity": 9 + 1,
            "request_id": self.requests[0],
        })
    }

    fn create_order(&self) -> Value {
        json!({"ticket_id": self.ticket, "quantity": 1, "request_id": self.requests[1]})
    }

    fn create_payment(&self) -> Value {
        json!({"order_id": self.paid, "payment_method": "pm_card_visa", "request_id": self.requests[2]})
    }

    fn cases(&self) -> Result<Vec<Case>> {
        let all = [
            self.tokens()?,
            self.of_others()?,
            self.fields()?,
            self.bytes()?,
            self.frames()?,
            self.headers()?,
            self.http()?,
        ];
        Ok(all.into_iter().flatten().collect())
    }
}

/// A message with other fields; null takes one away.
fn but(sound: &Value, changes: &[(&str, Value)]) -> Value {
    let mut message = sound.clone();
    for (name, value) in changes {
        message[*name] = value.clone();
    }
    if let Some(fields) = message.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    message
}

fn concert(request_id: &str) -> CreateTicketRequest {
    CreateTicketRequest {
        title: "Concert".to_owned(),
        price: Some(Money::of("USD", 29900)),
        quantity: Some(10),
        request_id: Some(request_id.to_owned()),
    }
}

fn ordered(ticket_id: &str, request_id: &str) -> CreateOrderRequest {
    CreateOrderRequest {
        ticket_id: ticket_id.to_owned(),
        quantity: Some(1),
        unit_price: None,
        request_id: Some(request_id.to_owned()),
    }
}

fn paid_for(order_id: &str, request_id: &str) -> CreatePaymentRequest {
    CreatePaymentRequest {
        order_id: order_id.to_owned(),
        payment_method: "pm_card_visa".to_owned(),
        request_id: Some(request_id.to_owned()),
    }
}

/// Those who live here go on as ever: they read, and send again what they have sent, which adds nothing but passes every
/// room on its way.
async fn neighbours(world: &World, town: &Town<'_>, over: &AtomicBool) -> Result<usize> {
    let mut rounds = 0;
    let lines: [(User, User); 2] =
        [(world.user("alice")?, world.user("bob")?), (world.user_outside("alice")?, world.user_outside("bob")?)];
    while !over.load(Ordering::Relaxed) {
        for (alice, bob) in &lines {
            ensure!(alice.ticket(&town.ticket).await?.title == "Concert");
            ensure!(alice.lists_as(concert(&town.requests[0])).await?.id == town.ticket);
            ensure!(bob.places_as(ordered(&town.ticket, &town.requests[1])).await?.id == town.order);
            ensure!(bob.order(&town.order).await?.status() == OrderStatus::AwaitingPayment);
            ensure!(bob.pays_as(paid_for(&town.paid, &town.requests[2])).await?.id == town.payment);
            ensure!(bob.cancels(&town.cancelled).await?.status() == OrderStatus::Cancelled);
        }
        rounds += 1;
    }
    Ok(rounds)
}

#[tokio::test]
async fn whatever_a_stranger_sends_is_refused_in_so_many_words_and_leaves_nothing_behind() -> Result<()> {
    let world = World::with(|stack| {
        let stack = stack.gateway().env("orders", "ORDER_TTL", "1h").env_for_all("HEARING_TIMEOUT", "2s");
        Ok(["CLIENT_RATE", "CLIENT_BURST"].iter().fold(stack, |stack, name| stack.env("gateway", name, "1000000")))
    })
    .await?;
    let town = Town::settle(&world).await?;
    let (stranger, cases) = (Stranger::new(&world)?, town.cases()?);
    let before = footprint::of(&world).await?;

    let over = AtomicBool::new(false);
    let table = async {
        let rows = stream::iter(&cases).map(|case| case.run(&stranger)).buffer_unordered(AT_ONCE);
        let wrong: Vec<_> = rows.filter_map(async |row| row.err().map(|error| format!("{error:#}"))).collect().await;
        over.store(true, Ordering::Relaxed);
        wrong
    };
    let (wrong, rounds) = tokio::join!(table, neighbours(&world, &town, &over));
    ensure!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(rounds? > 0, "nobody else was served meanwhile");

    assert_eq!(footprint::of(&world).await?, before, "something was left behind");
    titles_come_back_as_they_went_in(&world).await?;
    let bob = world.user_outside("bob")?;
    bob.pays(&town.order, "pm_card_visa").await?;
    bob.awaits_order(&town.order, OrderStatus::Completed).await?;
    world.end().await
}

/// Nobody's SQL, markup or marks of direction are anybody's business here: by whatever way they come and go.
async fn titles_come_back_as_they_went_in(world: &World) -> Result<()> {
    let (alice, outside, browser) = (world.user("alice")?, world.user_outside("alice")?, world.visitor("alice", &[])?);
    for title in [
        "'; DROP TABLE tickets; --",
        "\\'; SELECT pg_sleep(10) --",
        "$1 %s %n ${jndi:ldap://x} {{7*7}}",
        "<script>alert(\"1\")</script>&amp;",
        "\u{202e}tsoc on\u{202c}",
        "\u{2066}\u{200b}\u{200d}\u{feff}\u{2028}\u{2029}\u{ad}",
        "e\u{301} is not \u{e9}, \u{212b} is not \u{c5}",
        " \u{a0} spaces at both ends \u{3000} ",
        "\u{ffff}\u{10ffff}\u{fffd}\u{e000}",
        "\u{1f469}\u{200d}\u{1f469}\u{200d}\u{1f467} \\u0000 \\n %00 &#0;",
    ] {
        let body = json!({"title": title, "price": {"currencyCode": "USD", "minorUnits": 1}});
        let by_json = browser.post("/api/tickets", &body).await?.ok()?["ticket"].clone();
        let by_json = by_json["id"].as_str().context("an id")?.to_owned();
        let by_grpc = outside.lists(title, 1, 1).await?.id;
        for id in [by_json, by_grpc] {
            assert_eq!(alice.ticket(&id).await?.title, title);
            assert_eq!(outside.ticket(&id).await?.title, title);
            assert_eq!(browser.get(&format!("/api/tickets/{id}")).await?.ok()?["ticket"]["title"], title);
            // And in the order's copy, which came by way of Kafka.
            let order = browser.post("/api/orders", &json!({"ticketId": id})).await?.ok()?;
            assert_eq!(order["order"]["ticketTitle"], title);
        }
    }
    Ok(())
}
