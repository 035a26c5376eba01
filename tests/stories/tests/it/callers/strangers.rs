//! Whatever a stranger sends: one table of it. Each row is sent by every way in that there is for it, is answered alike by
//! all, leaves nothing behind, and disturbs nobody.

use std::{
    io::Write as _,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use contracts::{
    expiration::v1::ExpirationStatus,
    orders::v1::{CreateOrderRequest, ListOrdersRequest, OrderStatus},
    payments::v1::{CreatePaymentRequest, PaymentStatus},
    tickets::v1::{CreateTicketRequest, ListTicketsRequest},
    r#type::v1::Money,
};
use flate2::{Compression, write::GzEncoder};
use futures_util::{StreamExt as _, stream};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use local::keys::{Claims, Signer};
use serde_json::{Value, json};
use stories::{
    Refused, User, World, footprint,
    stranger::{Call, Sent, Stranger, UNKNOWN_PATHS, WRONG_VERBS, Way},
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

fn not_found() -> Refused {
    refused(Code::NotFound, "NOT_FOUND")
}

fn denied() -> Refused {
    refused(Code::PermissionDenied, "PERMISSION_DENIED")
}

fn reused() -> Refused {
    refused(Code::AlreadyExists, "REQUEST_ID_REUSED")
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

fn unauthenticated(reason: &str) -> Refused {
    refused(Code::Unauthenticated, reason)
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

    /// Whose word isn't to be taken.
    fn tokens(&self) -> Result<Vec<Case>> {
        let (missing, invalid) = (|| unauthenticated("TOKEN_MISSING"), || unauthenticated("TOKEN_INVALID"));
        let ask = |name: &str, headers: &[&[u8]], back: Refused| {
            let headers = headers.iter().map(|value| ("authorization", value.to_vec())).collect();
            let sent = Sent::Message(json!({"id": self.order}));
            Case::new(name, Call { rpc: "GetOrder", headers, sent }, Some(back))
        };
        let bearer = |token: &str| format!("Bearer {token}").into_bytes();
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let sound = self.signer.token("bob", &[])?;
        let (header, rest) = sound.split_once('.').context("a token")?;
        let (payload, signature) = rest.split_once('.').context("a token")?;
        let of_header = |header: Value, signature: &str| bearer(&format!("{}.{payload}.{signature}", part(&header)));
        let operator = serde_json::to_value(Claims::new("bob", &["operator"]))?;
        let hmac = |secret: &[u8]| {
            let header = Header { kid: Some(self.signer.kid().to_owned()), ..Header::new(Algorithm::HS256) };
            jsonwebtoken::encode(&header, &Claims::new("bob", &[]), &EncodingKey::from_secret(secret))
        };
        let jwk = serde_json::to_value(self.signer.jwks())?["keys"][0].clone();
        let public = jwk["x"].as_str().context("a public key")?;
        let claims = |name: &str, value: Value| {
            let mut claims = serde_json::to_value(Claims::new("bob", &[]))?;
            claims[name] = value;
            self.bearer(&claims)
        };
        let now = Claims::new("bob", &[]).iat;

        let mut cases = vec![
            ask("no token", &[], missing()),
            ask("an empty authorization", &[b""], missing()),
            ask("a scheme without a token", &[b"Bearer"], missing()),
            ask("another scheme", &[b"Basic Ym9iOnNlc2FtZQ=="], missing()),
            ask("a token without a scheme", &[sound.as_bytes()], missing()),
            ask("no JWT", &[b"Bearer sesame"], invalid()),
            ask("a token that is cut off", &[&bearer(&sound[..sound.len() - 8])], invalid()),
            ask("a token with something behind it", &[&bearer(&format!("{sound}.x"))], invalid()),
            ask("two authorizations", &[&bearer(&sound), &bearer(&sound)], invalid()),
            ask("two authorizations, the first no token", &[b"Bearer x", &bearer(&sound)], invalid()),
            ask("an expired token", &[&claims("exp", json!(now - 3600))?], unauthenticated("TOKEN_EXPIRED")),
            ask("a token of tomorrow", &[&claims("nbf", json!(now + 3600))?], invalid()),
            ask("a token for others", &[&claims("aud", json!("others"))?], invalid()),
            ask("a token by another issuer", &[&claims("iss", json!("elsewhere"))?], invalid()),
            ask("a token without an end", &[&claims("exp", Value::Null)?], invalid()),
            ask("a token for nobody", &[&claims("sub", json!(""))?], invalid()),
            ask("a user with control characters", &[&claims("sub", json!("bob\u{0}"))?], invalid()),
            ask("a user of 256 characters", &[&claims("sub", json!("b".repeat(256)))?], invalid()),
            ask("roles that are no list", &[&claims("roles", json!("operator"))?], invalid()),
            ask("alg none", &[&of_header(json!({"alg": "none"}), "")], invalid()),
            ask("alg none, with a kid", &[&of_header(json!({"alg": "none", "kid": self.signer.kid()}), "")], invalid()),
            ask("alg none, with a signature", &[&of_header(json!({"alg": "none"}), signature)], invalid()),
            ask("no alg", &[&of_header(json!({"kid": self.signer.kid()}), signature)], invalid()),
            ask("a key of the token's own", &[&of_header(json!({"alg": "EdDSA", "jwk": jwk}), signature)], invalid()),
            ask("an unknown kid", &[&of_header(json!({"alg": "EdDSA", "kid": "unknown"}), signature)], invalid()),
            ask(
                "more roles than were signed",
                &[&bearer(&format!("{header}.{}.{signature}", part(&operator)))],
                invalid(),
            ),
            ask("another's key", &[&bearer(&Signer::generate()?.token("bob", &[])?)], invalid()),
        ];
        for (name, secret) in [
            ("HMAC, the public key as its secret", URL_SAFE_NO_PAD.decode(public)?),
            ("HMAC, the public key's text as its secret", public.as_bytes().to_vec()),
            ("HMAC, the whole JWK as its secret", jwk.to_string().into_bytes()),
            ("HMAC, nothing as its secret", Vec::new()),
        ] {
            cases.push(ask(name, &[&bearer(&hmac(&secret)?)], invalid()));
        }
        Ok(cases)
    }

    /// What is somebody else's.
    fn of_others(&self) -> Result<Vec<Case>> {
        let (order, ticket, payment) = (&self.order, &self.ticket, &self.payment);
        let (visa, unknown) = ("pm_card_visa", Uuid::now_v7().to_string());
        [
            ("mallory", "GetOrder", json!({"id": order}), not_found()),
            ("mallory", "CancelOrder", json!({"id": order}), not_found()),
            ("mallory", "WatchOrder", json!({"id": order}), not_found()),
            ("mallory", "CreatePayment", json!({"order_id": order, "payment_method": visa}), not_found()),
            ("mallory", "GetPayment", json!({"id": payment}), not_found()),
            ("mallory", "ListOrders", json!({"user_id": "bob"}), denied()),
            ("mallory", "UpdateTicket", json!({"id": ticket, "title": "Mine"}), denied()),
            ("mallory", "WithdrawTicket", json!({"id": ticket}), denied()),
            ("mallory", "GetExpiration", json!({"order_id": order}), denied()),
            ("mallory", "ListExpirations", json!({}), denied()),
            // Operators see all and change nothing.
            ("olga", "CancelOrder", json!({"id": order}), not_found()),
            ("olga", "CreatePayment", json!({"order_id": order, "payment_method": visa}), not_found()),
            ("olga", "UpdateTicket", json!({"id": ticket, "title": "Mine"}), denied()),
            ("olga", "WithdrawTicket", json!({"id": ticket}), denied()),
            // What there isn't.
            ("bob", "GetOrder", json!({"id": unknown}), not_found()),
            ("bob", "CancelOrder", json!({"id": unknown}), not_found()),
            ("bob", "WatchOrder", json!({"id": unknown}), not_found()),
            ("bob", "CreateOrder", json!({"ticket_id": unknown}), not_found()),
            ("bob", "GetPayment", json!({"id": unknown}), not_found()),
            ("bob", "GetTicket", json!({"id": unknown}), not_found()),
            ("alice", "UpdateTicket", json!({"id": unknown, "title": "Mine"}), not_found()),
            ("alice", "WithdrawTicket", json!({"id": unknown}), not_found()),
            ("olga", "GetExpiration", json!({"order_id": unknown}), not_found()),
            // What is over.
            ("bob", "CancelOrder", json!({"id": self.paid}), refused(Code::FailedPrecondition, "ORDER_COMPLETED")),
            (
                "bob",
                "CreatePayment",
                json!({"order_id": self.paid, "payment_method": visa}),
                refused(Code::FailedPrecondition, "ALREADY_PAID"),
            ),
            (
                "alice",
                "UpdateTicket",
                json!({"id": ticket, "title": "Late", "expected_revision": -1}),
                refused(Code::Aborted, "REVISION_MISMATCH"),
            ),
            // Another request under a request's id.
            ("alice", "CreateTicket", but(&self.create_ticket(), &[("title", json!("Opera"))]), reused()),
            ("alice", "CreateTicket", but(&self.create_ticket(), &[("quantity", json!(9))]), reused()),
            ("bob", "CreateOrder", but(&self.create_order(), &[("quantity", json!(2))]), reused()),
            ("bob", "CreateOrder", but(&self.create_order(), &[("ticket_id", json!(self.dear))]), reused()),
            ("bob", "CreatePayment", but(&self.create_payment(), &[("payment_method", json!("pm_other"))]), reused()),
            ("bob", "CreatePayment", but(&self.create_payment(), &[("order_id", json!(order))]), reused()),
        ]
        .into_iter()
        .map(|(user, rpc, message, back)| {
            let name = format!("{user}: {rpc} {message}");
            Ok(Case::new(&name, self.by(user, rpc, Sent::Message(message))?, Some(back)))
        })
        .collect()
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

    /// Each field of each call: missing, empty, too long, out of bounds, with what it mustn't have.
    fn fields(&self) -> Result<Vec<Case>> {
        let (ids, long) = (not_ids(), "é".repeat(201));
        let mut cases = Vec::new();
        let mut add = |user: &str, rpc: &'static str, sound: &Value, changes: &[(&str, Value)], fields: &[&str]| {
            let message = but(sound, changes);
            let name = format!("{rpc} {:.200}", message.to_string());
            cases.push(Case::new(&name, self.by(user, rpc, Sent::Message(message))?, Some(invalid(fields))));
            anyhow::Ok(())
        };

        // Without the request's id, which would answer before anything is judged.
        let ticket = but(&self.create_ticket(), &[("request_id", Value::Null)]);
        let order = but(&self.create_order(), &[("request_id", Value::Null)]);
        let payment = json!({"order_id": self.order, "payment_method": "pm_card_visa"});
        let edit = json!({"id": self.ticket, "title": "Opera"});
        let titles = ["", "\u{0}", "a\u{7}b", "a\nb", "a\u{7f}", "a\u{85}b", "\u{9b}31m", &long];
        let amounts = [
            (json!({"minor_units": 1}), "currency_code"),
            (json!({"currency_code": "", "minor_units": 1}), "currency_code"),
            (json!({"currency_code": "usd", "minor_units": 1}), "currency_code"),
            (json!({"currency_code": "XYZ", "minor_units": 1}), "currency_code"),
            (json!({"currency_code": "USD ", "minor_units": 1}), "currency_code"),
            (json!({"currency_code": "U\u{0}D", "minor_units": 1}), "currency_code"),
            (json!({"currency_code": "DOLLARS", "minor_units": 1}), "currency_code"),
            (json!({"currency_code": "USD", "minor_units": -1}), "minor_units"),
            (json!({"currency_code": "USD", "minor_units": i64::MIN}), "minor_units"),
        ];
        for title in titles {
            add("alice", "CreateTicket", &ticket, &[("title", json!(title))], &["title"])?;
            add("alice", "UpdateTicket", &edit, &[("title", json!(title))], &["title"])?;
        }
        for quantity in [0, -1, 1_000_001, i32::MAX, i32::MIN] {
            let quantity = [("quantity", json!(quantity))];
            add("alice", "CreateTicket", &ticket, &quantity, &["quantity"])?;
            add("alice", "UpdateTicket", &edit, &quantity, &["quantity"])?;
            add("bob", "CreateOrder", &order, &quantity, &["quantity"])?;
        }
        for (amount, field) in amounts {
            for (user, rpc, sound, name) in [
                ("alice", "CreateTicket", &ticket, "price"),
                ("alice", "UpdateTicket", &edit, "price"),
                ("bob", "CreateOrder", &order, "unit_price"),
            ] {
                add(user, rpc, sound, &[(name, amount.clone())], &[&format!("{name}.{field}")])?;
            }
        }
        for id in &ids {
            let id = json!(id);
            for (user, rpc, sound, name) in [
                ("alice", "CreateTicket", &ticket, "request_id"),
                ("bob", "CreateOrder", &order, "request_id"),
                ("bob", "CreatePayment", &payment, "request_id"),
                ("alice", "UpdateTicket", &edit, "id"),
                ("alice", "WithdrawTicket", &json!({}), "id"),
                ("alice", "GetTicket", &json!({}), "id"),
                ("bob", "CreateOrder", &order, "ticket_id"),
                ("bob", "GetOrder", &json!({}), "id"),
                ("bob", "CancelOrder", &json!({}), "id"),
                ("bob", "WatchOrder", &json!({}), "id"),
                ("bob", "CreatePayment", &payment, "order_id"),
                ("bob", "GetPayment", &json!({}), "id"),
                ("bob", "ListPayments", &json!({}), "order_id"),
                ("olga", "GetExpiration", &json!({}), "order_id"),
            ] {
                add(user, rpc, sound, &[(name, id.clone())], &[name])?;
            }
        }
        add("alice", "CreateTicket", &ticket, &[("title", Value::Null)], &["title"])?;
        add("alice", "CreateTicket", &ticket, &[("price", Value::Null)], &["price"])?;
        add("alice", "CreateTicket", &json!({}), &[], &["title", "price"])?;
        add("alice", "UpdateTicket", &json!({"id": self.ticket}), &[], &["title"])?;
        add("bob", "CreateOrder", &json!({}), &[], &["ticket_id"])?;
        add("bob", "CreatePayment", &json!({}), &[], &["order_id", "payment_method"])?;
        for method in ["", "pm\u{0}", "pm\n", &"p".repeat(101)] {
            add("bob", "CreatePayment", &payment, &[("payment_method", json!(method))], &["payment_method"])?;
        }
        add("bob", "WatchOrder", &json!({"id": self.order}), &[("after_version", json!(-1))], &["after_version"])?;
        // Sums that would be more than any money, by the price that is known and by one that is said.
        let dear = [("ticket_id", json!(self.dear)), ("quantity", json!(2))];
        add("bob", "CreateOrder", &order, &dear, &["quantity"])?;
        let said = json!({"currency_code": "USD", "minor_units": i64::MAX / 2});
        add("bob", "CreateOrder", &order, &[("unit_price", said), ("quantity", json!(3))], &["quantity"])?;

        for (user, rpc, page) in [
            ("alice", "ListTickets", &self.orders_page),
            ("bob", "ListTickets", &self.tickets_page),
            ("bob", "ListOrders", &self.tickets_page),
            ("mallory", "ListOrders", &self.orders_page),
            ("olga", "ListOrders", &self.orders_page),
            ("bob", "ListPayments", &self.orders_page),
            ("olga", "ListExpirations", &self.orders_page),
        ] {
            let forged: String = page.chars().rev().collect();
            for token in [page.as_str(), &forged, &page[1..], "AAAA", "%", "\u{0}", "' OR 1=1 --", &"A".repeat(5000)] {
                add(user, rpc, &json!({}), &[("page_token", json!(token))], &["page_token"])?;
            }
            for size in [-1, i32::MIN] {
                add(user, rpc, &json!({}), &[("page_size", json!(size))], &["page_size"])?;
            }
        }
        // Of one's own list, but with another filter.
        let other = json!({"page_token": self.tickets_page});
        add("alice", "ListTickets", &other, &[("seller_id", json!("alice"))], &["page_token"])?;
        for (user, rpc) in [("alice", "ListTickets"), ("bob", "ListOrders"), ("olga", "ListExpirations")] {
            for status in [0, 9, -1] {
                add(user, rpc, &json!({}), &[("status", json!(status))], &["status"])?;
            }
        }
        for name in ["", "\u{0}", "a\u{7}b", &"a".repeat(256)] {
            add("alice", "ListTickets", &json!({}), &[("seller_id", json!(name))], &["seller_id"])?;
            add("olga", "ListOrders", &json!({}), &[("user_id", json!(name))], &["user_id"])?;
        }
        let all = json!({
            "title": "", "price": {"currency_code": "?", "minor_units": -1}, "quantity": 0, "request_id": "?",
        });
        let of_all = ["title", "price.currency_code", "price.minor_units", "quantity", "request_id"];
        add("alice", "CreateTicket", &all, &[], &of_all)?;
        // No HTTP path holds NUL, and no query a number of an enum that has no name.
        for case in &mut cases {
            let Sent::Message(message) = &case.call.sent else { continue };
            let has_nul = |name: &str| message[name].as_str().is_some_and(|id| id.contains('\0'));
            let in_path = has_nul("id") || case.call.rpc == "GetExpiration" && has_nul("order_id");
            if in_path || message["status"].as_i64().is_some_and(|status| status != 0) {
                case.but.push((Way::Json, Some(malformed())));
            }
        }
        Ok(cases)
    }

    /// What is no message.
    fn bytes(&self) -> Result<Vec<Case>> {
        let mut cases = Vec::new();
        for rpc in ["CreateTicket", "UpdateTicket", "CreateOrder", "CreatePayment", "GetOrder", "WatchOrder"] {
            for (what, bytes) in [
                ("no field", b"\xff\xff\xff".to_vec()),
                ("field 0", b"\x02\x01a".to_vec()),
                ("a length beyond the end", b"\x0a\x05ab".to_vec()),
                ("a length of almost 2 to the 64", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01a".to_vec()),
                ("a text that is no UTF-8", b"\x0a\x02\xff\xfe".to_vec()),
                ("half a surrogate pair", b"\x0a\x03\xed\xa0\x80".to_vec()),
                ("a number where a text belongs", b"\x08\x01".to_vec()),
                ("a number without an end", [&b"\x10"[..], &[0xff; 11]].concat()),
                ("groups in groups", vec![0x7b; 5000]),
                ("the end of a group that never began", b"\x7c".to_vec()),
                ("noise", (0..200u8).map(|byte| byte.wrapping_mul(167) | 0x80).collect()),
            ] {
                let call = self.by("bob", rpc, Sent::Bytes(bytes))?;
                cases.push(Case::new(&format!("{rpc}: {what}"), call, Some(malformed_message())));
            }
        }
        let large = self.by("bob", "CreateTicket", Sent::Bytes(vec![b' '; 64 * 1024 + 1]))?;
        cases.push(Case::new("a message of more than 64 KiB", large, Some(too_large())));
        Ok(cases)
    }

    /// What is badly framed, or compressed.
    fn frames(&self) -> Result<Vec<Case>> {
        let title = |length: usize| {
            let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
            [&[0][..], &length, b"\x0a\x01a"].concat()
        };
        let bomb = compressed(&vec![0; 50_000_000])?;
        ensure!(bomb.len() < 64 * 1024, "it has to come through: {}", bomb.len());
        let flagged = |flag: u8, message: &[u8]| -> Result<Vec<u8>> {
            Ok([&[flag][..], &u32::try_from(message.len())?.to_be_bytes(), message].concat())
        };
        let compressed_by = || refused(Code::Unimplemented, "UNIMPLEMENTED");
        let case = |name: &str, bytes: Vec<u8>, back: Refused| {
            anyhow::Ok(Case::new(name, self.by("bob", "CreateTicket", Sent::Frame(bytes))?, Some(back)))
        };
        Ok(vec![
            case("no frame at all", Vec::new(), malformed_message())?,
            case("half a frame's head", vec![0, 0, 0], malformed_message())?,
            case("a frame that is cut off", title(100), malformed_message())?,
            case("a frame of 4 GiB", title(usize::MAX), too_large())?,
            case("an unknown flag", flagged(7, b"\x0a\x01a")?, malformed_message())?,
            case("compressed, but nobody says how", flagged(1, &compressed(b"\x0a\x01a")?)?, malformed_message())?,
            // No service takes what is compressed, so that nothing ever explodes.
            case("a bomb", flagged(1, &bomb)?, compressed_by())?.with("grpc-encoding", "gzip"),
            case("a bomb by what nobody knows", flagged(1, &bomb)?, compressed_by())?.with("grpc-encoding", "lzma"),
            case("no gzip", flagged(1, b"no gzip at all")?, compressed_by())?.with("grpc-encoding", "gzip"),
            case("a bomb, cut off", flagged(1, &bomb[..99])?, compressed_by())?.with("grpc-encoding", "gzip"),
        ])
    }

    /// Deadlines that are none, have passed, or never come; and other odd headers.
    fn headers(&self) -> Result<Vec<Case>> {
        let get = || self.by("bob", "GetOrder", Sent::Message(json!({"id": self.order})));
        let create = || {
            self.by("alice", "CreateTicket", Sent::Message(but(&self.create_ticket(), &[("request_id", Value::Null)])))
        };
        let mut cases = Vec::new();
        for text in ["", "-1S", "+1S", "1", "S", "soon", "1.5S", "1s", "100000000S", "1 S"] {
            let name = format!("a deadline of {text:?}");
            cases.push(Case::new(&name, create()?, Some(invalid(&["grpc-timeout"]))).with("grpc-timeout", text));
        }
        for text in ["0n", "0S", "1n", "999u"] {
            let late = refused(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
            cases.push(Case::new(&format!("a deadline of {text}"), create()?, Some(late)).with("grpc-timeout", text));
        }
        cases.push(Case::new("a deadline in eleven thousand years", get()?, None).with("grpc-timeout", "99999999H"));
        for (name, value) in [
            ("traceparent", &b"00-00000000000000000000000000000000-0000000000000000-01"[..]),
            ("traceparent", b"\xff\xfe"),
            ("tracestate", b"=,=,=;\"'"),
            ("uber-trace-id", b"a:b:c:d:e"),
            ("grpc-accept-encoding", b"\"';--"),
            ("x-forwarded-for", b"not an address"),
        ] {
            cases.push(Case::new(&format!("an odd {name}"), get()?, None).with(name, value));
        }
        // Services take a little more than the gateway lets through.
        let large = "a".repeat(13 * 1024);
        let many = (0..70).fold(get()?, |mut call, _| {
            call.headers.push(("x-one-more", b"a".to_vec()));
            call
        });
        for (name, call) in [
            ("headers of more than 12 KiB", Case::new("", get()?, None).with("x-large", large).call),
            ("more than 64 headers", many),
        ] {
            let mut case = Case::new(name, call, Some(refused(Code::ResourceExhausted, "HEADERS_TOO_LARGE")));
            case.but.push((Way::Service, None));
            // Of HTTP/2, Envoy ends the stream and says no more.
            case.but.push((Way::Grpc, Some(refused(Code::Internal, ""))));
            cases.push(case);
        }
        // What some servers take for the same as a hyphen.
        let mut underscore =
            Case::new("a header with an underscore", get()?, Some(malformed())).with("x_roles", "operator");
        underscore.but.push((Way::Service, None));
        underscore.but.push((Way::Grpc, Some(refused(Code::Internal, ""))));
        cases.push(underscore);
        Ok(cases)
    }

    /// JSON that is none or says something else, and everything else that HTTP allows.
    fn http(&self) -> Result<Vec<Case>> {
        let mut cases = Vec::new();
        let mut add = |verb: &'static str, path: String, body: &[u8], back: Option<Refused>| {
            let name = format!("{verb} {path:.100} {:.60}", String::from_utf8_lossy(body));
            let sent = Sent::Http { verb, path, body: body.to_vec() };
            cases.push(Case::new(&name, self.by("alice", "", sent)?, back));
            anyhow::Ok(())
        };
        let deep = |open: &str, close: &str, depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        let (tickets, ticket) = ("/api/tickets".to_owned(), format!("/api/tickets/{}", self.ticket));

        // No JSON, or of other types.
        for body in [
            &b"{"[..],
            b"[]",
            b"\"title\"",
            b"{\"title\":",
            b"{\"title\": {}}",
            b"{\"title\": [\"a\"]}",
            b"{\"title\": \"a\"}x",
            b"{\"title\": \"\xff\xfe\"}",
            b"{\"title\": \"\xed\xa0\x80\"}",
            b"{\"quantity\": 1.5}",
            b"{\"quantity\": 3000000000}",
            b"{\"quantity\": \"many\"}",
            b"{\"price\": 1}",
            b"{\"price\": {\"currencyCode\": \"USD\", \"minorUnits\": 0.1}}",
            b"{\"price\": {\"currencyCode\": \"USD\", \"minorUnits\": 1e30}}",
            b"{\"price\": {\"currencyCode\": \"USD\", \"minorUnits\": \"9223372036854775808\"}}",
            b"{\"price\": {\"currencyCode\": 840}}",
            b"{\"requestId\": {}}",
            b"title=a&quantity=1",
            b"<ticket/>",
            b"\x00\x00\x00\x00\x00",
            deep("[", "]", 30_000).as_bytes(),
            deep("{\"price\":", "}", 5_000).as_bytes(),
            deep("{\"colour\":[", "]}", 5_000).as_bytes(),
        ] {
            add("POST", tickets.clone(), body, Some(malformed()))?;
        }
        add("POST", tickets.clone(), &vec![b' '; 64 * 1024 + 6], Some(too_large()))?;
        add(
            "POST",
            tickets.clone(),
            format!("{{\"title\": \"{}\"}}", "a".repeat(1 << 20)).as_bytes(),
            Some(too_large()),
        )?;
        // Of a key that comes twice, the last holds.
        add(
            "POST",
            tickets.clone(),
            br#"{"quantity": 0, "title": "a", "title": ""}"#,
            Some(invalid(&["title", "price", "quantity"])),
        )?;
        add(
            "POST",
            tickets.clone(),
            br#"{"quantity": 0, "title": "", "title": "a"}"#,
            Some(invalid(&["price", "quantity"])),
        )?;
        add("POST", tickets.clone(), b"", Some(invalid(&["title", "price"])))?;
        add("POST", tickets.clone(), b"null", Some(malformed()))?;

        // A body that says what its path says already, be it the same, be it spelled otherwise.
        for id in [&self.ticket, &self.dear] {
            for body in [
                format!("{{\"id\": \"{id}\", \"title\": \"Opera\"}}"),
                format!("{{\"title\": \"Opera\", \"\\u0069d\": \"{id}\"}}"),
            ] {
                add("PATCH", ticket.clone(), body.as_bytes(), Some(malformed()))?;
                add("PUT", ticket.clone(), body.as_bytes(), Some(malformed()))?;
                add("POST", format!("{ticket}:withdraw"), body.as_bytes(), Some(malformed()))?;
            }
        }
        // Null is nothing, and elsewhere than at the top it says nothing.
        add("PATCH", ticket.clone(), br#"{"id": null, "title": ""}"#, Some(invalid(&["title"])))?;
        add("PATCH", ticket.clone(), br#"{"title": "", "colour": {"id": 1}}"#, Some(invalid(&["title"])))?;

        // Queries that nobody knows, or of other types, or that say nothing.
        for query in [
            "pages=1",
            "page_size=many",
            "page_size=1.5",
            "page_size=99999999999",
            "status=SOLD",
            "price.minor_units=1",
            "pageSize",
            "pageSize=",
            "page_size&status=TICKET_STATUS_LISTED",
            "status=TICKET_STATUS_LISTED&pageSize",
            "=1",
        ] {
            add("GET", format!("/api/tickets?{query}"), b"", Some(malformed()))?;
        }

        // Paths that there aren't, and verbs that a path doesn't have.
        let unknown_path = || Some(refused(Code::NotFound, "UNKNOWN_PATH"));
        for path in UNKNOWN_PATHS {
            add("GET", (*path).to_owned(), b"", unknown_path())?;
        }
        let wrong_verb = || Some(refused(Code::Unimplemented, "UNKNOWN_METHOD"));
        for (verb, path, _) in WRONG_VERBS {
            add(verb, (*path).to_owned(), b"", wrong_verb())?;
        }
        for verb in ["BREW", "get"] {
            add(verb, tickets.clone(), b"", Some(malformed()))?;
        }
        // Nor is a path what only looks like one.
        for path in ["/api/tickets/%2F", "/api/orders/..%2fpayments", "/api/tickets/..%5c", "/api/tickets/%00"] {
            add("GET", path.to_owned(), b"", Some(malformed()))?;
        }
        for path in ["/api/tickets/%2e%2e", "/api/orders/../../etc/passwd"] {
            add("GET", path.to_owned(), b"", unknown_path())?;
        }
        add("GET", "/api/tickets/%C3%28".to_owned(), b"", Some(malformed_message()))?;
        for id in ["%20", "%zz", "%F0%9F%8E%AB", "'%20OR%201=1--", &"a".repeat(8000)] {
            add("GET", format!("/api/tickets/{id}"), b"", Some(invalid(&["id"])))?;
        }
        Ok(cases)
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

/// What is no UUID, or none as the contract writes them.
fn not_ids() -> Vec<String> {
    let long = "0".repeat(5000);
    [
        "",
        "1",
        "no id",
        "550e8400e29b41d4a716446655440000",
        "{550e8400-e29b-41d4-a716-446655440000}",
        "550e8400-e29b-41d4-a716-44665544000g",
        "550e8400-e29b-41d4-a716-4466554400000",
        "' OR 1=1 --",
        "\u{0}",
        &long,
    ]
    .map(str::to_owned)
    .to_vec()
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

fn compressed(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
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
        let stack = stack.gateway().env("orders", "ORDER_TTL", "1h");
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
