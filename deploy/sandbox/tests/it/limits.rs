//! Nothing that a caller sends is without a bound.

use tokio::io::AsyncWriteExt as _;

use crate::{
    raw,
    support::{Sandbox, charge_form},
};

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let sandbox = Sandbox::start().await;
    let form = format!("{}&description={}", charge_form("a", "pm_card_visa"), "x".repeat(64 * 1024));
    let reply = sandbox.post("/v1/payment_intents", &form, Some("a")).await.unwrap();
    assert_eq!(reply.status, 413);
    assert!(sandbox.ledger("").await.is_empty());
}

#[tokio::test]
async fn headers_that_are_too_many_or_too_large_are_refused() {
    let sandbox = Sandbox::start().await;
    for headers in ["x: y\r\n".repeat(65), format!("x: {}\r\n", "y".repeat(16 * 1024))] {
        let mut stream = tokio::net::TcpStream::connect(sandbox.address).await.unwrap();
        stream.write_all(format!("GET /healthz HTTP/1.1\r\nhost: a\r\n{headers}\r\n").as_bytes()).await.unwrap();
        let seen = raw::read_to_end(stream).await;
        assert!(seen.starts_with("HTTP/1.1 431"), "{seen}");
    }
}
