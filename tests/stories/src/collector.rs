//! Where traces go: a receiver of OTLP over gRPC, in this process. Out: the spans that came, each with its service.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// A span, as it was exported.
#[derive(Clone, Debug)]
pub struct Exported {
    /// Who made it.
    pub service: String,
    /// Its name: `create orders`.
    pub name: String,
    /// Its trace, in lower-case hexadecimal; as are the next two.
    pub trace: String,
    /// Itself.
    pub id: String,
    /// What it hangs below; empty for the root of a trace.
    pub parent: String,
    /// Other spans that it is about.
    pub links: Vec<String>,
    /// What else it says, texts and numbers alone.
    pub attributes: BTreeMap<String, String>,
}

/// Receives spans as long as it lives.
pub struct Collector {
    spans: Arc<Mutex<Vec<Exported>>>,
    addr: SocketAddr,
    _server: JoinSet<Result<(), tonic::transport::Error>>,
}

struct Receiver(Arc<Mutex<Vec<Exported>>>);

impl Collector {
    /// Listens on a port of its own.
    ///
    /// # Errors
    ///
    /// There is none.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let spans = Arc::default();
        let service = TraceServiceServer::new(Receiver(Arc::clone(&spans)));
        let mut server = JoinSet::new();
        server.spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
        Ok(Self { spans, addr, _server: server })
    }

    /// What services get as `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// All that came so far.
    pub fn spans(&self) -> Vec<Exported> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for batch in request.into_inner().resource_spans {
            let resource = texts(batch.resource.unwrap_or_default().attributes);
            let service = resource.get("service.name").cloned().unwrap_or_default();
            let scopes = batch.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.extend(scopes.map(|span| exported(&service, span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn exported(service: &str, span: Span) -> Exported {
    Exported {
        service: service.to_owned(),
        name: span.name,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        links: span.links.iter().map(|link| hex(&link.span_id)).collect(),
        attributes: texts(span.attributes),
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |attribute: KeyValue| match attribute.value?.value? {
        Value::StringValue(text) => Some((attribute.key, text)),
        Value::IntValue(number) => Some((attribute.key, number.to_string())),
        _ => None,
    };
    attributes.into_iter().filter_map(text).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
