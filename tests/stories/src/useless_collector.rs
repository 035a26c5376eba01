//! Collectors of traces that take nothing, each in its own way. Out: an endpoint; whoever exports to it loses spans.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use local::ports::Port;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// A collector that is of no use, as long as it lives.
pub struct UselessCollector {
    addr: SocketAddr,
    /// Of one that isn't there: so that nobody else is.
    _port: Option<Port>,
    _serving: JoinSet<()>,
}

impl UselessCollector {
    /// Takes connections, and says nothing ever.
    ///
    /// # Errors
    ///
    /// There is no port.
    pub async fn silent() -> Result<Self> {
        Self::serving(|listener| async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                held.push(stream);
            }
        })
        .await
    }

    /// Resets every connection as soon as something comes over it.
    ///
    /// # Errors
    ///
    /// There is no port.
    pub async fn resetting() -> Result<Self> {
        Self::serving(|listener| async move {
            while let Ok((stream, _)) = listener.accept().await {
                reset(stream).await;
            }
        })
        .await
    }

    /// Answers that it is full.
    ///
    /// # Errors
    ///
    /// There is no port.
    pub async fn full() -> Result<Self> {
        Self::serving(|listener| async move {
            let server = Server::builder().add_service(TraceServiceServer::new(Full));
            // It ends with this task.
            drop(server.serve_with_incoming(TcpListenerStream::new(listener)).await);
        })
        .await
    }

    /// Isn't there.
    ///
    /// # Errors
    ///
    /// There is no port.
    pub fn gone() -> Result<Self> {
        let port = Port::free()?;
        let addr = (Ipv4Addr::LOCALHOST, port.number()).into();
        Ok(Self { addr, _port: Some(port), _serving: JoinSet::new() })
    }

    /// What services get as `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    async fn serving<F: Future<Output = ()> + Send + 'static>(serve: impl FnOnce(TcpListener) -> F) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener));
        Ok(Self { addr, _port: None, _serving: serving })
    }
}

/// Whether it can be read or reset or neither: it is closed in the end.
async fn reset(mut stream: TcpStream) {
    let _ = stream.read(&mut [0; 24]).await;
    let _ = stream.set_zero_linger();
}

struct Full;

#[tonic::async_trait]
impl TraceService for Full {
    async fn export(
        &self,
        _: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        Err(Status::resource_exhausted("full"))
    }
}
