//! The API: requests checked and turned into commands, states and refusals turned into answers. Decides nothing.

use contracts::{
    tickets::v1::{
        self as api, CreateTicketRequest, CreateTicketResponse, GetTicketRequest, GetTicketResponse,
        ListTicketsRequest, ListTicketsResponse, UpdateTicketRequest, UpdateTicketResponse, WithdrawTicketRequest,
        WithdrawTicketResponse, ticket_service_server::TicketService,
    },
    r#type::v1::Money,
};
use shared::{
    command::{Done, Envelope, Lane},
    db::Pool,
    grpc::{Call, Fault, Fields, Listing, Page},
    id::Id,
    money::Money as Price,
    user::UserId,
};
use tonic::{Request, Response, Status};

use crate::{
    domain::{self, Command, Edit, QUANTITIES, Refusal, State, Ticket, TicketId, Tickets},
    events::ticket_message,
    store,
};

/// Serves `ticketing.tickets.v1.TicketService`.
pub(crate) struct Api {
    lane: Lane<Tickets>,
    pool: Pool,
}

impl Api {
    /// Commands go to the lane, reads to the pool.
    pub(crate) fn new(lane: Lane<Tickets>, pool: Pool) -> Self {
        Self { lane, pool }
    }

    /// Gives a command, and answers with the ticket as it is then.
    async fn submit(&self, call: &Call, envelope: Envelope<Command>) -> Result<api::Ticket, Fault> {
        let done =
            self.lane.submit(envelope, call.deadline.into_std()).await.map_err(|failure| failure.fault(fault))?;
        match done {
            Done::Now(State { ticket: Some(ticket), .. }) => Ok(ticket_message(&ticket)),
            Done::Now(State { ticket: None, .. }) => Err(not_found()),
            Done::Before(id) => self.find(TicketId::from_uuid(id)).await,
        }
    }

    async fn find(&self, id: TicketId) -> Result<api::Ticket, Fault> {
        let mut conn = self.pool.get().await?;
        let found: Option<Ticket> = store::find(&mut conn, id).await.map_err(Fault::from)?;
        found.as_ref().map(ticket_message).ok_or_else(not_found)
    }
}

#[tonic::async_trait]
impl TicketService for Api {
    async fn create_ticket(
        &self,
        request: Request<CreateTicketRequest>,
    ) -> Result<Response<CreateTicketResponse>, Status> {
        let call = Call::of(&request)?;
        let mut request = request.into_inner();
        let NewTicket { title, price, quantity, request_id } = check_create(&request)?;

        let id = TicketId::new();
        // See `Call::claim`.
        (request.quantity, request.request_id) = (Some(quantity), None);
        let claim = call.claim("CreateTicket", request_id, &request, id);
        let seller = call.caller.user.clone();
        let command = Command::Create { id, seller, title, price, quantity };
        let ticket = self.submit(&call, Envelope::new(command, call.trace.clone()).with_claim(claim)).await?;
        Ok(Response::new(CreateTicketResponse { ticket: Some(ticket) }))
    }

    async fn update_ticket(
        &self,
        request: Request<UpdateTicketRequest>,
    ) -> Result<Response<UpdateTicketResponse>, Status> {
        let call = Call::of(&request)?;
        let request = request.into_inner();
        let (id, edit) = check_update(&request)?;

        let seller = call.caller.user.clone();
        let command = Command::Edit { id, seller, edit, expected_revision: request.expected_revision };
        let ticket = self.submit(&call, Envelope::new(command, call.trace.clone())).await?;
        Ok(Response::new(UpdateTicketResponse { ticket: Some(ticket) }))
    }

    async fn withdraw_ticket(
        &self,
        request: Request<WithdrawTicketRequest>,
    ) -> Result<Response<WithdrawTicketResponse>, Status> {
        let call = Call::of(&request)?;
        let mut fields = Fields::new();
        let id = fields.id("id", &request.get_ref().id);
        let id = fields.finish(|| id)?;
        let command = Command::Withdraw { id, seller: call.caller.user.clone() };
        let ticket = self.submit(&call, Envelope::new(command, call.trace.clone())).await?;
        Ok(Response::new(WithdrawTicketResponse { ticket: Some(ticket) }))
    }

    async fn get_ticket(&self, request: Request<GetTicketRequest>) -> Result<Response<GetTicketResponse>, Status> {
        let mut fields = Fields::new();
        let id = fields.id("id", &request.get_ref().id);
        let id = fields.finish(|| id)?;
        Ok(Response::new(GetTicketResponse { ticket: Some(self.find(id).await?) }))
    }

    async fn list_tickets(
        &self,
        request: Request<ListTicketsRequest>,
    ) -> Result<Response<ListTicketsResponse>, Status> {
        let call = Call::of(&request)?;
        let (listing, seller, status, page) = check_list(request.get_ref(), &call.caller.user)?;
        let status = match status {
            api::TicketStatus::Withdrawn => domain::Status::Withdrawn,
            api::TicketStatus::Listed | api::TicketStatus::Unspecified => domain::Status::Listed,
        };

        let mut conn = self.pool.get().await.map_err(Fault::from)?;
        let seller = seller.as_ref().map(UserId::as_str);
        let mut tickets = store::list(&mut conn, seller, status, &page).await.map_err(Fault::from)?;
        let next_page_token = listing.cut(&page, &mut tickets, |ticket| ticket.id);
        Ok(Response::new(ListTicketsResponse {
            tickets: tickets.iter().map(ticket_message).collect(),
            next_page_token,
        }))
    }
}

/// A ticket that is to be made.
#[derive(Debug)]
#[allow(missing_docs, reason = "named as the contract names them")]
pub struct NewTicket {
    pub title: String,
    pub price: Price,
    pub quantity: i32,
    pub request_id: Option<Id<()>>,
}

/// What a ticket is to be.
pub fn check_create(request: &CreateTicketRequest) -> Result<NewTicket, Fault> {
    let mut fields = Fields::new();
    let title = fields.title("title", &request.title);
    let price = fields.price("price", request.price.as_ref().map(Money::parts));
    let quantity = fields.number("quantity", request.quantity.unwrap_or(1), QUANTITIES);
    let request_id = fields.optional_id("request_id", request.request_id.as_deref());
    fields.finish(|| Some(NewTicket { title: title?, price: price?, quantity: quantity?, request_id: request_id? }))
}

/// Which ticket is to be changed, and what of it: something at least.
pub fn check_update(request: &UpdateTicketRequest) -> Result<(TicketId, Edit), Fault> {
    let UpdateTicketRequest { id, title, price, quantity, expected_revision: _ } = request;
    let mut fields = Fields::new();
    let id = fields.id("id", id);
    if title.is_none() && price.is_none() && quantity.is_none() {
        fields.fault("title", "must be given, or price, or quantity");
    }
    let title = fields.optional(title.as_deref(), |fields, title| fields.title("title", title));
    let price = fields.optional(price.as_ref(), |fields, price| fields.price("price", Some(price.parts())));
    let quantity = fields.optional(*quantity, |fields, quantity| fields.number("quantity", quantity, QUANTITIES));
    fields.finish(|| Some((id?, Edit { title: title?, price: price?, quantity: quantity? })))
}

/// The list as this caller sees it, whose tickets and which of them it is to show, and which page of that.
pub fn check_list(
    request: &ListTicketsRequest,
    caller: &UserId,
) -> Result<(Listing, Option<UserId>, api::TicketStatus, Page), Fault> {
    let status = request.status.unwrap_or(api::TicketStatus::Listed.into());
    let listing = Listing::new("ListTickets", caller)
        .filter("seller_id", request.seller_id.as_deref())
        .filter("status", Some(status));
    let mut fields = Fields::new();
    let seller = fields.optional(request.seller_id.as_deref(), |fields, seller| fields.user("seller_id", seller));
    let status = fields.choice("status", status);
    let page = fields.page(&listing, request.page_size, &request.page_token);
    fields.finish(|| Some((listing, seller?, status?, page?)))
}

fn not_found() -> Fault {
    Fault::not_found("there is no such ticket")
}

fn fault(refusal: Refusal) -> Fault {
    match refusal {
        Refusal::NotFound => not_found(),
        Refusal::NotTheSeller => Fault::permission_denied("only its seller may change a ticket"),
        Refusal::RevisionMismatch { revision } => {
            Fault::aborted("REVISION_MISMATCH", format!("the ticket was edited since: its revision is {revision}"))
        }
        Refusal::QuantityTooLow { taken } => {
            Fault::failed_precondition("QUANTITY_TOO_LOW", format!("{taken} are reserved or sold already"))
        }
        // Of orders' events alone.
        Refusal::NotHeld => Fault::internal(),
    }
}
