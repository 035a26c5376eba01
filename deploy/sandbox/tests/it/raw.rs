//! Bytes on a connection, for what a proper HTTP client would hide.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{SECRET, charge_form};

/// A connection on which this charge was asked for.
pub(crate) async fn charge(address: SocketAddr, key: &str, method: &str) -> TcpStream {
    let form = charge_form(key, method);
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v1/payment_intents HTTP/1.1\r\nhost: sandbox\r\nauthorization: {SECRET}\r\nidempotency-key: {key}\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n",
        form.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(form.as_bytes()).await.unwrap();
    stream
}

/// Everything until the other side hangs up.
pub(crate) async fn read_to_end(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    // A connection that is cut may end with a reset: what came before it counts.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8(bytes).unwrap()
}
