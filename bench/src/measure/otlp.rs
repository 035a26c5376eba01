//! A receiver of traces that counts and drops, for as little of the processors' time as it can: what it takes is missing to
//! the system that is measured.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use anyhow::Result;
use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Ready, ready},
};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{Service, http},
    server::{Grpc, NamedService, UnaryService},
    transport::Server,
};
use tonic_prost::ProstCodec;

use crate::rig::Variant;

/// By when spans have been sent, of a service that has few: after 5 s the SDK sends what it has.
pub(super) const LATE: Duration = Duration::from_secs(6);
/// What a service is told beside where to: room for what it makes in a few seconds, so that nothing is lost when the receiver
/// has to wait for a processor.
pub(super) const ROOM: &str = "OTEL_BSP_MAX_QUEUE_SIZE=65536";

/// Receives as long as it lives.
pub(crate) struct Receiver {
    counted: Arc<AtomicU64>,
    addr: SocketAddr,
    _server: JoinSet<Result<(), tonic::transport::Error>>,
}

impl Receiver {
    /// Begins to.
    ///
    /// # Errors
    ///
    /// There is no port.
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let counted = Arc::default();
        let service = Counting(Arc::clone(&counted));
        let mut server = JoinSet::new();
        server.spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
        Ok(Self { counted, addr, _server: server })
    }

    /// A system that tells it of every request.
    pub(crate) fn told_by(&self, system: Variant) -> Variant {
        let endpoint = format!("http://{}", self.addr);
        let system = system.set("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint).set("OTEL_TRACES_SAMPLER", "always_on");
        ROOM.split_once('=').into_iter().fold(system, |system, (name, value)| system.set(name, value))
    }

    /// Spans so far.
    pub(crate) fn received(&self) -> u64 {
        self.counted.load(Ordering::Relaxed)
    }
}

/// `TraceService` has one method, and this is it.
#[derive(Clone)]
struct Counting(Arc<AtomicU64>);

/// As much of `ExportTraceServiceRequest` as has to be understood to count: spans stay the bytes that they came as.
#[derive(prost::Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<OfResource>,
}

/// Of `ResourceSpans`.
#[derive(prost::Message)]
struct OfResource {
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<OfScope>,
}

/// Of `ScopeSpans`.
#[derive(prost::Message)]
struct OfScope {
    #[prost(bytes = "bytes", repeated, tag = "2")]
    spans: Vec<Bytes>,
}

impl NamedService for Counting {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl UnaryService<Export> for Counting {
    type Response = ExportTraceServiceResponse;
    type Future = Ready<Result<Response<Self::Response>, Status>>;

    fn call(&mut self, request: Request<Export>) -> Self::Future {
        let scopes = request.get_ref().resources.iter().flat_map(|resource| &resource.scopes);
        let spans: usize = scopes.map(|scope| scope.spans.len()).sum();
        self.0.fetch_add(spans as u64, Ordering::Relaxed);
        ready(Ok(Response::new(ExportTraceServiceResponse::default())))
    }
}

impl Service<http::Request<Body>> for Counting {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let counting = self.clone();
        async move { Ok(Grpc::new(ProstCodec::default()).unary(counting, request).await) }.boxed()
    }
}
