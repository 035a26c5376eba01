//! The API: requests checked and turned into commands, states and refusals turned into answers. Decides nothing.

use std::pin::Pin;

use shared::{
    command::{Done, Envelope, Lane},
    db::Pool,
    feed::{Feed, follow},
    grpc::{Call, Fault, Fields, Listing},
    version::Version,
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use crate::{
    counter::v1::{
        self as api, CreateCounterRequest, CreateCounterResponse, GetCounterRequest, GetCounterResponse,
        IncrementRequest, IncrementResponse, ListCountersRequest, ListCountersResponse, WatchCounterRequest,
        WatchCounterResponse, counter_service_server::CounterService,
    },
    domain::{Command, Counter, CounterId, Counters, Refusal},
    events::counter_message,
    store,
};

/// Serves `counter.v1.CounterService`.
pub(crate) struct Api {
    lane: Lane<Counters>,
    pool: Pool,
    feed: Feed<api::Counter>,
}

impl Api {
    /// Commands go to the lane, reads to the pool, and the feed tells of changes.
    pub(crate) fn new(lane: Lane<Counters>, pool: Pool, feed: Feed<api::Counter>) -> Self {
        Self { lane, pool, feed }
    }

    async fn submit(&self, call: &Call, envelope: Envelope<Command>) -> Result<api::Counter, Fault> {
        let done =
            self.lane.submit(envelope, call.deadline.into_std()).await.map_err(|failure| failure.fault(fault))?;
        match done {
            Done::Now(Some(counter)) => Ok(counter_message(&counter)),
            Done::Now(None) => Err(not_found()),
            Done::Before(id) => find(&self.pool, CounterId::from_uuid(id)).await,
        }
    }
}

#[tonic::async_trait]
impl CounterService for Api {
    async fn create_counter(
        &self,
        request: Request<CreateCounterRequest>,
    ) -> Result<Response<CreateCounterResponse>, Status> {
        let call = Call::of(&request)?;
        let mut request = request.into_inner();
        let mut fields = Fields::new();
        let title = fields.title("title", request.title.as_deref().unwrap_or("a counter"));
        let limit = fields.number("limit", request.limit, 1..=i32::MAX);
        let request_id = fields.optional_id::<()>("request_id", request.request_id.as_deref());
        let (title, limit, request_id) = fields.finish(|| Some((title?, limit?, request_id?)))?;

        let id = CounterId::new();
        (request.title, request.request_id) = (Some(title.clone()), None);
        let claim = call.claim("CreateCounter", request_id, &request, id);
        let command = Command::Create { id, owner: call.caller.user.clone(), title, limit, resets_at: None };
        let counter = self.submit(&call, Envelope::new(command, call.trace.clone()).with_claim(claim)).await?;
        Ok(Response::new(CreateCounterResponse { counter: Some(counter) }))
    }

    async fn increment(&self, request: Request<IncrementRequest>) -> Result<Response<IncrementResponse>, Status> {
        let call = Call::of(&request)?;
        let request = request.get_ref();
        let mut fields = Fields::new();
        let id = fields.id("id", &request.id);
        let by = fields.number("by", request.by.unwrap_or(1), 1..=i32::MAX);
        let (id, by) = fields.finish(|| Some((id?, by?)))?;
        let command = Command::Increment { id, caller: call.caller.user.clone(), by };
        let counter = self.submit(&call, Envelope::new(command, call.trace.clone())).await?;
        Ok(Response::new(IncrementResponse { counter: Some(counter) }))
    }

    async fn get_counter(&self, request: Request<GetCounterRequest>) -> Result<Response<GetCounterResponse>, Status> {
        let mut fields = Fields::new();
        let id = fields.id("id", &request.get_ref().id);
        let id = fields.finish(|| id)?;
        Ok(Response::new(GetCounterResponse { counter: Some(find(&self.pool, id).await?) }))
    }

    async fn list_counters(
        &self,
        request: Request<ListCountersRequest>,
    ) -> Result<Response<ListCountersResponse>, Status> {
        let call = Call::of(&request)?;
        let request = request.into_inner();
        let listing = Listing::new("ListCounters", &call.caller.user);
        let mut fields = Fields::new();
        let page = fields.page(&listing, request.page_size, &request.page_token);
        let page = fields.finish(|| page)?;
        let owner = (!call.caller.operator).then_some(&call.caller.user);
        let mut conn = self.pool.get().await.map_err(Fault::from)?;
        let mut counters = store::list(&mut conn, owner, &page).await.map_err(Fault::from)?;
        let next_page_token = listing.cut(&page, &mut counters, |counter| counter.id);
        Ok(Response::new(ListCountersResponse {
            counters: counters.iter().map(counter_message).collect(),
            next_page_token,
        }))
    }

    type WatchCounterStream = Pin<Box<dyn Stream<Item = Result<WatchCounterResponse, Status>> + Send>>;

    async fn watch_counter(
        &self,
        request: Request<WatchCounterRequest>,
    ) -> Result<Response<Self::WatchCounterStream>, Status> {
        let call = Call::of(&request)?;
        let mut fields = Fields::new();
        let id = fields.id("id", &request.get_ref().id);
        let id = fields.finish(|| id)?;
        let watch = self.feed.watch(&id.to_string(), &call.caller.user).map_err(Fault::from)?;
        let pool = self.pool.clone();
        let read = move || {
            let pool = pool.clone();
            async move { find(&pool, id).await.map(|counter| (Version::from_i64(counter.version), counter)) }
        };
        // There is no last state: a counter can always be moved again, or reset.
        let states = follow(watch, Version::NONE, read, |_| false);
        Ok(Response::new(Box::pin(states.map(|state| Ok(WatchCounterResponse { counter: Some(state?) })))))
    }
}

async fn find(pool: &Pool, id: CounterId) -> Result<api::Counter, Fault> {
    let mut conn = pool.get().await?;
    let found: Option<Counter> = store::find(&mut conn, id).await?;
    found.as_ref().map(counter_message).ok_or_else(not_found)
}

fn not_found() -> Fault {
    Fault::not_found("there is no such counter")
}

fn fault(refusal: Refusal) -> Fault {
    match refusal {
        Refusal::NotFound => not_found(),
        Refusal::NotTheOwner => Fault::permission_denied("only its owner may move a counter"),
        Refusal::LimitReached { value } => {
            Fault::failed_precondition("LIMIT_REACHED", format!("it is at {value}, too close to its limit"))
        }
        // Callers' numbers are checked before.
        Refusal::NotUpwards => Fault::internal(),
    }
}
