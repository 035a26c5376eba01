//! Is a server ready? In: an address. Out: yes, or why not yet. Each probe does what a client would do first, since an open port
//! alone proves little. It never changes anything in the server.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::session::Session;

/// How a process shows that it is ready to work.
#[derive(Debug, Clone)]
pub enum Readiness {
    /// It is ready as soon as it runs.
    Started,
    /// A Postgres on 127.0.0.1 that answers a query.
    Postgres {
        /// Its TCP port.
        port: u16,
    },
    /// A Kafka broker on 127.0.0.1 that answers an ApiVersions request.
    Kafka {
        /// The port of its client listener.
        port: u16,
    },
    /// An HTTP server that answers `GET path` with status 200.
    Http {
        /// Where it listens.
        addr: SocketAddr,
        /// What to ask for: `/readyz`.
        path: String,
    },
}

impl Readiness {
    /// Asks once.
    ///
    /// # Errors
    /// Says why the server is not ready.
    pub async fn probe(&self) -> Result<()> {
        match self {
            Self::Started => Ok(()),
            Self::Postgres { port } => postgres(*port).await,
            Self::Kafka { port } => kafka(*port).await,
            Self::Http { addr, path } => {
                let status = http_status(*addr, path).await?;
                ensure!(status == 200, "GET {path} answered {status}");
                Ok(())
            }
        }
    }
}

impl std::fmt::Display for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Started => write!(f, "a start"),
            Self::Postgres { port } => write!(f, "an answer to SELECT 1 on port {port}"),
            Self::Kafka { port } => write!(f, "an answer to ApiVersions on port {port}"),
            Self::Http { addr, path } => write!(f, "200 from http://{addr}{path}"),
        }
    }
}

async fn postgres(port: u16) -> Result<()> {
    let session = Session::connect(&crate::postgres::url(port, "postgres")).await?;
    session.simple_query("SELECT 1").await.map(drop).context("SELECT 1")
}

/// ApiVersions, version 0: the broker's request handlers answer it, not the acceptor, so it tells that the broker takes work.
/// Frame: size, api key 18, api version 0, correlation id, no client id. The answer: size, correlation id, error code, …
/// (<https://kafka.apache.org/protocol#The_Messages_ApiVersions>).
async fn kafka(port: u16) -> Result<()> {
    const CORRELATION: i32 = 0x7469_636b;
    let mut request = Vec::new();
    request.extend(10i32.to_be_bytes());
    request.extend(18i16.to_be_bytes());
    request.extend(0i16.to_be_bytes());
    request.extend(CORRELATION.to_be_bytes());
    request.extend((-1i16).to_be_bytes());

    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(&request).await?;
    let _size = stream.read_i32().await?;
    let correlation = stream.read_i32().await?;
    let error = stream.read_i16().await?;
    ensure!(correlation == CORRELATION && error == 0, "ApiVersions: correlation {correlation}, error code {error}");
    Ok(())
}

/// The status of `GET path`, by a request small enough to be written by hand.
///
/// # Errors
/// When the server can't be reached or doesn't answer in HTTP.
pub async fn http_status(addr: SocketAddr, path: &str) -> Result<u16> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut head = Vec::new();
    // "HTTP/1.1 200" is 12 bytes.
    (&mut stream).take(12).read_to_end(&mut head).await?;
    let head = String::from_utf8_lossy(&head);
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).with_context(|| format!("not HTTP: {head:?}"))
}
