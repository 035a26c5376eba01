//! The API: what operators may look at. Nothing is changed here.

use contracts::expiration::v1::{
    self as api, GetExpirationRequest, GetExpirationResponse, ListExpirationsRequest, ListExpirationsResponse,
    expiration_service_server::ExpirationService,
};
use shared::{
    db::Pool,
    grpc::{Call, Fault, Fields, Listing, Page},
    user::UserId,
};
use tonic::{Request, Response, Status};

use crate::{domain, events::expiration_message, store};

/// Serves `ticketing.expiration.v1.ExpirationService`.
pub(crate) struct Api {
    pool: Pool,
}

impl Api {
    /// Reads from the pool.
    pub(crate) fn new(pool: Pool) -> Self {
        Self { pool }
    }
}

/// The call, if an operator makes it.
fn operators<T>(request: &Request<T>) -> Result<Call, Fault> {
    let call = Call::of(request)?;
    if call.caller.operator { Ok(call) } else { Err(Fault::permission_denied("only operators may look at timers")) }
}

#[tonic::async_trait]
impl ExpirationService for Api {
    async fn get_expiration(
        &self,
        request: Request<GetExpirationRequest>,
    ) -> Result<Response<GetExpirationResponse>, Status> {
        operators(&request)?;
        let mut fields = Fields::new();
        let order = fields.id("order_id", &request.get_ref().order_id);
        let order = fields.finish(|| order)?;
        let mut conn = self.pool.get().await.map_err(Fault::from)?;
        let found = store::find(&mut conn, order).await.map_err(Fault::from)?;
        let timer = found.ok_or_else(|| Fault::not_found("no timer was ever set for such an order"))?;
        Ok(Response::new(GetExpirationResponse { expiration: Some(expiration_message(&timer)) }))
    }

    async fn list_expirations(
        &self,
        request: Request<ListExpirationsRequest>,
    ) -> Result<Response<ListExpirationsResponse>, Status> {
        let call = operators(&request)?;
        let (listing, status, page) = check_list(request.get_ref(), &call.caller.user)?;

        let mut conn = self.pool.get().await.map_err(Fault::from)?;
        let mut timers = store::list(&mut conn, status.and_then(stored), &page).await.map_err(Fault::from)?;
        let next_page_token = listing.cut(&page, &mut timers, |timer| timer.order);
        let expirations = timers.iter().map(expiration_message).collect();
        Ok(Response::new(ListExpirationsResponse { expirations, next_page_token }))
    }
}

/// The list as this caller sees it, which timers it is to show, if not all, and which page of that.
pub fn check_list(
    request: &ListExpirationsRequest,
    caller: &UserId,
) -> Result<(Listing, Option<api::ExpirationStatus>, Page), Fault> {
    let listing = Listing::new("ListExpirations", caller).filter("status", request.status);
    let mut fields = Fields::new();
    let status = fields.optional(request.status, |fields, status| fields.choice("status", status));
    let page = fields.page(&listing, request.page_size, &request.page_token);
    fields.finish(|| Some((listing, status?, page?)))
}

fn stored(status: api::ExpirationStatus) -> Option<domain::Status> {
    match status {
        api::ExpirationStatus::Unspecified => None,
        api::ExpirationStatus::Scheduled => Some(domain::Status::Scheduled),
        api::ExpirationStatus::Expired => Some(domain::Status::Expired),
        api::ExpirationStatus::Dropped => Some(domain::Status::Dropped),
    }
}
