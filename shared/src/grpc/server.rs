//! The gRPC server: its limits, its health, its reflection, and its end.

use std::{io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::net::TcpListener;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, service::Routes, transport::server::TcpIncoming};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health as HealthService, HealthServer},
};

use super::{
    Fault, Health, Verifier,
    edge::{EdgeLayer, Methods},
    health::HealthChanges,
};
use crate::ops::Metrics;

/// The largest message that is taken, decoded or decompressed: every generated server is given it, health and reflection
/// too, by `.max_decoding_message_size(MAX_MESSAGE_BYTES)`.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Streams that a connection may have at once.
const MAX_STREAMS: u32 = 256;
/// What a call's metadata may weigh, as HTTP/2 counts it.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// How often a silent connection is asked whether it is alive, and how long it may take to say so.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A port that can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {address} can't be opened: {source}")]
pub struct BindError {
    setting: &'static str,
    address: SocketAddr,
    source: io::Error,
}

/// Opens a port for a setting that names it, so that a fault can say which one it was.
///
/// # Errors
///
/// It is taken, or not this machine's.
pub async fn bind(setting: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { setting, address, source })
}

/// Why a server doesn't serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptors are none.
    #[error("the services' descriptors can't be read: {0}")]
    Descriptors(#[from] prost::DecodeError),
    /// Reflection finds the descriptors incomplete.
    #[error("reflection can't be served: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The listener failed for good.
    #[error("gRPC can't be served: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// A gRPC server, ready to serve.
#[derive(Debug)]
pub struct Server {
    services: &'static [&'static str],
    descriptors: &'static [u8],
    routes: Routes,
    methods: Arc<Methods>,
    verifier: Verifier,
    health: Health,
    drain: Duration,
}

impl Server {
    /// A server of these services (their full names), which the routes answer and the encoded `FileDescriptorSet`
    /// describes. Their metrics begin at once.
    ///
    /// # Errors
    ///
    /// The descriptors can't be read.
    pub fn new(
        services: &'static [&'static str],
        descriptors: &'static [u8],
        routes: Routes,
        verifier: Verifier,
        health: Health,
        metrics: &Metrics,
    ) -> Result<Self, ServeError> {
        let methods = Arc::new(Methods::new(services, descriptors, metrics)?);
        Ok(Self { services, descriptors, routes, methods, verifier, health, drain: Duration::from_secs(10) })
    }

    /// How long calls that have begun may take to end once the server stops; 10 s if this isn't called.
    #[must_use]
    pub fn drain(self, drain: Duration) -> Self {
        Self { drain, ..self }
    }

    /// Serves until it is told to stop. Then no call is taken any more, streams end with `UNAVAILABLE`, and the other
    /// calls are waited for, within bounds.
    ///
    /// # Errors
    ///
    /// Reflection or the listener can't be served.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> Result<(), ServeError> {
        let health = HealthServer::new(Checks { services: self.services, health: self.health });
        let reflection = || reflection(self.services, self.descriptors);
        let (v1, v1alpha) = (reflection().build_v1()?, reflection().build_v1alpha()?);
        let routes = self.routes.add_service(health.max_decoding_message_size(MAX_MESSAGE_BYTES));
        let routes = routes.add_service(v1.max_decoding_message_size(MAX_MESSAGE_BYTES));
        let routes = routes.add_service(v1alpha.max_decoding_message_size(MAX_MESSAGE_BYTES));
        let layer = EdgeLayer::new(self.methods, self.verifier, stop.clone());

        let serving = tonic::transport::Server::builder()
            .max_concurrent_streams(MAX_STREAMS)
            .http2_max_header_list_size(MAX_HEADER_BYTES)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .layer(layer)
            .add_routes(routes)
            .serve_with_incoming_shutdown(
                TcpIncoming::from(listener).with_nodelay(Some(true)),
                stop.clone().cancelled_owned(),
            );
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(self.drain).await;
        };
        tokio::select! {
            served = serving => Ok(served?),
            () = overdue => {
                tracing::warn!(after = ?self.drain, "calls that have not ended are given up");
                Ok(())
            }
        }
    }
}

/// What reflection tells of: the services that are here, and no other of which the descriptors know.
fn reflection(services: &[&str], descriptors: &'static [u8]) -> tonic_reflection::server::Builder<'static> {
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(descriptors)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("grpc.health.v1.Health")
        .with_service_name("grpc.reflection.v1.ServerReflection")
        .with_service_name("grpc.reflection.v1alpha.ServerReflection");
    services.iter().fold(builder, |builder, service| builder.with_service_name(*service))
}

/// `grpc.health.v1`, from the process's own health.
struct Checks {
    services: &'static [&'static str],
    health: Health,
}

impl Checks {
    /// `None`: there is no such service here.
    fn changes(&self, request: &Request<HealthCheckRequest>) -> Option<HealthChanges> {
        let service = request.get_ref().service.as_str();
        (service.is_empty() || self.services.contains(&service)).then(|| self.health.changes())
    }
}

fn health_response(serving: bool) -> HealthCheckResponse {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl HealthService for Checks {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let changes = self.changes(&request);
        let mut changes = changes.ok_or_else(|| Fault::not_found("this server has no such service"))?;
        Ok(Response::new(health_response(changes.is_serving())))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let Some(changes) = self.changes(&request) else {
            // By the protocol a watch says so and goes on, for a service may come. Here none does.
            let unknown = HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() };
            return Ok(Response::new(Box::pin(stream::iter([Ok(unknown)]).chain(stream::pending()))));
        };
        // What was told last, so that a change of reasons alone is no news.
        let state = (changes, None);
        let stream = stream::unfold(state, async |(mut changes, before)| {
            loop {
                let serving = changes.is_serving();
                if before != Some(serving) {
                    return Some((Ok(health_response(serving)), (changes, Some(serving))));
                }
                if !changes.changed().await {
                    return None;
                }
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }
}
