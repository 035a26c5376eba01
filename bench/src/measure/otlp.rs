//! A receiver of traces that counts and drops, for as little of the processors' time as it can: what it takes is missing to
//! the system that is measured.

use std::{
    future::{Ready, ready},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use tonic::{
    Request, Response, Status,
    server::{NamedService, UnaryService},
};

use crate::{
    rig::Variant,
    unary::{self, Serving},
};

/// By when spans have been sent, of a service that has few: after 5 s the SDK sends what it has.
pub(super) const LATE: Duration = Duration::from_secs(6);
/// What a service is told beside where to: room for what it makes in a few seconds, so that nothing is lost when the receiver
/// has to wait for a processor.
pub(super) const ROOM: &str = "OTEL_BSP_MAX_QUEUE_SIZE=65536";

/// Receives as long as it lives.
pub(crate) struct Receiver {
    counted: Arc<AtomicU64>,
    addr: SocketAddr,
    _serving: Serving,
}

impl Receiver {
    /// Begins to.
    ///
    /// # Errors
    ///
    /// There is no port.
    pub(crate) async fn start() -> Result<Self> {
        let counted = Arc::default();
        let (addr, serving) = unary::serve(Counting(Arc::clone(&counted))).await?;
        Ok(Self { counted, addr, _serving: serving })
    }

    /// A system that tells it of every request.
    pub(crate) fn told_by(&self, system: Variant) -> Variant {
        let system = system.set("OTEL_EXPORTER_OTLP_ENDPOINT", &self.url()).set("OTEL_TRACES_SAMPLER", "always_on");
        ROOM.split_once('=').into_iter().fold(system, |system, (name, value)| system.set(name, value))
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
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
