//! What a handler is told about the call that it answers.

use tokio::time::Instant;
use tonic::Request;

use super::Fault;
use crate::{command::Claim, id::Id, telemetry::TraceContext, user::UserId};

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The token's subject.
    pub user: UserId,
    /// Whether the token's `roles` hold `operator`: such a one sees everyone's, and may change no more than others may.
    pub operator: bool,
}

impl Caller {
    /// Whose belongings this caller may see: their own, or, of operators, everyone's (`None`).
    pub fn sees(&self) -> Option<&UserId> {
        (!self.operator).then_some(&self.user)
    }
}

/// A call, as the server's edge found it: authenticated, with a deadline, in a trace.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who calls.
    pub caller: Caller,
    /// When the caller stops waiting, at most 30 s ahead. Of a stream: when its first state should be there; the stream
    /// itself has no deadline of ours.
    pub deadline: Instant,
    /// The server's span: what the call causes hangs below it.
    pub trace: TraceContext,
}

impl Call {
    /// The call that this request came with.
    ///
    /// # Errors
    ///
    /// `INTERNAL`: the request didn't come through the server's edge.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Fault> {
        request.extensions().get().cloned().ok_or_else(|| {
            tracing::error!("a handler serves outside of shared::grpc's edge");
            Fault::internal()
        })
    }

    /// What makes repeating this call harmless, if its caller gave a request id. `content` is the request without that
    /// id, with ids as we write them and constant defaults filled in, so that a retry that is spelled otherwise is still the
    /// same request; a default that isn't constant, as an order's price, stays left out. `resource` is the id of what it
    /// would create.
    pub fn claim<R, K>(
        &self,
        rpc: &'static str,
        request_id: Option<Id<R>>,
        content: &impl prost::Message,
        resource: Id<K>,
    ) -> Option<Claim> {
        let user = self.caller.user.as_str();
        request_id.map(|id| Claim::new(user, rpc, id.uuid(), &content.encode_to_vec(), resource.uuid()))
    }
}
