//! Handlers of the counter's service that keep nothing: they show what the edge hands them, and misbehave when asked.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
};

use engine_tests::counter::v1::{
    Counter, CreateCounterRequest, CreateCounterResponse, GetCounterRequest, GetCounterResponse, IncrementRequest,
    IncrementResponse, ListCountersRequest, ListCountersResponse, WatchCounterRequest, WatchCounterResponse,
    counter_service_server::CounterService,
};
use shared::{
    grpc::{Call, Fault, Fields, Listing},
    id::Id,
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use uuid::Uuid;

pub enum CounterKind {}

/// Remembers every call that reached a handler. What a counter's title says, creating it does.
#[derive(Clone, Default)]
pub struct Counters {
    pub calls: Arc<Mutex<Vec<Call>>>,
    /// Handlers that were dropped before they were done.
    pub dropped: tokio_util::sync::CancellationToken,
}

impl Counters {
    /// Waits until a call has reached a handler.
    pub async fn begun(&self) {
        while self.calls.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    fn note<T>(&self, request: &Request<T>) -> Result<Call, Status> {
        let call = Call::of(request)?;
        self.calls.lock().unwrap().push(call.clone());
        Ok(call)
    }
}

fn counter(call: &Call, title: String) -> Counter {
    let id = Id::<CounterKind>::new().to_string();
    Counter { id, owner: call.caller.user.to_string(), title, value: 0, limit: 1, version: 1 }
}

#[tonic::async_trait]
impl CounterService for Counters {
    async fn create_counter(
        &self,
        request: Request<CreateCounterRequest>,
    ) -> Result<Response<CreateCounterResponse>, Status> {
        let call = self.note(&request)?;
        let request = request.into_inner();
        let mut fields = Fields::new();
        let title = fields.title("title", request.title.as_deref().unwrap_or("a counter"));
        let limit = fields.number("limit", request.limit, 1..=1_000_000);
        let request_id = fields.optional_id::<CounterKind>("request_id", request.request_id.as_deref());
        let (title, limit, _) = fields.finish(|| Some((title?, limit?, request_id?)))?;

        match title.as_str() {
            "panic" => panic!("asked to"),
            "never" => {
                let _dropped = self.dropped.clone().drop_guard();
                std::future::pending::<()>().await;
            }
            "sold out" => {
                let fault = Fault::failed_precondition("SOLD_OUT", "none left");
                return Err(fault.retry_after(std::time::Duration::from_millis(1500)).into());
            }
            _ => {}
        }
        let counter = Counter { limit, ..counter(&call, title) };
        Ok(Response::new(CreateCounterResponse { counter: Some(counter) }))
    }

    async fn increment(&self, request: Request<IncrementRequest>) -> Result<Response<IncrementResponse>, Status> {
        self.note(&request)?;
        Err(Status::permission_denied("a bare status, which handlers should not make"))
    }

    async fn get_counter(&self, request: Request<GetCounterRequest>) -> Result<Response<GetCounterResponse>, Status> {
        let call = self.note(&request)?;
        let counter = Counter { value: i32::from(call.caller.operator), ..counter(&call, "a counter".to_owned()) };
        Ok(Response::new(GetCounterResponse { counter: Some(counter) }))
    }

    /// Three counters, always the same.
    async fn list_counters(
        &self,
        request: Request<ListCountersRequest>,
    ) -> Result<Response<ListCountersResponse>, Status> {
        let call = self.note(&request)?;
        let request = request.into_inner();
        let listing = Listing::new("counter.v1.CounterService/ListCounters", &call.caller.user);
        let mut fields = Fields::new();
        let page = fields.page(&listing, request.page_size, &request.page_token);
        let page = fields.finish(|| page)?;

        let all = (1..=3).rev().map(Uuid::from_u128).filter(|id| page.after.is_none_or(|after| *id < after));
        let mut ids: Vec<_> = all.take(usize::try_from(page.fetch()).unwrap()).collect();
        let next_page_token = listing.cut(&page, &mut ids, |id| Id::<CounterKind>::from_uuid(*id));
        let counters =
            ids.into_iter().map(|id| Counter { id: id.to_string(), ..counter(&call, "one".to_owned()) }).collect();
        Ok(Response::new(ListCountersResponse { counters, next_page_token }))
    }

    type WatchCounterStream = Pin<Box<dyn Stream<Item = Result<WatchCounterResponse, Status>> + Send>>;

    /// One state, and then nothing more; an id that is no UUID panics half-way.
    async fn watch_counter(
        &self,
        request: Request<WatchCounterRequest>,
    ) -> Result<Response<Self::WatchCounterStream>, Status> {
        let call = self.note(&request)?;
        let first = WatchCounterResponse { counter: Some(counter(&call, "watched".to_owned())) };
        let sound = request.get_ref().id.parse::<Uuid>().is_ok();
        let rest = futures_util::stream::once(async move {
            assert!(sound, "asked to");
            std::future::pending().await
        });
        let first = tokio_stream::once(Ok(first));
        Ok(Response::new(Box::pin(futures_util::StreamExt::chain(first, rest))))
    }
}
