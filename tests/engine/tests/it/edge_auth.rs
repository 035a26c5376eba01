//! Whose calls reach a handler.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::edge_support::{Edge, Key, authorized, awaited, claims, jwks, reason, unix_now};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use engine_tests::counter::v1::{Counter, GetCounterRequest};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use shared::config::JwksSource;
use tokio::net::TcpListener;
use tonic::{Code, Request, Status};

/// Calls with a token, and answers what the handler saw.
async fn call(edge: &Edge, token: &str) -> Result<Counter, Status> {
    send(edge, authorized(GetCounterRequest::default(), token)).await
}

async fn send(edge: &Edge, request: Request<GetCounterRequest>) -> Result<Counter, Status> {
    edge.client().await.get_counter(request).await.map(|answer| answer.into_inner().counter.unwrap())
}

async fn refusal(edge: &Edge, token: &str) -> String {
    let status = call(edge, token).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    reason(&status)
}

/// Sound claims but for these.
fn but(changes: &Value) -> Value {
    let mut claims = claims("alice");
    for (claim, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(claim),
            value => claims.as_object_mut().unwrap().insert(claim.clone(), value.clone()),
        };
    }
    claims
}

#[tokio::test]
async fn a_sound_token_of_each_algorithm_says_who_calls() {
    let keys = [Key::ed25519("ed"), Key::es256("ec"), Key::rs256("rsa")];
    let edge = Edge::start(&keys.each_ref()).await;
    for key in &keys {
        let seen = call(&edge, &key.sign(&claims("alice"))).await.unwrap();
        assert_eq!((seen.owner.as_str(), seen.value), ("alice", 0), "{}", key.id);
        // Once more, remembered.
        let again = key.sign(&but(&json!({ "roles": ["seller", "operator"] })));
        for _ in 0..2 {
            assert_eq!(call(&edge, &again).await.unwrap().value, 1, "an operator, by {}", key.id);
        }
    }
    edge.stop().await;
}

#[tokio::test]
async fn what_a_token_claims_decides() {
    let key = Key::ed25519("ed");
    let edge = Edge::start(&[&key]).await;
    let now = unix_now();
    for (changes, expected) in [
        (json!({}), None),
        (json!({ "aud": ["others", "counters"] }), None),
        (json!({ "exp": now - 3 }), None), // clocks differ
        (json!({ "nbf": now + 3 }), None),
        (json!({ "roles": [] }), None),
        (json!({ "sub": "ü".repeat(255) }), None),
        (json!({ "exp": now - 3600 }), Some("TOKEN_EXPIRED")),
        (json!({ "exp": now - 3600, "aud": "others" }), Some("TOKEN_EXPIRED")),
        (json!({ "exp": null }), Some("TOKEN_INVALID")),
        (json!({ "exp": "tomorrow" }), Some("TOKEN_INVALID")),
        (json!({ "nbf": now + 3600 }), Some("TOKEN_INVALID")),
        (json!({ "nbf": "tomorrow" }), Some("TOKEN_INVALID")),
        (json!({ "aud": "others" }), Some("TOKEN_INVALID")),
        (json!({ "aud": null }), Some("TOKEN_INVALID")),
        (json!({ "aud": [] }), Some("TOKEN_INVALID")),
        (json!({ "iss": "https://elsewhere.example" }), Some("TOKEN_INVALID")),
        (json!({ "iss": null }), Some("TOKEN_INVALID")),
        (json!({ "iss": [crate::edge_support::ISSUER] }), Some("TOKEN_INVALID")),
        (json!({ "sub": null }), Some("TOKEN_INVALID")),
        (json!({ "sub": "" }), Some("TOKEN_INVALID")),
        (json!({ "sub": 7 }), Some("TOKEN_INVALID")),
        (json!({ "sub": "x".repeat(256) }), Some("TOKEN_INVALID")),
        (json!({ "sub": "alice\u{0}" }), Some("TOKEN_INVALID")),
        (json!({ "roles": "operator" }), Some("TOKEN_INVALID")),
    ] {
        let outcome = call(&edge, &key.sign(&but(&changes))).await;
        assert_eq!(outcome.err().map(|status| reason(&status)).as_deref(), expected, "{changes}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn exactly_one_bearer_token_is_needed() {
    let key = Key::ed25519("ed");
    let edge = Edge::start(&[&key]).await;
    let sound = key.sign(&claims("alice"));
    for (headers, expected) in [
        (vec![], Some("TOKEN_MISSING")),
        (vec![""], Some("TOKEN_MISSING")),
        (vec!["Bearer"], Some("TOKEN_MISSING")),
        (vec!["Basic YTpi"], Some("TOKEN_MISSING")),
        (vec!["Bearer "], Some("TOKEN_INVALID")),
        (vec!["Bearer nonsense"], Some("TOKEN_INVALID")),
        (vec![&format!("Bearer {sound}"), &format!("Bearer {sound}")], Some("TOKEN_INVALID")),
        (vec![&format!("bearer {sound}")], None),
    ] {
        let mut request = Request::new(GetCounterRequest::default());
        for header in &headers {
            request.metadata_mut().append("authorization", header.parse().unwrap());
        }
        let outcome = send(&edge, request).await;
        assert_eq!(outcome.err().map(|status| reason(&status)).as_deref(), expected, "{headers:?}");
    }
    assert_eq!(edge.counters.calls.lock().unwrap().len(), 1, "only the last reached the handler");
    edge.stop().await;
}

#[tokio::test]
async fn the_algorithm_is_the_keys_and_never_the_tokens() {
    let (ed, ec, rsa) = (Key::ed25519("ed"), Key::es256("ec"), Key::rs256("rsa"));
    let edge = Edge::start(&[&ed, &ec, &rsa]).await;
    let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let unsigned = |alg| format!("{}.{}.", part(json!({ "alg": alg, "kid": "ed" })), part(claims("alice")));
    let hmac = |id: &str, secret: &[u8]| {
        let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::HS256) };
        encode(&header, &claims("alice"), &EncodingKey::from_secret(secret)).unwrap()
    };
    let public = |key: &Key, part: &str| URL_SAFE_NO_PAD.decode(key.jwk()[part].as_str().unwrap()).unwrap();
    let sound = ed.sign(&claims("alice"));
    let (signed, signature) = sound.rsplit_once('.').unwrap();
    let critical =
        Header { kid: Some("ed".to_owned()), crit: Some(vec!["exp".to_owned()]), ..Header::new(ed.algorithm) };
    for (what, token) in [
        ("alg none", unsigned("none")),
        ("alg None", unsigned("None")),
        ("no signature", format!("{signed}.")),
        ("another's signature", format!("{signed}.{}", signature.chars().rev().collect::<String>())),
        ("HMAC with an Ed25519 key's public half", hmac("ed", &public(&ed, "x"))),
        ("HMAC with an RSA key's modulus", hmac("rsa", &public(&rsa, "n"))),
        ("RS256 under an EC key's id", rsa.sign_as("ec", &claims("alice"))),
        ("ES256 under an RSA key's id", ec.sign_as("rsa", &claims("alice"))),
        ("EdDSA under an EC key's id", ed.sign_as("ec", &claims("alice"))),
        ("another key under a known id", Key::ed25519("ed").sign(&claims("alice"))),
        ("no id, while there are several keys", ed.sign_without_id(&claims("alice"))),
        ("critical extensions", ed.sign_under(&critical, &claims("alice"))),
    ] {
        assert_eq!(refusal(&edge, &token).await, "TOKEN_INVALID", "{what}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn an_unknown_key_has_the_set_read_again_but_seldom() {
    let (old, new, newest) = (Key::ed25519("old"), Key::es256("new"), Key::rs256("newest"));
    let edge = Edge::start_with(Some(&jwks(&[&old])), Duration::from_secs(3600)).await;
    edge.health.ready();
    awaited("the keys", edge.health.wait_for(true)).await;
    assert!(call(&edge, &old.sign(&claims("alice"))).await.is_ok());

    // Rotated: the first token of the new key has it read, and the old key is gone.
    fs::write(&edge.jwks, jwks(&[&new])).unwrap();
    assert!(call(&edge, &new.sign(&claims("alice"))).await.is_ok());
    assert_eq!(refusal(&edge, &old.sign(&claims("alice"))).await, "TOKEN_INVALID");

    // Rotated again, within the hour.
    fs::write(&edge.jwks, jwks(&[&newest])).unwrap();
    assert_eq!(refusal(&edge, &newest.sign(&claims("alice"))).await, "TOKEN_INVALID");
    assert!(call(&edge, &new.sign(&claims("alice"))).await.is_ok());
    edge.stop().await;
}

#[tokio::test]
async fn a_key_that_is_taken_out_of_the_set_is_of_no_use_before_long() {
    let (revoked, kept) = (Key::ed25519("revoked"), Key::es256("kept"));
    let edge = Edge::start(&[&revoked, &kept]).await;
    let token = revoked.sign(&claims("alice"));
    assert!(call(&edge, &token).await.is_ok());

    fs::write(&edge.jwks, jwks(&[&kept])).unwrap();
    let refused = async {
        while call(&edge, &token).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    awaited("the key to be of no use", refused).await;
    assert_eq!(refusal(&edge, &token).await, "TOKEN_INVALID");
    assert!(call(&edge, &kept.sign(&claims("alice"))).await.is_ok());
    edge.stop().await;
}

#[tokio::test]
async fn keys_that_cant_be_read_again_stay() {
    let (key, other) = (Key::ed25519("key"), Key::ed25519("other"));
    let edge = Edge::start(&[&key]).await;
    for broken in ["", "{", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","k":"AAAA","kid":"other","alg":"HS256"}]}"#] {
        fs::write(&edge.jwks, broken).unwrap();
        assert_eq!(refusal(&edge, &other.sign(&claims("alice"))).await, "TOKEN_INVALID", "{broken}");
        assert!(call(&edge, &key.sign(&claims("alice"))).await.is_ok(), "{broken}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_service_without_keys_waits_for_them_and_is_not_ready() {
    let key = Key::ed25519("ed");
    let edge = Edge::start_with(None, Duration::ZERO).await;
    edge.health.ready();
    let status = call(&edge, &key.sign(&claims("alice"))).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "KEYS_UNAVAILABLE"));
    let (code, why) = edge.ask("/readyz").await;
    assert_eq!(code, 503);
    assert!(why.contains("keys"), "{why}");

    fs::write(&edge.jwks, jwks(&[&key])).unwrap();
    awaited("the keys", edge.health.wait_for(true)).await;
    assert!(call(&edge, &key.sign(&claims("alice"))).await.is_ok());
    edge.stop().await;
}

#[tokio::test]
async fn keys_come_over_http_and_many_who_miss_one_have_it_read_once() {
    let (old, new) = (Key::ed25519("old"), Key::ed25519("new"));
    let reads = Arc::new(AtomicUsize::new(0));
    let (first, later, counted) = (jwks(&[&old]), jwks(&[&old, &new]), Arc::clone(&reads));
    let router = axum::Router::new().route(
        "/jwks.json",
        axum::routing::get(async move || match counted.fetch_add(1, Ordering::SeqCst) {
            0 => first.clone(),
            _ => later.clone(),
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    let mut issuer = tokio::task::JoinSet::new();
    issuer.spawn(async { axum::serve(listener, router).await.unwrap() });

    let edge = Edge::start_from(JwksSource::Url(url.parse().unwrap()), Duration::from_secs(3600)).await;
    edge.health.ready();
    awaited("the keys", edge.health.wait_for(true)).await;
    let token = new.sign(&claims("alice"));
    let outcomes = futures_util::future::join_all((0..20).map(|_| call(&edge, &token))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(reads.load(Ordering::SeqCst), 2, "once at the start, once for the new key");
    edge.stop().await;
}

#[tokio::test]
async fn keys_of_other_kinds_are_passed_over_and_a_single_key_needs_no_id() {
    let key = Key::ed25519("ed");
    let mut alone = key.jwk();
    alone.as_object_mut().unwrap().remove("kid");
    let set = json!({ "keys": [
        { "kty": "oct", "k": "AAAA", "kid": "secret" },
        { "kty": "EC", "crv": "P-384", "x": "AA", "y": "AA", "kid": "p384" },
        { "kty": "OKP", "crv": "X25519", "x": "AA", "kid": "agreement" },
        { "kty": "post-quantum", "kid": "future" },
        { "kty": "RSA", "n": "AA", "e": "AQAB", "alg": "PS256", "kid": "pss" },
        { "kty": "RSA", "n": "AA", "e": "AQAB", "use": "enc", "kid": "encryption" },
        "nonsense",
        alone,
    ] });
    let edge = Edge::start_with(Some(&set.to_string()), Duration::ZERO).await;
    edge.health.ready();
    awaited("the keys", edge.health.wait_for(true)).await;
    assert!(call(&edge, &key.sign_without_id(&claims("alice"))).await.is_ok());
    edge.stop().await;
}
