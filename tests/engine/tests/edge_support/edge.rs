//! A real server on real ports.

use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

use bytes::{Buf as _, BufMut as _, Bytes};
use engine_tests::{
    DESCRIPTORS,
    counter::v1::{counter_service_client::CounterServiceClient, counter_service_server::CounterServiceServer},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use shared::{
    config::{AuthConfig, JwksSource},
    grpc::{self, Health, MAX_MESSAGE_BYTES, Server, Verifier},
    ops::{self, Metrics},
};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    service::Routes,
    transport::Channel,
};
use tonic_types::StatusExt as _;

use super::{AUDIENCE, Counters, DRAIN, ISSUER, Key, awaited, jwks};

/// A server behind the engine's edge.
pub struct Edge {
    pub address: SocketAddr,
    pub ops: SocketAddr,
    pub health: Health,
    pub counters: Counters,
    pub jwks: PathBuf,
    pub shutdown: CancellationToken,
    tasks: JoinSet<()>,
    _folder: TempDir,
}

impl Edge {
    /// Serves, ready, with these keys in a file.
    pub async fn start(keys: &[&Key]) -> Self {
        let edge = Self::start_with(Some(&jwks(keys)), Duration::ZERO).await;
        edge.health.ready();
        awaited("the server to serve", edge.health.wait_for(true)).await;
        edge
    }

    /// Serves, not ready yet, with this text, if any, in the keys' file.
    pub async fn start_with(keys: Option<&str>, reread_after: Duration) -> Self {
        let folder = TempDir::new().unwrap();
        let jwks = folder.path().join("jwks.json");
        if let Some(keys) = keys {
            fs::write(&jwks, keys).unwrap();
        }
        Self::serve(JwksSource::File(jwks.clone()), jwks, folder, reread_after).await
    }

    /// Serves, not ready yet, with keys from elsewhere.
    pub async fn start_from(source: JwksSource, reread_after: Duration) -> Self {
        let folder = TempDir::new().unwrap();
        let jwks = folder.path().join("none");
        Self::serve(source, jwks, folder, reread_after).await
    }

    async fn serve(source: JwksSource, jwks: PathBuf, folder: TempDir, reread_after: Duration) -> Self {
        let (health, metrics, shutdown) = (Health::starting(), Metrics::new(), CancellationToken::new());
        let config =
            AuthConfig { jwks: source, issuer: ISSUER.to_owned(), audience: AUDIENCE.to_owned(), reread_after };
        let verifier = Verifier::new(&config, &health).unwrap();
        let counters = Counters::default();
        let service = CounterServiceServer::new(counters.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .accept_compressed(CompressionEncoding::Gzip);
        let server = Server::new(
            &["counter.v1.CounterService"],
            DESCRIPTORS,
            Routes::new(service),
            verifier.clone(),
            health.clone(),
            &metrics,
        )
        .unwrap()
        .drain(DRAIN);

        let any = "127.0.0.1:0".parse().unwrap();
        let listener = grpc::bind("GRPC_ADDR", any).await.unwrap();
        let ops_listener = grpc::bind("OPS_ADDR", any).await.unwrap();
        let (address, ops) = (listener.local_addr().unwrap(), ops_listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        let stop = shutdown.clone();
        tasks.spawn(async move { verifier.keep_keys(stop).await });
        let stop = shutdown.clone();
        tasks.spawn(async move { server.serve(listener, stop).await.unwrap() });
        let (stop, healthy) = (shutdown.clone(), health.clone());
        tasks.spawn(async move { ops::serve(ops_listener, healthy, metrics, stop).await.unwrap() });
        Self { address, ops, health, counters, jwks, shutdown, tasks, _folder: folder }
    }

    pub async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    pub async fn client(&self) -> CounterServiceClient<Channel> {
        CounterServiceClient::new(self.channel().await)
    }

    /// What an operator is told at this path: status and body.
    pub async fn ask(&self, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("http://{}{path}", self.ops)).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// A metric's value, by its line up to there.
    pub async fn metric(&self, line: &str) -> f64 {
        let (_, page) = self.ask("/metrics").await;
        let value = page.lines().find_map(|candidate| candidate.strip_prefix(line)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no metric {line} in\n{page}")).parse().unwrap()
    }

    /// Stops, and waits for every task's end.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        awaited("the server to stop", async {
            while let Some(ended) = self.tasks.join_next().await {
                ended.unwrap()
            }
        })
        .await;
    }
}

/// A request with a token.
pub fn authorized<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// The reason that a status gives; every one of ours has one, in our domain.
pub fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "ticketing");
    info.reason.clone()
}

/// Sends bytes as a message, whatever they are, by a client that keeps no deadline of its own: tonic's channel answers
/// in the server's place once `grpc-timeout` is over.
pub async fn raw(
    edge: &Edge,
    path: &'static str,
    request: Request<Bytes>,
    compression: Option<CompressionEncoding>,
) -> Result<Response<Bytes>, Status> {
    let mut connector = HttpConnector::new();
    // Or the message would wait for the acknowledgement of its headers, for 40 ms.
    connector.set_nodelay(true);
    let transport = Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
    let mut client = tonic::client::Grpc::with_origin(transport, format!("http://{}", edge.address).parse().unwrap());
    if let Some(encoding) = compression {
        client = client.send_compressed(encoding);
    }
    client.ready().await.unwrap();
    client.unary(request, path.parse().unwrap(), RawCodec).await
}

#[derive(Clone, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
