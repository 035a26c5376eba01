//! Requests: decoded, and their fields checked, by the services' own functions.

use contracts::{
    expiration::v1::{ExpirationStatus, GetExpirationRequest, ListExpirationsRequest},
    orders::v1::{
        CancelOrderRequest, CreateOrderRequest, GetOrderRequest, ListOrdersRequest, OrderStatus, WatchOrderRequest,
    },
    payments::v1::{CreatePaymentRequest, GetPaymentRequest, ListPaymentsRequest},
    tickets::v1::{
        CreateTicketRequest, GetTicketRequest, ListTicketsRequest, TicketStatus, UpdateTicketRequest,
        WithdrawTicketRequest,
    },
};
use orders::grpc::NewOrder;
use payments::grpc::NewPayment;
use prost::Message;
use shared::{
    grpc::{Fault, Page},
    id::Id,
    money::Money,
    user::UserId,
};
use tickets::{domain::Edit, grpc::NewTicket};

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

/// The same bytes, read as each of them; what has several fields, checked as its service does it.
pub fn requests(data: &[u8]) {
    for request in REQUESTS {
        request(data);
    }
    checked(data, create_ticket);
    checked(data, update_ticket);
    checked(data, list_tickets);
    checked(data, create_order);
    checked(data, list_orders);
    checked(data, watch_order);
    checked(data, create_payment);
    checked(data, list_payments);
    checked(data, list_expirations);
}

/// What passes keeps what it promises, and all else is the sender's fault.
fn checked<R: Message + Default>(data: &[u8], check: impl FnOnce(&R) -> Result<(), Fault>) {
    let Ok(request) = R::decode(data) else { return };
    if let Err(fault) = check(&request) {
        assert_eq!(fault.reason(), "INVALID_ARGUMENT", "{fault}");
    }
}

fn create_ticket(request: &CreateTicketRequest) -> Result<(), Fault> {
    let NewTicket { title, price, quantity, request_id } = tickets::grpc::check_create(request)?;
    text(&title, &request.title, 200);
    amount(price);
    assert!((1..=1_000_000).contains(&quantity));
    same(request_id, request.request_id.as_deref());
    Ok(())
}

fn update_ticket(request: &UpdateTicketRequest) -> Result<(), Fault> {
    let (id, Edit { title, price, quantity }) = tickets::grpc::check_update(request)?;
    same(Some(id), Some(&request.id));
    assert!(title.is_some() || price.is_some() || quantity.is_some());
    assert_eq!(title, request.title);
    if let Some(title) = &title {
        text(title, title, 200);
    }
    if let Some(price) = price {
        amount(price);
    }
    assert!(quantity.is_none_or(|quantity| (1..=1_000_000).contains(&quantity)));
    Ok(())
}

fn list_tickets(request: &ListTicketsRequest) -> Result<(), Fault> {
    let (_, seller, status, page) = tickets::grpc::check_list(request, &alice())?;
    user(seller, request.seller_id.as_deref());
    assert_ne!(status, TicketStatus::Unspecified);
    size(page);
    Ok(())
}

fn create_order(request: &CreateOrderRequest) -> Result<(), Fault> {
    let NewOrder { ticket, quantity, unit_price, request_id } = orders::grpc::check_create(request)?;
    same(Some(ticket), Some(&request.ticket_id));
    assert!((1..=1_000_000).contains(&quantity));
    if let Some(unit_price) = unit_price {
        amount(unit_price);
        assert!(unit_price.times(quantity).is_some());
    }
    same(request_id, request.request_id.as_deref());
    Ok(())
}

fn list_orders(request: &ListOrdersRequest) -> Result<(), Fault> {
    let (_, named, status, page) = orders::grpc::check_list(request, &alice())?;
    user(named, request.user_id.as_deref());
    assert_ne!(status, Some(OrderStatus::Unspecified));
    size(page);
    Ok(())
}

fn watch_order(request: &WatchOrderRequest) -> Result<(), Fault> {
    let (id, after) = orders::grpc::check_watch(request)?;
    same(Some(id), Some(&request.id));
    assert!(after.as_i64() >= 0);
    Ok(())
}

fn create_payment(request: &CreatePaymentRequest) -> Result<(), Fault> {
    let NewPayment { order, method, request_id } = payments::grpc::check_create(request)?;
    same(Some(order), Some(&request.order_id));
    text(&method, &request.payment_method, 100);
    same(request_id, request.request_id.as_deref());
    Ok(())
}

fn list_payments(request: &ListPaymentsRequest) -> Result<(), Fault> {
    let (_, order, page) = payments::grpc::check_list(request, &alice())?;
    same(order, request.order_id.as_deref());
    size(page);
    Ok(())
}

fn list_expirations(request: &ListExpirationsRequest) -> Result<(), Fault> {
    let (_, status, page) = expiration::grpc::check_list(request, &alice())?;
    assert_ne!(status, Some(ExpirationStatus::Unspecified));
    size(page);
    Ok(())
}

fn alice() -> UserId {
    UserId::from_stored("alice")
}

fn text(text: &str, given: &str, most: usize) {
    assert!((1..=most).contains(&text.chars().count()) && !text.chars().any(char::is_control));
    assert_eq!(text, given);
}

fn amount(money: Money) {
    assert!(money.minor_units() >= 0 && money.currency_code().len() == 3);
}

/// The id that was given, in whatever case.
fn same<K>(id: Option<Id<K>>, given: Option<&str>) {
    assert_eq!(id.map(|id| id.to_string()), given.map(str::to_lowercase));
}

fn user(user: Option<UserId>, given: Option<&str>) {
    assert_eq!(user.as_ref().map(UserId::as_str), given);
}

fn size(page: Page) {
    assert!((1..=200).contains(&page.size));
}
