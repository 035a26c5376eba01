//! The edge: the whole system through one port, in gRPC, gRPC-Web and JSON.

use anyhow::{Context, Result, ensure};
use contracts::{
    codec::Codec,
    orders::v1::{GetOrderRequest, GetOrderResponse, OrderStatus, WatchOrderRequest, WatchOrderResponse},
    payments::v1::PaymentStatus,
};
use futures_util::future::try_join_all;
use gateway::api::{Api, Binding, Method};
use local::tools::Tools;
use reqwest::header::ACCEPT;
use serde_json::{Value, json};
use stories::{Answer, SOON, Visitor, World, grpc_web, metrics::Page};
use tokio::{process::Command, time::timeout};
use tonic::{
    Request,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use uuid::Uuid;

/// A world with a gateway that has no mind to limit what a test does.
async fn world() -> Result<World> {
    World::with(|stack| Ok(stack.gateway())).await
}

#[tokio::test]
async fn every_call_of_the_contract_has_its_routes_in_every_form() -> Result<()> {
    let world = world().await?;
    let api = Api::of_contracts()?;
    let operator = world.visitor("olga", &["operator"])?;
    let token = world.stack().signer().token("olga", &["operator"])?;
    let edge = Endpoint::from_shared(world.gateway()?.url())?.connect().await?;
    assert!(api.services.len() >= 4 && api.methods().all(|method| !method.bindings.is_empty()), "{api:?}");

    for service in &api.services {
        for method in &service.methods {
            let before = calls(&world, &service.room, method).await?;
            // Whatever it answers: the right service was asked for the right thing.
            in_grpc(edge.clone(), method, &token).await?;
            grpc_web::call(&operator, &method.path, &()).await?.rest().await?;
            for binding in &method.bindings {
                in_json(&operator, binding).await?;
            }
            let asked = calls(&world, &service.room, method).await? - before;
            assert_eq!(asked, 2.0 + method.bindings.len() as f64, "{}", method.path);
        }
    }
    world.end().await
}

/// How often a service has answered a call, however it went.
async fn calls(world: &World, service: &str, method: &Method) -> Result<f64> {
    let rpc = method.path.trim_start_matches('/');
    Page::of(world, service, 0).await?.sum(&format!("grpc_server_calls_total{{rpc=\"{rpc}\""))
}

/// An empty message; what is answered, or refused, is not looked at.
async fn in_grpc(edge: Channel, method: &Method, token: &str) -> Result<()> {
    let mut request = Request::new(());
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    let mut client = Grpc::new(edge);
    client.ready().await?;
    let path: PathAndQuery = method.path.parse()?;
    let codec = Codec::<(), ()>::default();
    if method.streams() {
        drop(client.server_streaming(request, path, codec).await);
    } else {
        drop(client.unary(request, path, codec).await);
    }
    Ok(())
}

async fn in_json(visitor: &Visitor, binding: &Binding) -> Result<Answer> {
    let nothing_there = Uuid::now_v7().to_string();
    let path = binding
        .variables()
        .fold(binding.template.clone(), |path, variable| path.replace(&format!("{{{variable}}}"), &nothing_there));
    let request = visitor.request(binding.verb.parse()?, &path);
    Answer::of(if binding.body { request.json(&json!({})) } else { request }).await
}

#[tokio::test]
async fn a_first_order_is_paid_with_json_alone() -> Result<()> {
    let world = world().await?;
    let alice = world.visitor("alice", &[])?;

    let price = json!({"currencyCode": "USD", "minorUnits": "29900"});
    let listed = alice.post("/api/tickets", &json!({"title": "Concert", "price": price, "quantity": 5})).await?.ok()?;
    let ticket = text(&listed["ticket"]["id"])?;
    // Zeros are printed, and enums are by their names.
    assert_eq!(
        (&listed["ticket"]["reserved"], &listed["ticket"]["status"]),
        (&json!(0), &json!("TICKET_STATUS_LISTED"))
    );
    // Either case, and an integer that fits is an integer.
    let order = json!({"ticket_id": ticket, "unitPrice": {"currency_code": "USD", "minorUnits": 29900}});
    let order = alice.post("/api/orders", &order).await?.ok()?;
    assert_eq!(order["order"]["status"], "ORDER_STATUS_CREATED");
    let path = format!("/api/orders/{}", text(&order["order"]["id"])?);
    let status = |order: &Value, status: &str| order["order"]["status"] == status;
    alice.awaits("stock to be held", &path, |order| status(order, "ORDER_STATUS_AWAITING_PAYMENT")).await?;
    let card = json!({"orderId": order["order"]["id"], "paymentMethod": "pm_card_visa"});
    let paid = alice.post("/api/payments", &card).await?.ok()?;
    assert_eq!(paid["payment"]["status"], "PAYMENT_STATUS_SUCCEEDED");
    let done = alice.awaits("the order to end", &path, |order| status(order, "ORDER_STATUS_COMPLETED")).await?;

    // What is a number of 64 bits is a text, and what isn't set has its zero.
    assert_eq!((&done["order"]["totalPrice"]["minorUnits"], &done["order"]["version"]), (&json!("29900"), &json!("3")));
    assert_eq!(done["order"]["cancelReason"], "CANCEL_REASON_UNSPECIFIED");
    let mine = alice.get(&format!("/api/payments?orderId={}&pageSize=1", text(&done["order"]["id"])?)).await?.ok()?;
    assert_eq!((mine["payments"].as_array().map(Vec::len), &mine["nextPageToken"]), (Some(1), &json!("")));
    let path = format!("/api/tickets/{ticket}");
    let sold = alice.awaits("the stock to be sold", &path, |ticket| ticket["ticket"]["sold"] == 1).await?;
    assert_eq!((&sold["ticket"]["reserved"], &sold["ticket"]["available"]), (&json!(0), &json!(4)));
    world.end().await
}

#[tokio::test]
async fn a_seller_and_a_buyer_change_their_minds_with_every_verb() -> Result<()> {
    let world = world().await?;
    let (alice, bob) = (world.visitor("alice", &[])?, world.visitor("bob", &[])?);
    let listed = json!({"title": "Concert", "price": {"currencyCode": "USD", "minorUnits": 100}, "quantity": 5});
    let listed = alice.post("/api/tickets", &listed).await?.ok()?;
    let ticket = format!("/api/tickets/{}", text(&listed["ticket"]["id"])?);

    let patched = alice.call(reqwest::Method::PATCH, &ticket, &json!({"title": "Opera"})).await?.ok()?;
    let put = alice.call(reqwest::Method::PUT, &ticket, &json!({"quantity": 7})).await?.ok()?;
    assert_eq!((&patched["ticket"]["title"], &patched["ticket"]["quantity"]), (&json!("Opera"), &json!(5)));
    assert_eq!(
        (&put["ticket"]["title"], &put["ticket"]["quantity"]),
        (&json!("Opera"), &json!(7)),
        "only what is given"
    );

    for cancel in [":cancel", ""] {
        let order = bob.post("/api/orders", &json!({"ticketId": listed["ticket"]["id"]})).await?.ok()?;
        let path = format!("/api/orders/{}{cancel}", text(&order["order"]["id"])?);
        let cancelled = match cancel {
            "" => Answer::of(bob.request(reqwest::Method::DELETE, &path)).await?,
            _ => bob.post(&path, &json!({})).await?,
        };
        assert_eq!(cancelled.ok()?["order"]["cancelReason"], "CANCEL_REASON_BUYER");
    }
    let withdrawn = alice.post(&format!("{ticket}:withdraw"), &json!({})).await?.ok()?;
    assert_eq!(withdrawn["ticket"]["status"], "TICKET_STATUS_WITHDRAWN");
    world.end().await
}

#[tokio::test]
async fn the_longest_page_of_a_list_comes_whole() -> Result<()> {
    let world = world().await?;
    let (alice, browser) = (world.user("alice")?, world.visitor("alice", &[])?);
    // Each of these is six bytes in JSON, where it could end a script.
    let title = "<".repeat(200);
    try_join_all((0..200).map(|_| alice.lists(&title, 29900, 5))).await?;

    let page = browser.get("/api/tickets?pageSize=200").await?.ok()?;
    let tickets = page["tickets"].as_array().context("tickets")?;
    assert_eq!(tickets.len(), 200);
    assert!(tickets.iter().all(|ticket| ticket["title"] == title.as_str()), "titles come back as they went in");
    world.end().await
}

#[tokio::test]
async fn a_first_order_is_paid_with_grpc_through_the_gateway() -> Result<()> {
    let world = world().await?;
    let (alice, bob) = (world.user_outside("alice")?, world.user_outside("bob")?);

    let ticket = alice.lists("Concert", 29900, 5).await?;
    let order = bob.places(&ticket, 1).await?;
    let watch = WatchOrderRequest { id: order.id.clone(), after_version: None };
    let mut story = bob.orders.clone().watch_order(watch).await?.into_inner();
    bob.awaits_order(&order.id, OrderStatus::AwaitingPayment).await?;
    assert_eq!(bob.pays(&order.id, "pm_card_visa").await?.status(), PaymentStatus::Succeeded);

    let mut last = None;
    while let Some(told) = timeout(SOON, story.message()).await.context("nothing was told")?? {
        last = told.order;
    }
    assert_eq!(last.map(|order| order.status()), Some(OrderStatus::Completed), "the watch is told the end, and ends");
    world.end().await
}

#[tokio::test]
async fn browsers_call_and_watch_with_grpc_web() -> Result<()> {
    let world = world().await?;
    let (alice, bob) = (world.user("alice")?, world.user("bob")?);
    let browser = world.visitor("bob", &[])?;
    let ticket = alice.lists("Concert", 29900, 5).await?;
    let order = bob.places(&ticket, 1).await?;

    let get = GetOrderRequest { id: order.id.clone() };
    let path = "/ticketing.orders.v1.OrderService/GetOrder";
    let got: GetOrderResponse = grpc_web::unary(&browser, path, &get).await?;
    assert_eq!(got.order.context("an order")?.id, order.id);

    // A story is told while it happens, not at its end.
    let watch = WatchOrderRequest { id: order.id.clone(), after_version: None };
    let mut story = grpc_web::call(&browser, "/ticketing.orders.v1.OrderService/WatchOrder", &watch).await?;
    let mut seen = Vec::new();
    while let Some(told) = story.next::<WatchOrderResponse>().await? {
        let status = told.order.context("an order")?.status();
        if status == OrderStatus::AwaitingPayment {
            bob.cancels(&order.id).await?;
        }
        seen.push(status);
    }
    assert_eq!((seen.last(), story.status()), (Some(&OrderStatus::Cancelled), Some("0")), "{seen:?}");

    // And a refusal is a refusal, with what clients act on.
    let nothing = GetOrderRequest { id: Uuid::now_v7().to_string() };
    let mut refused = grpc_web::call(&browser, path, &nothing).await?;
    assert!(refused.next::<GetOrderResponse>().await?.is_none());
    assert_eq!(refused.status(), Some("5"));
    assert!(refused.trailers.context("trailers")?.contains_key("grpc-status-details-bin"));
    world.end().await
}

#[tokio::test]
async fn an_order_is_watched_as_server_sent_events() -> Result<()> {
    let world = world().await?;
    let (alice, bob) = (world.user("alice")?, world.user("bob")?);
    let browser = world.visitor("bob", &[])?;
    let ticket = alice.lists("Concert", 29900, 5).await?;
    let order = bob.places(&ticket, 1).await?;

    let path = format!("/api/orders/{}:watch", order.id);
    let mut story = browser.request(reqwest::Method::GET, &path).header(ACCEPT, "text/event-stream").send().await?;
    assert_eq!(story.headers()["content-type"], "text/event-stream");
    let (mut text, mut seen) = (String::new(), Vec::new());
    while let Some(chunk) = timeout(SOON, story.chunk()).await.context("nothing was told")?? {
        text += std::str::from_utf8(&chunk)?;
        while let Some((event, rest)) = text.split_once("\n\n") {
            let event: Value = serde_json::from_str(event.strip_prefix("data: ").context("an event")?)?;
            text = rest.to_owned();
            seen.push(event["order"]["status"].as_str().unwrap_or_default().to_owned());
            if seen.last().is_some_and(|status| status == "ORDER_STATUS_AWAITING_PAYMENT") {
                bob.cancels(&order.id).await?;
            }
        }
    }
    assert_eq!((seen.last().map(String::as_str), text.as_str()), (Some("ORDER_STATUS_CANCELLED"), ""), "{seen:?}");

    // It goes on from where somebody was; another's order isn't there, and says so before any event.
    let version = bob.order(&order.id).await?.version;
    let rest = browser.get(&format!("{path}?afterVersion={version}")).await?;
    assert_eq!((rest.status, rest.text.as_str()), (200, ""), "{rest:?}");
    let anothers = world.visitor("carol", &[])?.get(&path).await?.refusal()?;
    assert_eq!(anothers, (404, 5, "NOT_FOUND".to_owned()));
    world.end().await
}

#[tokio::test]
async fn grpcurl_finds_its_way_through_the_gateway() -> Result<()> {
    let world = world().await?;
    let grpcurl = Tools::from_env()?.grpcurl().await?;
    let address = world.gateway()?.addr().to_string();
    let token = format!("authorization: Bearer {}", world.stack().signer().token("alice", &[])?);
    let run = async |options: &[&str], method: &str| -> Result<Value> {
        let mut command = Command::new(&grpcurl);
        command.arg("-plaintext").args(options).args([&address, method]);
        let output = command.kill_on_drop(true).output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    };

    // Health and reflection are for everyone, and whichever service answers describes all.
    assert_eq!(run(&[], "grpc.health.v1.Health/Check").await?["status"], "SERVING");
    let ticket = json!({"title": "Concert", "price": {"currencyCode": "USD", "minorUnits": 29900}}).to_string();
    let ticket = run(&["-H", &token, "-d", &ticket], "ticketing.tickets.v1.TicketService/CreateTicket").await?;
    let order = json!({"ticketId": ticket["ticket"]["id"]}).to_string();
    let order = run(&["-H", &token, "-d", &order], "ticketing.orders.v1.OrderService/CreateOrder").await?;
    assert_eq!(order["order"]["status"], "ORDER_STATUS_CREATED");
    world.end().await
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("{value} is no text"))
}
