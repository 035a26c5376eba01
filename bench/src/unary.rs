//! A gRPC server of one method, served by hand: for what is measured, or measures, with nothing around it. In: what answers.
//! Out: where it does.

use std::{
    convert::Infallible,
    marker::PhantomData,
    net::{Ipv4Addr, SocketAddr},
    task::{Context, Poll},
};

use anyhow::Result;
use futures_util::{FutureExt as _, future::BoxFuture};
use prost::Message;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    body::Body,
    codegen::{Service, http},
    server::{Grpc, NamedService, UnaryService},
    transport::Server,
};
use tonic_prost::ProstCodec;

/// Serves as long as it lives.
pub(crate) type Serving = JoinSet<Result<(), tonic::transport::Error>>;

/// Whatever is called of the service that `method` names is answered by it.
///
/// # Errors
///
/// There is no port.
pub(crate) async fn serve<M, Q>(method: M) -> Result<(SocketAddr, Serving)>
where
    M: NamedService
        + UnaryService<Q, Response: Message + Default + 'static, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    Q: Message + Default + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let addr = listener.local_addr()?;
    let mut serving = JoinSet::new();
    let service = Only(method, PhantomData);
    serving.spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
    Ok((addr, serving))
}

/// A service that has one method.
struct Only<M, Q>(M, PhantomData<fn() -> Q>);

// A derive would ask the same of `Q`.
impl<M: Clone, Q> Clone for Only<M, Q> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<M: NamedService, Q> NamedService for Only<M, Q> {
    const NAME: &'static str = M::NAME;
}

impl<M, Q> Service<http::Request<Body>> for Only<M, Q>
where
    M: UnaryService<Q, Response: Message + Default + 'static, Future: Send> + Clone + Send + Sync + 'static,
    Q: Message + Default + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = self.0.clone();
        async move { Ok(Grpc::new(ProstCodec::default()).unary(method, request).await) }.boxed()
    }
}
