//! The API: requests checked and turned into commands, states and refusals turned into answers. Decides nothing.

use std::{pin::Pin, time::Duration};

use contracts::orders::v1::{
    self as api, CancelOrderRequest, CancelOrderResponse, CreateOrderRequest, CreateOrderResponse, GetOrderRequest,
    GetOrderResponse, ListOrdersRequest, ListOrdersResponse, WatchOrderRequest, WatchOrderResponse,
    order_service_server::OrderService,
};
use shared::{
    command::{Done, Envelope, Failure, Lane},
    db::Pool,
    feed::{Feed, follow},
    grpc::{Call, Fault, FieldFault, Fields, Listing, Page},
    id::Id,
    money::Money,
    user::UserId,
    version::Version,
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use crate::{
    domain::{Command, Create, OrderId, Orders, QUANTITIES, Reason, Refusal, State, Status as Stage, TicketId},
    events::order_message,
    store,
};

/// Serves `ticketing.orders.v1.OrderService`.
pub(crate) struct Api {
    lane: Lane<Orders>,
    pool: Pool,
    feed: Feed<api::Order>,
    order_ttl: Duration,
}

impl Api {
    /// Commands go to the lane, reads to the pool, and the feed tells of changes; an order waits for `order_ttl` to be
    /// paid.
    pub(crate) fn new(lane: Lane<Orders>, pool: Pool, feed: Feed<api::Order>, order_ttl: Duration) -> Self {
        Self { lane, pool, feed, order_ttl }
    }

    /// The answer to a command that was done: the order as it is now.
    async fn answer(&self, done: Result<Done<State>, Failure<Refusal>>) -> Result<api::Order, Fault> {
        match done.map_err(|failure| failure.fault(fault))? {
            Done::Now(State { order: Some(order), .. }) => Ok(order_message(&order)),
            Done::Now(State { order: None, .. }) => Err(not_found()),
            // The request id was claimed by this very caller, so whose it is needs no check.
            Done::Before(id) => find(&self.pool, OrderId::from_uuid(id), None).await,
        }
    }
}

#[tonic::async_trait]
impl OrderService for Api {
    async fn create_order(
        &self,
        request: Request<CreateOrderRequest>,
    ) -> Result<Response<CreateOrderResponse>, Status> {
        let call = Call::of(&request)?;
        let mut request = request.into_inner();
        let NewOrder { ticket, quantity, unit_price, request_id } = check_create(&request)?;

        let id = OrderId::new();
        // See `Call::claim`.
        (request.ticket_id, request.quantity, request.request_id) = (ticket.to_string(), Some(quantity), None);
        let claim = call.claim("CreateOrder", request_id, &request, id);
        let create = Create {
            id,
            user: call.caller.user.clone(),
            ticket,
            quantity,
            unit_price,
            ttl: self.order_ttl,
            trace: call.trace.clone(),
        };
        let envelope = || Envelope::new(Command::Create(create.clone()), call.trace.clone()).with_claim(claim.clone());
        // A ticket that its seller has just listed may not have been heard of here yet.
        let not_heard_yet = |refusal: &Refusal| matches!(refusal, Refusal::TicketUnknown);
        let done = self.lane.submit_when_heard(envelope, call.deadline.into_std(), not_heard_yet).await;
        Ok(Response::new(CreateOrderResponse { order: Some(self.answer(done).await?) }))
    }

    async fn get_order(&self, request: Request<GetOrderRequest>) -> Result<Response<GetOrderResponse>, Status> {
        let call = Call::of(&request)?;
        let mut fields = Fields::new();
        let id = fields.id("id", &request.get_ref().id);
        let id = fields.finish(|| id)?;
        Ok(Response::new(GetOrderResponse { order: Some(find(&self.pool, id, call.caller.sees()).await?) }))
    }

    async fn list_orders(&self, request: Request<ListOrdersRequest>) -> Result<Response<ListOrdersResponse>, Status> {
        let call = Call::of(&request)?;
        let (listing, named, status, page) = check_list(request.get_ref(), &call.caller.user)?;
        if !call.caller.operator && named.as_ref().is_some_and(|named| *named != call.caller.user) {
            return Err(Fault::permission_denied("only operators may list the orders of others").into());
        }
        let user = named.as_ref().or(call.caller.sees()).map(UserId::as_str);

        let mut conn = self.pool.get().await.map_err(Fault::from)?;
        let mut orders =
            store::list(&mut conn, user, status.and_then(stored_status), &page).await.map_err(Fault::from)?;
        let next_page_token = listing.cut(&page, &mut orders, |order| order.id);
        Ok(Response::new(ListOrdersResponse { orders: orders.iter().map(order_message).collect(), next_page_token }))
    }

    async fn cancel_order(
        &self,
        request: Request<CancelOrderRequest>,
    ) -> Result<Response<CancelOrderResponse>, Status> {
        let call = Call::of(&request)?;
        let mut fields = Fields::new();
        let id = fields.id("id", &request.get_ref().id);
        let id = fields.finish(|| id)?;
        let command = Command::Cancel { id, user: call.caller.user.clone() };
        let done = self.lane.submit(Envelope::new(command, call.trace.clone()), call.deadline.into_std()).await;
        Ok(Response::new(CancelOrderResponse { order: Some(self.answer(done).await?) }))
    }

    type WatchOrderStream = Pin<Box<dyn Stream<Item = Result<WatchOrderResponse, Status>> + Send>>;

    async fn watch_order(
        &self,
        request: Request<WatchOrderRequest>,
    ) -> Result<Response<Self::WatchOrderStream>, Status> {
        let call = Call::of(&request)?;
        let (id, after) = check_watch(request.get_ref())?;

        let user = call.caller.sees().cloned();
        // Whose it is doesn't change, so that this is asked once.
        find(&self.pool, id, user.as_ref()).await?;
        let watch = self.feed.watch(&id.to_string(), &call.caller.user).map_err(Fault::from)?;
        let pool = self.pool.clone();
        let read = move || {
            let pool = pool.clone();
            async move { find(&pool, id, None).await.map(|order| (Version::from_i64(order.version), order)) }
        };
        let states = follow(watch, after, read, has_ended);
        let answers = states.map(|state| Ok(WatchOrderResponse { order: Some(state?) }));
        Ok(Response::new(Box::pin(answers)))
    }
}

/// An order that is to be placed.
#[derive(Debug)]
#[allow(missing_docs, reason = "named as the contract names them")]
pub struct NewOrder {
    pub ticket: TicketId,
    pub quantity: i32,
    pub unit_price: Option<Money>,
    pub request_id: Option<Id<()>>,
}

/// What an order is to be.
pub fn check_create(request: &CreateOrderRequest) -> Result<NewOrder, Fault> {
    let mut fields = Fields::new();
    let ticket = fields.id("ticket_id", &request.ticket_id);
    let quantity = fields.number("quantity", request.quantity.unwrap_or(1), QUANTITIES);
    let unit_price =
        fields.optional(request.unit_price.as_ref(), |fields, price| fields.price("unit_price", Some(price.parts())));
    let request_id = fields.optional_id("request_id", request.request_id.as_deref());
    if let (Some(quantity), Some(Some(unit_price))) = (quantity, unit_price)
        && unit_price.times(quantity).is_none()
    {
        // The rules say so, too; here it is told with all other faults.
        let FieldFault { field, description } = total_too_large();
        fields.fault(field, description);
    }
    fields.finish(|| {
        Some(NewOrder { ticket: ticket?, quantity: quantity?, unit_price: unit_price?, request_id: request_id? })
    })
}

/// The list as this caller sees it, whose orders and which of them it is to show, and which page of that. Whether the
/// caller may see them is not asked here.
pub fn check_list(
    request: &ListOrdersRequest,
    caller: &UserId,
) -> Result<(Listing, Option<UserId>, Option<api::OrderStatus>, Page), Fault> {
    let listing = Listing::new("ListOrders", caller)
        .filter("user_id", request.user_id.as_deref())
        .filter("status", request.status);
    let mut fields = Fields::new();
    let named = fields.optional(request.user_id.as_deref(), |fields, user| fields.user("user_id", user));
    let status = fields.optional(request.status, |fields, status| fields.choice("status", status));
    let page = fields.page(&listing, request.page_size, &request.page_token);
    fields.finish(|| Some((listing, named?, status?, page?)))
}

/// Which order is to be watched, and from behind which version.
pub fn check_watch(request: &WatchOrderRequest) -> Result<(OrderId, Version), Fault> {
    let mut fields = Fields::new();
    let id = fields.id("id", &request.id);
    let after = fields.number("after_version", request.after_version.unwrap_or(0), 0..=i64::MAX);
    fields.finish(|| Some((id?, Version::from_i64(after?))))
}

/// An order as its buyer sees it, if it exists and belongs to this user; `None` as the user means anybody.
async fn find(pool: &Pool, id: OrderId, user: Option<&UserId>) -> Result<api::Order, Fault> {
    let mut conn = pool.get().await?;
    let found = store::find(&mut conn, id, user).await?;
    found.as_ref().map(order_message).ok_or_else(not_found)
}

fn total_too_large() -> FieldFault {
    FieldFault { field: "quantity".into(), description: "times the unit price must be less than 2 to the 63".into() }
}

fn has_ended(order: &api::Order) -> bool {
    match order.status() {
        api::OrderStatus::Completed | api::OrderStatus::Cancelled => true,
        api::OrderStatus::Unspecified | api::OrderStatus::Created | api::OrderStatus::AwaitingPayment => false,
    }
}

fn stored_status(status: api::OrderStatus) -> Option<i16> {
    let status = match status {
        api::OrderStatus::Unspecified => return None,
        api::OrderStatus::Created => Stage::Created,
        api::OrderStatus::AwaitingPayment => Stage::AwaitingPayment,
        api::OrderStatus::Completed => Stage::Completed,
        // Whatever the reason.
        api::OrderStatus::Cancelled => Stage::Cancelled(Reason::Buyer),
    };
    Some(store::status_code(status).0)
}

fn not_found() -> Fault {
    Fault::not_found("there is no such order")
}

fn fault(refusal: Refusal) -> Fault {
    const SOON: Duration = Duration::from_secs(1);
    match refusal {
        Refusal::NotFound => not_found(),
        Refusal::TicketUnknown => Fault::not_found("there is no such ticket, as far as is known").retry_after(SOON),
        Refusal::TicketWithdrawn => {
            Fault::failed_precondition("TICKET_WITHDRAWN", "the seller has ended the sale of this ticket")
        }
        Refusal::SoldOut { available } => {
            Fault::failed_precondition("SOLD_OUT", format!("available is {available}; stock may come back"))
                .retry_after(SOON)
        }
        Refusal::TotalTooLarge => Fault::invalid(vec![total_too_large()]),
        Refusal::Completed => Fault::failed_precondition("ORDER_COMPLETED", "the order was paid"),
        // Of others' events alone.
        Refusal::NoSuchOrder => Fault::internal(),
    }
}
