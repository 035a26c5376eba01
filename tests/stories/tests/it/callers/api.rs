//! What every client meets: lists, permissions, faults, and tools that know nothing but reflection.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use contracts::{
    expiration::v1::ListExpirationsRequest,
    orders::v1::{CreateOrderRequest, ListOrdersRequest, OrderStatus},
    tickets::v1::{CreateTicketRequest, ListTicketsRequest, Ticket, TicketStatus, UpdateTicketRequest},
    r#type::v1::Money,
};
use futures_util::future::try_join_all;
use local::tools::Tools;
use serde_json::{Value, json};
use stories::{Refused, User, World};
use tokio::process::Command;
use tonic::Code;
use uuid::Uuid;

#[tokio::test]
async fn lists_are_newest_first_and_stable_while_more_comes() -> Result<()> {
    let world = World::start().await?;
    let alice = world.user("alice")?;
    let mut listed = Vec::new();
    for number in 0..5 {
        listed.push(alice.lists(&format!("Number {number}"), 100, 1).await?.id);
    }
    listed.reverse();

    // Page by page, while others list more.
    let mut seen = Vec::new();
    let mut request = ListTicketsRequest { page_size: Some(2), ..Default::default() };
    let mut sizes = Vec::new();
    loop {
        let (tickets, next) = page(&alice, &request).await?;
        sizes.push(tickets.len());
        seen.extend(tickets.into_iter().map(|ticket| ticket.id));
        if next.is_empty() {
            break;
        }
        request.page_token = next;
        alice.lists("Meanwhile", 100, 1).await?;
    }
    assert_eq!((seen, sizes), (listed, vec![2, 2, 1]), "what came meanwhile is newer than what was asked for");

    // Bounds of a page: 50 by default, 200 at most.
    try_join_all((0..200).map(|_| alice.lists("Many", 100, 1))).await?;
    for (asked, given) in
        [(None, 50), (Some(0), 50), (Some(1), 1), (Some(200), 200), (Some(201), 200), (Some(i32::MAX), 200)]
    {
        let (tickets, next) = page(&alice, &ListTicketsRequest { page_size: asked, ..Default::default() }).await?;
        assert_eq!((tickets.len(), next.is_empty()), (given, false), "page_size {asked:?}");
    }

    // A token is good for the list that it came from, and for no other.
    let (_, token) = page(&alice, &ListTicketsRequest { page_size: Some(2), ..Default::default() }).await?;
    let of_others = ListTicketsRequest { seller_id: Some("bob".to_owned()), page_token: token, ..Default::default() };
    let forged = ListTicketsRequest { page_size: Some(-1), page_token: "forged".to_owned(), ..Default::default() };
    assert_eq!(Refused::of(alice.tickets.clone().list_tickets(of_others).await)?, invalid(&["page_token"]));
    assert_eq!(Refused::of(alice.tickets.clone().list_tickets(forged).await)?, invalid(&["page_size", "page_token"]));

    // By seller, and by status: what is withdrawn is listed only if it is asked for.
    let bobs = world.user("bob")?.lists("Bob's", 100, 1).await?;
    let of_bob = ListTicketsRequest { seller_id: Some("bob".to_owned()), ..Default::default() };
    assert_eq!(page(&alice, &of_bob).await?.0, std::slice::from_ref(&bobs));
    let bobs = world.user("bob")?.withdraws(&bobs.id).await?;
    assert_eq!(page(&alice, &of_bob).await?.0, []);
    let withdrawn = ListTicketsRequest { status: Some(TicketStatus::Withdrawn.into()), ..of_bob };
    assert_eq!(page(&alice, &withdrawn).await?.0, [bobs]);
    world.end().await
}

#[tokio::test]
async fn users_see_and_change_their_own_and_operators_see_all_and_change_nothing() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob, carol, olga) = (world.user("alice")?, world.user("bob")?, world.user("carol")?, world.operator()?);
    let ticket = alice.lists("Concert", 29900, 5).await?;
    let (bobs, carols) = (bob.places(&ticket, 3).await?, carol.places(&ticket, 1).await?);
    for (user, order) in [(&bob, &bobs), (&carol, &carols)] {
        user.awaits_order(&order.id, OrderStatus::AwaitingPayment).await?;
        olga.awaits_timer(&order.id, contracts::expiration::v1::ExpirationStatus::Scheduled).await?;
    }
    alice.awaits_stock(&ticket.id, 1, 4, 0).await?;

    // Orders: their buyer's, and operators'.
    assert_eq!(ids(&bob, ListOrdersRequest::default()).await?, std::slice::from_ref(&bobs.id));
    assert_eq!(ids(&olga, ListOrdersRequest::default()).await?, [carols.id.clone(), bobs.id.clone()]);
    let of_bob = || ListOrdersRequest { user_id: Some("bob".to_owned()), ..Default::default() };
    assert_eq!(ids(&olga, of_bob()).await?, std::slice::from_ref(&bobs.id));
    assert_eq!(ids(&bob, of_bob()).await?, std::slice::from_ref(&bobs.id), "their own name is no secret");
    let denied = || Refused::new(Code::PermissionDenied, "PERMISSION_DENIED");
    assert_eq!(Refused::of(carol.orders.clone().list_orders(of_bob()).await)?, denied());
    let cancelled = ListOrdersRequest { status: Some(OrderStatus::Cancelled.into()), ..Default::default() };
    assert_eq!(ids(&olga, cancelled).await?, Vec::<String>::new());

    // Timers: operators' alone.
    assert_eq!(Refused::of(bob.timer(&bobs.id).await)?, denied());
    assert_eq!(
        Refused::of(bob.expiration.clone().list_expirations(ListExpirationsRequest::default()).await)?,
        denied()
    );
    let timers = olga.expiration.clone().list_expirations(ListExpirationsRequest::default()).await?.into_inner();
    assert_eq!(timers.expirations.len(), 2);
    let unknown = Uuid::now_v7().to_string();
    assert_eq!(Refused::of(olga.timer(&unknown).await)?, not_found());

    // Tickets: everybody sees them, their seller changes them.
    for other in [&bob, &olga] {
        assert_eq!(other.ticket(&ticket.id).await?.id, ticket.id);
        assert_eq!(Refused::of(other.reprices(&ticket.id, 1).await)?, denied());
        assert_eq!(Refused::of(other.withdraws(&ticket.id).await)?, denied());
    }
    assert_eq!(Refused::of(alice.ticket(&unknown).await)?, not_found());
    assert_eq!(Refused::of(alice.withdraws(&unknown).await)?, not_found());

    // A seller's edits: what is held can't be cut, and what somebody else has edited since isn't overwritten.
    let quantity = |quantity, expected_revision| UpdateTicketRequest {
        id: ticket.id.clone(),
        quantity: Some(quantity),
        expected_revision,
        ..Default::default()
    };
    let too_low = Refused::new(Code::FailedPrecondition, "QUANTITY_TOO_LOW");
    assert_eq!(Refused::of(alice.edits(quantity(3, None)).await)?, too_low);
    let edited = alice.edits(quantity(4, Some(1))).await?;
    assert_eq!((edited.quantity, edited.available, edited.revision), (4, 0, 2));
    assert_eq!(edited.title, "Concert", "what isn't given stays");
    let mismatch = Refused::new(Code::Aborted, "REVISION_MISMATCH");
    assert_eq!(Refused::of(alice.edits(quantity(9, Some(1))).await)?, mismatch);
    world.end().await
}

#[tokio::test]
async fn all_faults_of_a_request_come_in_one_answer() -> Result<()> {
    let world = World::start().await?;
    let alice = world.user("alice")?;

    let ticket = CreateTicketRequest {
        title: "a\u{7}b".to_owned(),
        price: Some(Money::of("XYZ", -1)),
        quantity: Some(0),
        request_id: Some("mine".to_owned()),
    };
    let fields = ["price.currency_code", "price.minor_units", "quantity", "request_id", "title"];
    assert_eq!(sorted(Refused::of(alice.lists_as(ticket).await)?), invalid(&fields));
    let empty = sorted(Refused::of(alice.lists_as(CreateTicketRequest::default()).await)?);
    assert_eq!(empty, invalid(&["price", "title"]));
    let order = CreateOrderRequest {
        ticket_id: "that one".to_owned(),
        quantity: Some(1_000_001),
        unit_price: Some(Money::of("usd", 1)),
        request_id: Some(String::new()),
    };
    let fields = ["quantity", "request_id", "ticket_id", "unit_price.currency_code"];
    assert_eq!(sorted(Refused::of(alice.places_as(order).await)?), invalid(&fields));

    let listed = alice.lists(&"🎫".repeat(200), 0, 1_000_000).await?;
    assert_eq!(listed.title, "🎫".repeat(200), "200 characters, however many bytes");
    let nothing = UpdateTicketRequest { id: listed.id.clone(), ..Default::default() };
    assert_eq!(Refused::of(alice.edits(nothing).await)?.code, Code::InvalidArgument);
    let dear = alice.lists("Dear", i64::MAX, 10).await?;
    assert_eq!(Refused::of(alice.places(&dear, 2).await)?.code, Code::InvalidArgument, "sums don't wrap");
    let free = alice.places(&listed, 1).await?;
    assert_eq!(free.total_price, Some(Money::of("USD", 0)));
    assert_eq!(Refused::of(alice.order("mine").await)?, invalid(&["id"]));
    world.end().await
}

#[tokio::test]
async fn grpcurl_finds_its_way_by_reflection_alone() -> Result<()> {
    let world = World::start().await?;
    let grpcurl = Tools::from_env()?.grpcurl().await?;
    let token = world.stack().signer().token("alice", &[])?;
    let run = async |service: &str, options: &[&str], verbs: &[&str]| -> Result<String> {
        let mut command = Command::new(&grpcurl);
        command.arg("-plaintext").args(options).arg(world.replica(service, 0)?.grpc().to_string()).args(verbs);
        let output = command.kill_on_drop(true).output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };

    for (service, name) in [
        ("tickets", "TicketService"),
        ("orders", "OrderService"),
        ("payments", "PaymentService"),
        ("expiration", "ExpirationService"),
    ] {
        let listed = run(service, &[], &["list"]).await?;
        let full = format!("ticketing.{service}.v1.{name}");
        let expected = [
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
            &full,
        ];
        assert_eq!(listed.lines().collect::<BTreeSet<_>>(), BTreeSet::from(expected), "{service}");
        run(service, &[], &["describe", &full]).await?;
        let health: Value = serde_json::from_str(&run(service, &[], &["grpc.health.v1.Health/Check"]).await?)?;
        assert_eq!(health["status"], "SERVING");
    }

    let request = json!({"title": "Concert", "price": {"currencyCode": "USD", "minorUnits": 29900}, "quantity": 5});
    let (header, request) = (format!("authorization: Bearer {token}"), request.to_string());
    let options = ["-H", &header, "-d", &request];
    let created = run("tickets", &options, &["ticketing.tickets.v1.TicketService/CreateTicket"]).await?;
    let created: Value = serde_json::from_str(&created)?;
    let id = created["ticket"]["id"].as_str().context("an id")?;
    let ticket = world.user("bob")?.ticket(id).await?;
    assert_eq!((ticket.seller_id.as_str(), ticket.title.as_str(), ticket.available), ("alice", "Concert", 5));

    // And without a token: the error names itself.
    let refused = run("tickets", &["-d", &request], &["ticketing.tickets.v1.TicketService/CreateTicket"]).await;
    let refused = refused.err().context("nobody may call without a token")?.to_string();
    assert!(refused.contains("Unauthenticated") && refused.contains("TOKEN_MISSING"), "{refused}");
    world.end().await
}

async fn page(user: &User, request: &ListTicketsRequest) -> Result<(Vec<Ticket>, String)> {
    let page = user.tickets.clone().list_tickets(request.clone()).await?.into_inner();
    Ok((page.tickets, page.next_page_token))
}

async fn ids(user: &User, request: ListOrdersRequest) -> Result<Vec<String>> {
    let page = user.orders.clone().list_orders(request).await?.into_inner();
    Ok(page.orders.into_iter().map(|order| order.id).collect())
}

fn invalid(fields: &[&str]) -> Refused {
    let fields = fields.iter().map(|field| (*field).to_owned()).collect();
    Refused { fields, ..Refused::new(Code::InvalidArgument, "INVALID_ARGUMENT") }
}

fn not_found() -> Refused {
    Refused::new(Code::NotFound, "NOT_FOUND")
}

fn sorted(mut refused: Refused) -> Refused {
    refused.fields.sort();
    refused
}
