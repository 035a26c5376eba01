//! Requests: decoded, and their fields checked.

use contracts::{
    expiration::v1::{GetExpirationRequest, ListExpirationsRequest},
    orders::v1::{CancelOrderRequest, CreateOrderRequest, GetOrderRequest, ListOrdersRequest, WatchOrderRequest},
    payments::v1::{CreatePaymentRequest, GetPaymentRequest, ListPaymentsRequest},
    tickets::v1::{
        CreateTicketRequest, GetTicketRequest, ListTicketsRequest, TicketStatus, UpdateTicketRequest,
        WithdrawTicketRequest,
    },
};
use prost::Message;
use shared::{
    grpc::{Fields, Listing},
    user::UserId,
};

use crate::events::again;

/// Each request of the contract.
const REQUESTS: [fn(&[u8]); 15] = [
    again::<CreateTicketRequest>,
    again::<UpdateTicketRequest>,
    again::<WithdrawTicketRequest>,
    again::<GetTicketRequest>,
    again::<ListTicketsRequest>,
    again::<CreateOrderRequest>,
    again::<GetOrderRequest>,
    again::<ListOrdersRequest>,
    again::<CancelOrderRequest>,
    again::<WatchOrderRequest>,
    again::<CreatePaymentRequest>,
    again::<GetPaymentRequest>,
    again::<ListPaymentsRequest>,
    again::<GetExpirationRequest>,
    again::<ListExpirationsRequest>,
];

/// The same bytes, read as each of them.
pub fn requests(data: &[u8]) {
    for request in REQUESTS {
        request(data);
    }
    if let Ok(request) = CreateTicketRequest::decode(data) {
        create(&request);
    }
    if let Ok(request) = ListTicketsRequest::decode(data) {
        list(&request);
    }
}

/// Every kind of field that a request can have is in these two. What passes keeps what it promises.
fn create(request: &CreateTicketRequest) {
    let mut fields = Fields::new();
    let title = fields.title("title", &request.title);
    let price = fields.price("price", request.price.as_ref().map(|price| price.parts()));
    let quantity = fields.number("quantity", request.quantity.unwrap_or(1), 1..=1_000_000);
    let id = fields.optional_id::<()>("request_id", request.request_id.as_deref());
    let sound = fields.finish(|| Some((title?, price?, quantity?, id?)));
    match sound {
        Ok((title, price, quantity, id)) => {
            assert!((1..=200).contains(&title.chars().count()) && !title.chars().any(char::is_control));
            assert_eq!(title, request.title);
            assert!(price.minor_units() >= 0 && price.currency_code().len() == 3);
            assert!((1..=1_000_000).contains(&quantity));
            let given = request.request_id.as_deref().map(str::to_lowercase);
            assert_eq!(id.map(|id| id.to_string()), given);
        }
        Err(fault) => assert_eq!(fault.reason(), "INVALID_ARGUMENT", "{fault}"),
    }
}

fn list(request: &ListTicketsRequest) {
    let listing = Listing::new("ListTickets", &UserId::from_stored("alice"));
    let mut fields = Fields::new();
    let seller = fields.optional(request.seller_id.as_deref(), |fields, seller| fields.user("seller_id", seller));
    let status = fields.optional(request.status, |fields, status| fields.choice::<TicketStatus>("status", status));
    let page = fields.page(&listing, request.page_size, &request.page_token);
    match fields.finish(|| Some((seller?, status?, page?))) {
        Ok((_, status, page)) => {
            assert!((1..=200).contains(&page.size));
            assert_ne!(status, Some(TicketStatus::Unspecified));
        }
        Err(fault) => assert_eq!(fault.reason(), "INVALID_ARGUMENT", "{fault}"),
    }
}
