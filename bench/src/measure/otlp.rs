//! A receiver of traces that counts and drops.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Result;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// Receives as long as it lives.
pub(super) struct Receiver {
    counted: Arc<AtomicU64>,
    addr: SocketAddr,
    _server: JoinSet<Result<(), tonic::transport::Error>>,
}

struct Counting(Arc<AtomicU64>);

impl Receiver {
    pub(super) async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let counted = Arc::default();
        let service = TraceServiceServer::new(Counting(Arc::clone(&counted)));
        let mut server = JoinSet::new();
        server.spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
        Ok(Self { counted, addr, _server: server })
    }

    /// What services get as `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Spans so far.
    pub(super) fn received(&self) -> u64 {
        self.counted.load(Ordering::Relaxed)
    }
}

#[tonic::async_trait]
impl TraceService for Counting {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes = request.get_ref().resource_spans.iter().flat_map(|batch| &batch.scope_spans);
        let spans: usize = scopes.map(|scope| scope.spans.len()).sum();
        self.0.fetch_add(spans as u64, Ordering::Relaxed);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
