//! What the edge refuses, and how: always in the same words, as `google.rpc.Status` with `ErrorInfo`.

use std::fs;

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use contracts::orders::v1::{GetOrderRequest, order_service_client::OrderServiceClient};
use local::keys::{Claims, Signer};
use reqwest::{
    Method,
    header::{ALLOW, AUTHORIZATION, CONTENT_TYPE},
};
use serde_json::{Value, json};
use stories::{
    Answer, Refused, Visitor, World,
    metrics::Page,
    stranger::{UNKNOWN_PATHS, WRONG_VERBS},
};
use tonic::{Code, Request, transport::Endpoint};
use uuid::Uuid;

async fn world() -> Result<World> {
    World::with(|stack| Ok(stack.gateway())).await
}

fn refusal(status: u16, code: Code, reason: &str) -> (u16, i64, String) {
    (status, code as i64, reason.to_owned())
}

fn concert() -> Value {
    json!({"title": "Concert", "price": {"currencyCode": "USD", "minorUnits": 29900}})
}

#[tokio::test]
async fn a_services_refusals_come_as_json_with_their_details() -> Result<()> {
    let world = world().await?;
    let (alice, bob) = (world.visitor("alice", &[])?, world.visitor("bob", &[])?);

    // All faults at once, with their fields.
    let faulty = json!({"title": "", "price": {"currencyCode": "???", "minorUnits": -1}, "quantity": 0});
    let faulty = alice.post("/api/tickets", &faulty).await?;
    assert_eq!(faulty.refusal()?, refusal(400, Code::InvalidArgument, "INVALID_ARGUMENT"));
    let violations = faulty.detail("google.rpc.BadRequest")?;
    let violations = violations["fieldViolations"].as_array().context("violations")?;
    let fields: Vec<_> = violations.iter().filter_map(|violation| violation["field"].as_str()).collect();
    assert_eq!(fields, ["title", "price.currency_code", "price.minor_units", "quantity"]);

    let listed = alice.post("/api/tickets", &concert()).await?.ok()?;
    let ticket = format!("/api/tickets/{}", listed["ticket"]["id"].as_str().context("an id")?);
    let anothers = bob.call(Method::PATCH, &ticket, &json!({"title": "Mine"})).await?;
    assert_eq!(anothers.refusal()?, refusal(403, Code::PermissionDenied, "PERMISSION_DENIED"));
    let stale = alice.call(Method::PATCH, &ticket, &json!({"title": "Opera", "expectedRevision": 7})).await?;
    assert_eq!(stale.refusal()?, refusal(409, Code::Aborted, "REVISION_MISMATCH"));
    let nothing = alice.get(&format!("/api/tickets/{}", Uuid::now_v7())).await?;
    assert_eq!(nothing.refusal()?, refusal(404, Code::NotFound, "NOT_FOUND"));

    // What is worth trying again says when.
    let order = json!({"ticketId": listed["ticket"]["id"]});
    let placed = bob.post("/api/orders", &order).await?.ok()?;
    let path = format!("/api/orders/{}", placed["order"]["id"].as_str().context("an id")?);
    bob.awaits("stock to be held", &path, |order| order["order"]["status"] == "ORDER_STATUS_AWAITING_PAYMENT").await?;
    alice.awaits("no stock to be left", &ticket, |ticket| ticket["ticket"]["available"] == 0).await?;
    let sold_out = local::wait::until("orders to know", stories::SOON, async || {
        let sold_out = bob.post("/api/orders", &order).await?;
        sold_out.refusal()?;
        Ok(sold_out)
    });
    let sold_out = sold_out.await?;
    assert_eq!(sold_out.refusal()?, refusal(400, Code::FailedPrecondition, "SOLD_OUT"));
    assert!(sold_out.detail("google.rpc.RetryInfo")?["retryDelay"].is_string());
    world.end().await
}

#[tokio::test]
async fn what_is_no_request_of_the_contract_is_refused_before_any_service_hears_of_it() -> Result<()> {
    let world = world().await?;
    let alice = world.visitor("alice", &[])?;
    let malformed = || refusal(400, Code::InvalidArgument, "MALFORMED_REQUEST");
    let id = Uuid::now_v7();

    // JSON that is none, or of other types.
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    for body in [
        "{",
        "[]",
        "\"title\"",
        "{\"title\":",
        "{\"title\": {}}",
        "{\"quantity\": 1.5}",
        "{\"quantity\": 3000000000}",
        "{\"price\": 1}",
        "{\"title\": \"\u{1}\"}x",
        &deep,
    ] {
        let request = alice.request(Method::POST, "/api/tickets").header(CONTENT_TYPE, "application/json");
        let answer = Answer::of(request.body(body.to_owned())).await?;
        assert_eq!(answer.refusal()?, malformed(), "{body:.40}");
    }

    // Paths that there aren't, and verbs that a path doesn't have.
    for path in UNKNOWN_PATHS {
        let answer = alice.get(path).await?;
        assert_eq!(answer.refusal().context(path)?, refusal(404, Code::NotFound, "UNKNOWN_PATH"), "{path}");
    }
    for (verb, path, allowed) in WRONG_VERBS {
        let answer = Answer::of(alice.request(verb.parse()?, path)).await?;
        assert_eq!(answer.refusal()?, refusal(405, Code::Unimplemented, "UNKNOWN_METHOD"), "{verb} {path}");
        let mut verbs: Vec<_> = answer.header(ALLOW.as_str()).context("allow")?.split(", ").collect();
        verbs.sort_unstable();
        assert_eq!(verbs.join(", "), *allowed, "{verb} {path}");
    }

    // Queries that nobody knows, or of other types, or that the path has already.
    for query in ["pages=1", "page_size=many", "status=SOLD", "price.minor_units=1"] {
        let answer = alice.get(&format!("/api/tickets?{query}")).await?;
        assert_eq!(answer.refusal().context(query)?, malformed(), "{query}");
    }
    // A body can't name another thing than the path does.
    let listed = alice.post("/api/tickets", &concert()).await?.ok()?;
    let own = listed["ticket"]["id"].as_str().context("an id")?;
    let another = json!({"id": id.to_string(), "title": "Opera"});
    let answer = alice.call(Method::PATCH, &format!("/api/tickets/{own}"), &another).await?;
    assert_eq!(answer.refusal()?, malformed());
    assert_eq!(alice.get(&format!("/api/tickets/{own}")).await?.ok()?["ticket"]["title"], "Concert");
    // But fields of a body that nobody knows say nothing.
    let unknown = json!({"title": "Opera", "colour": {"red": [1, 2]}});
    let patched = alice.call(Method::PATCH, &format!("/api/tickets/{own}"), &unknown).await?.ok()?;
    assert_eq!(patched["ticket"]["title"], "Opera");

    // A call in gRPC that there isn't is that in gRPC, too.
    let edge = Endpoint::from_shared(world.gateway()?.url())?.connect().await?;
    let mut client = tonic::client::Grpc::new(edge);
    client.ready().await?;
    let mut request = Request::new(());
    request.metadata_mut().insert("authorization", bearer(&world.stack().signer().token("alice", &[])?)?);
    let path = "/ticketing.tickets.v1.TicketService/SellTicket".parse()?;
    let unknown = client.unary(request, path, contracts::codec::Codec::<(), ()>::default()).await;
    assert_eq!(Refused::of(unknown.map(drop))?, Refused::new(Code::Unimplemented, "UNKNOWN_METHOD"));
    world.end().await
}

#[tokio::test]
async fn a_body_of_more_than_64_kib_is_refused_in_every_protocol() -> Result<()> {
    let world = world().await?;
    let alice = world.visitor("alice", &[])?;
    let title = |length: usize| json!({"title": "a".repeat(length)});

    // The largest that is taken is looked at, and found wanting; one more byte isn't.
    let frame = title(0).to_string().len();
    let largest = alice.post("/api/tickets", &title(64 * 1024 - frame)).await?;
    assert_eq!(largest.refusal()?, refusal(400, Code::InvalidArgument, "INVALID_ARGUMENT"));
    for length in [64 * 1024 - frame + 1, 1 << 20] {
        let answer = alice.post("/api/tickets", &title(length)).await?;
        assert_eq!(answer.refusal()?, refusal(413, Code::ResourceExhausted, "MESSAGE_TOO_LARGE"), "{length}");
    }
    // Nor is one that doesn't say how long it is.
    let chunks = futures_util::stream::iter((0..20).map(|_| anyhow::Ok(vec![b' '; 8 * 1024])));
    let request = alice.request(Method::POST, "/api/tickets").body(reqwest::Body::wrap_stream(chunks));
    assert_eq!(Answer::of(request).await?.refusal()?, refusal(413, Code::ResourceExhausted, "MESSAGE_TOO_LARGE"));

    let outside = world.user_outside("alice")?;
    let too_large = || Refused::new(Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
    assert_eq!(Refused::of(outside.lists(&"a".repeat(65 * 1024), 1, 1).await)?, too_large());
    world.end().await
}

#[tokio::test]
async fn only_tokens_that_are_sound_come_in() -> Result<()> {
    let world = world().await?;
    let nobody = Visitor::new(world.gateway()?.url())?;
    let signer = world.stack().signer();
    let edge = Endpoint::from_shared(world.gateway()?.url())?.connect().await?;
    let signed = |change: &dyn Fn(&mut Claims)| {
        let mut claims = Claims::new("alice", &[]);
        change(&mut claims);
        signer.sign(&claims)
    };
    let hour = 60 * 60;
    let good = signer.token("alice", &[])?;
    let (header, rest) = good.split_once('.').context("a token")?;
    let (payload, signature) = rest.split_once('.').context("a token")?;
    let forged = |header: Value, signature: &str| {
        format!("{}.{payload}.{signature}", URL_SAFE_NO_PAD.encode(header.to_string()))
    };
    let jwk = serde_json::to_value(signer.jwks())?;
    let operator = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&Claims::new("alice", &["operator"]))?);

    let calls = || answered(&world);
    let before = calls().await?;
    for (what, token, reason) in [
        ("expired", signed(&|claims| claims.exp = claims.iat - hour)?, "TOKEN_EXPIRED"),
        ("not valid yet", signed(&|claims| claims.nbf = claims.iat + hour)?, "TOKEN_INVALID"),
        ("for others", signed(&|claims| claims.aud = "others".to_owned())?, "TOKEN_INVALID"),
        ("by another issuer", signed(&|claims| claims.iss = "stranger".to_owned())?, "TOKEN_INVALID"),
        ("with another key", Signer::generate()?.token("alice", &[])?, "TOKEN_INVALID"),
        ("without an algorithm", forged(json!({"alg": "none"}), ""), "TOKEN_INVALID"),
        (
            "with the public key as a secret",
            forged(json!({"alg": "HS256", "kid": signer.kid(), "jwk": jwk}), signature),
            "TOKEN_INVALID",
        ),
        ("with an unknown key", forged(json!({"alg": "EdDSA", "kid": "unknown"}), signature), "TOKEN_INVALID"),
        ("with more roles than were signed", format!("{header}.{operator}.{signature}"), "TOKEN_INVALID"),
        ("cut off", good[..good.len() - 8].to_owned(), "TOKEN_INVALID"),
        ("no token", "sesame".to_owned(), "TOKEN_INVALID"),
        ("endless", without_end(signer)?, "TOKEN_INVALID"),
    ] {
        let answer = nobody.with_token(&token).get("/api/tickets").await?;
        assert_eq!(answer.refusal()?, refusal(401, Code::Unauthenticated, reason), "{what}");
        let mut request = Request::new(GetOrderRequest::default());
        request.metadata_mut().insert("authorization", bearer(&token)?);
        let refused = Refused::of(OrderServiceClient::new(edge.clone()).get_order(request).await)?;
        assert_eq!(refused, Refused::new(Code::Unauthenticated, reason), "{what}");
    }
    let missing = || refusal(401, Code::Unauthenticated, "TOKEN_MISSING");
    assert_eq!(nobody.get("/api/tickets").await?.refusal()?, missing());
    // Nowhere else than in its header: URLs end up in logs.
    assert_eq!(nobody.get(&format!("/api/tickets?access_token={good}")).await?.refusal()?, missing());
    for scheme in ["Basic", "Token"] {
        let request = nobody.request(Method::GET, "/api/tickets").header(AUTHORIZATION, format!("{scheme} {good}"));
        assert_eq!(Answer::of(request).await?.refusal()?, missing(), "{scheme}");
    }
    assert_eq!(calls().await?, before, "all that is the gateway's own business");

    // Two are one too many, even of the same: whose word would count?
    let request = nobody.request(Method::GET, "/api/tickets").bearer_auth(&good).bearer_auth(&good);
    assert_eq!(Answer::of(request).await?.refusal()?.1, Code::Unauthenticated as i64);
    // The scheme's case means nothing.
    let request = nobody.request(Method::GET, "/api/tickets").header(AUTHORIZATION, format!("bearer {good}"));
    Answer::of(request).await?.ok()?;
    world.end().await
}

/// A token that never expires.
fn without_end(signer: &Signer) -> Result<String> {
    let mut claims = serde_json::to_value(Claims::new("alice", &[]))?;
    claims.as_object_mut().context("claims")?.remove("exp");
    signer.sign(&claims)
}

/// How many calls tickets and orders have answered.
async fn answered(world: &World) -> Result<f64> {
    let mut calls = 0.0;
    for service in ["tickets", "orders"] {
        calls += Page::of(world, service, 0).await?.sum("grpc_server_calls_total{")?;
    }
    Ok(calls)
}

#[tokio::test]
async fn who_calls_is_in_the_token_whatever_the_headers_say() -> Result<()> {
    let world = world().await?;
    let (alice, bob) = (world.user("alice")?, world.visitor("bob", &[])?);
    let ticket = alice.lists("Concert", 29900, 5).await?;
    let order = alice.places(&ticket, 1).await?;
    let nobody = Visitor::new(world.gateway()?.url())?;
    let operator = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&Claims::new("olga", &["operator"]))?);

    let pretends = |visitor: &Visitor| {
        let request = visitor.request(Method::GET, &format!("/api/orders/{}", order.id));
        [
            "x-user-id",
            "x-user",
            "x-forwarded-user",
            "x-remote-user",
            "x-authenticated-user",
            "x-sub",
            "x-auth-request-user",
        ]
        .iter()
        .fold(request, |request, name| request.header(*name, "alice"))
        .header("x-roles", "operator")
        .header("x-jwt-payload", &operator)
        .header("x-endpoint-api-userinfo", &operator)
        .header("x-envoy-internal", "true")
        .header("x-forwarded-for", "127.0.0.1")
        .header("x-forwarded-client-cert", "By=spiffe://alice;Subject=\"CN=alice\"")
    };
    assert_eq!(Answer::of(pretends(&bob)).await?.refusal()?, refusal(404, Code::NotFound, "NOT_FOUND"));
    assert_eq!(Answer::of(pretends(&nobody)).await?.refusal()?, refusal(401, Code::Unauthenticated, "TOKEN_MISSING"));
    world.end().await
}

#[tokio::test]
async fn a_service_that_is_away_is_said_to_be() -> Result<()> {
    let world = world().await?;
    let (alice, outside) = (world.visitor("alice", &[])?, world.user_outside("alice")?);
    world.replica("tickets", 0)?.process().kill().await?;

    let away = alice.get("/api/tickets").await?;
    assert_eq!(away.refusal()?, refusal(503, Code::Unavailable, "SERVICE_UNAVAILABLE"));
    assert_eq!(away.header("retry-after"), Some("1"));
    assert_eq!(away.detail("google.rpc.RetryInfo")?["retryDelay"], "1s");
    let in_grpc = Refused::of(outside.lists("Concert", 1, 1).await)?;
    assert_eq!(in_grpc, Refused { retry: true, ..Refused::new(Code::Unavailable, "SERVICE_UNAVAILABLE") });
    // The others are there.
    alice.get("/api/orders").await?.ok()?;

    world.replica("tickets", 0)?.process().start().await?;
    alice.awaits("tickets to be back", "/api/tickets", |_| true).await?;
    world.end().await
}

#[tokio::test]
async fn who_is_not_told_of_what_goes_well_is_told_of_what_fails_on_our_side() -> Result<()> {
    const ORIGIN: &str = "https://tickets.example";
    let world =
        World::with(|stack| Ok(stack.gateway().env("gateway", "CORS_ORIGINS", ORIGIN).env_for_all("RUST_LOG", "warn")))
            .await?;
    let (alice, outside) = (world.visitor("alice", &[])?, world.user_outside("alice")?);
    // What goes well, and what its caller is to blame for, in JSON and in gRPC.
    let ticket = outside.lists("Concert", 29900, 5).await?;
    alice.get(&format!("/api/tickets/{}", ticket.id)).await?.ok()?;
    alice.get("/api/nothing").await?.refusal()?;
    alice.get("/api/tickets/nothing").await?.refusal()?;
    alice.get("/api/tickets?x").await?.refusal()?;
    let asks_first = alice.request(Method::OPTIONS, "/api/tickets").header("origin", ORIGIN);
    assert_eq!(Answer::of(asks_first.header("access-control-request-method", "GET")).await?.status, 200);
    Refused::of(outside.places(&ticket, 0).await)?;
    // What isn't.
    world.replica("tickets", 0)?.process().kill().await?;
    alice.get("/api/tickets").await?.refusal()?;
    Refused::of(outside.lists("Concert", 1, 1).await)?;

    // Lines are written now and then, and at the end at the latest.
    let gateway = world.gateway()?.process();
    gateway.terminate().await?;
    let log = fs::read_to_string(gateway.log())?;
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let told = lines.filter_map(|line| {
        let (method, path) = (line["method"].as_str()?.to_owned(), line["path"].as_str()?.to_owned());
        Some((method, path, line["status"].as_u64()?, line["grpc_status"].clone()))
    });
    let mut told: Vec<_> = told.collect();
    told.sort_by(|one, other| one.0.cmp(&other.0));
    let create = "/ticketing.tickets.v1.TicketService/CreateTicket".to_owned();
    let expected = [
        ("GET".to_owned(), "/api/tickets".to_owned(), 503, Value::Null),
        ("POST".to_owned(), create, 200, Value::from(Code::Unavailable as u32)),
    ];
    assert_eq!(told, expected, "{log}");
    world.replica("tickets", 0)?.process().start().await?;
    gateway.start().await?;
    world.end().await
}

fn bearer(token: &str) -> Result<tonic::metadata::MetadataValue<tonic::metadata::Ascii>> {
    Ok(format!("Bearer {token}").parse()?)
}
