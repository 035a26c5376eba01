//! A user, and what users do.

use anyhow::{Context, Result, ensure};
use contracts::{
    expiration::v1::{
        Expiration, ExpirationStatus, GetExpirationRequest, expiration_service_client::ExpirationServiceClient,
    },
    orders::v1::{
        CancelOrderRequest, CancelReason, CreateOrderRequest, GetOrderRequest, Order, OrderStatus,
        order_service_client::OrderServiceClient,
    },
    payments::v1::{
        CreatePaymentRequest, GetPaymentRequest, ListPaymentsRequest, Payment, PaymentStatus,
        payment_service_client::PaymentServiceClient,
    },
    tickets::v1::{
        CreateTicketRequest, GetTicketRequest, Ticket, UpdateTicketRequest, WithdrawTicketRequest,
        ticket_service_client::TicketServiceClient,
    },
    r#type::v1::Money,
};
use local::wait;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::{SETTLED, SOON, World};

/// A channel that says who calls.
type Line = InterceptedService<Channel, Credentials>;

/// Somebody with a token, and a line to each service.
#[derive(Clone)]
pub struct User {
    /// The line to tickets, for calls that have no verb of their own here.
    pub tickets: TicketServiceClient<Line>,
    /// The line to orders.
    pub orders: OrderServiceClient<Line>,
    /// The line to payments.
    pub payments: PaymentServiceClient<Line>,
    /// The line to expiration.
    pub expiration: ExpirationServiceClient<Line>,
    channels: [Channel; 4],
    credentials: Credentials,
}

/// What each call of somebody says besides: who calls, and perhaps in which trace.
#[derive(Clone)]
pub struct Credentials {
    authorization: MetadataValue<Ascii>,
    traceparent: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.authorization.clone());
        if let Some(traceparent) = &self.traceparent {
            request.metadata_mut().insert("traceparent", traceparent.clone());
        }
        Ok(request)
    }
}

impl User {
    pub(crate) fn new(world: &World, name: &str, roles: &[&str], replica: usize) -> Result<Self> {
        let channels = [
            world.line("tickets", replica)?,
            world.line("orders", replica)?,
            world.line("payments", replica)?,
            world.line("expiration", replica)?,
        ];
        Self::through(world, name, roles, channels)
    }

    /// Somebody with these lines to the services, in the order of the fields above.
    pub(crate) fn through(world: &World, name: &str, roles: &[&str], channels: [Channel; 4]) -> Result<Self> {
        let token = world.stack().signer().token(name, roles)?;
        let credentials = Credentials { authorization: format!("Bearer {token}").parse()?, traceparent: None };
        Ok(Self::from_parts(channels, credentials))
    }

    fn from_parts(channels: [Channel; 4], credentials: Credentials) -> Self {
        let [tickets, orders, payments, expiration] =
            channels.each_ref().map(|channel| InterceptedService::new(channel.clone(), credentials.clone()));
        Self {
            tickets: TicketServiceClient::new(tickets),
            orders: OrderServiceClient::new(orders),
            payments: PaymentServiceClient::new(payments),
            expiration: ExpirationServiceClient::new(expiration),
            channels,
            credentials,
        }
    }

    /// The same user, in a trace of their own: every call has this `traceparent`.
    ///
    /// # Errors
    ///
    /// It is no text for metadata.
    pub fn within(&self, traceparent: &str) -> Result<Self> {
        let credentials = Credentials { traceparent: Some(traceparent.parse()?), ..self.credentials.clone() };
        Ok(Self::from_parts(self.channels.clone(), credentials))
    }

    /// Lists so many of a ticket at this many US cents each.
    ///
    /// # Errors
    ///
    /// The call's.
    pub async fn lists(&self, title: &str, cents: i64, quantity: i32) -> Result<Ticket, Status> {
        self.lists_as(CreateTicketRequest {
            title: title.to_owned(),
            price: Some(Money::of("USD", cents)),
            quantity: Some(quantity),
            request_id: None,
        })
        .await
    }

    /// Lists a ticket in just these words.
    ///
    /// # Errors
    ///
    /// The call's.
    pub async fn lists_as(&self, request: CreateTicketRequest) -> Result<Ticket, Status> {
        let answer = self.tickets.clone().create_ticket(request).await?.into_inner();
        answer.ticket.ok_or_else(|| Status::internal("no ticket in the answer"))
    }

    /// The ticket as it is now.
    ///
    /// # Errors
    ///
    /// The call's.
    pub async fn ticket(&self, id: &str) -> Result<Ticket, Status> {
        let answer = self.tickets.clone().get_ticket(GetTicketRequest { id: id.to_owned() }).await?.into_inner();
        answer.ticket.ok_or_else(|| Status::internal("no ticket in the answer"))
    }

    /// Changes a ticket's price.
    ///
    /// # Errors
    ///
    /// The call's.
    pub async fn reprices(&self, id: &str, cents: i64) -> Result<Ticket, Status> {
        let price = Some(Money::of("USD", cents));
        self.edits(UpdateTicketRequest { id: id.to_owned(), price, ..UpdateTicketRequest::default() }).await
    }

    /// Changes a ticket in just these words.
    ///
    /// # Errors
    ///
    /// The call's.
    pub async fn edits(&self, request: UpdateTicketRequest) -> Result<Ticket, Status> {
        let answer = self.tickets.clone().update_ticket(request).await?.into_inner();
        answer.ticket.ok_or_else(|| Status::internal("no ticket in the answer"))
    }

    /// Ends a ticket's sale.
    ///
    /// # Errors
    ///
    /// The call's.
    pub async fn withdraws(&self, id: &str) -> Result<Ticket, Status> {
        let request = WithdrawTicketRequest { id: id.to_owned() };
        let answer = self.tickets.clone().withdraw_ticket(request).await?.into_inner();
        answer.ticket.ok_or_else(|| Status::internal("no ticket in the answer"))
    }

    /// Orders so many of a ticket at the price that it was seen at.
    ///
    /// # Errors
    ///
    /// The call's.
    pub async fn places(&self, ticket: &Ticket, quantity: i32) -> Result<Order, Status> {
        self.places_as(CreateOrderRequest {
            ticket_id: ticket.id.clone(),
            quantity: Some(quantity),
            unit_price: ticket.price.clone(),
            request_id: None,
        })
        .await
    }

    /// Orders in just these words.
    ///
    /// # Errors
    ///
    /// The call's.
    pub async fn places_as(&self, request: CreateOrderRequest) -> Result<Order, Status> {
        let answer = self.orders.clone().create_order(request).await?.into_inner();
        answer.order.ok_or_else(|| Status::internal("no order in the answer"))
    }

    /// The order as it is now.
    ///
    /// # Errors
    ///
    /// The call's.
    pub async fn order(&self, id: &str) -> Result<Order, Status> {
        let answer = self.orders.clone().get_order(GetOrderRequest { id: id.to_owned() }).await?.into_inner();
        answer.order.ok_or_else(|| Status::internal("no order in the answer"))
    }

    /// Cancels an order.
    ///
    /// # Errors
    ///
    /// The call's.
    pub async fn cancels(&self, id: &str) -> Result<Order, Status> {
        let answer = self.orders.clone().cancel_order(CancelOrderRequest { id: id.to_owned() }).await?.into_inner();
        answer.order.ok_or_else(|| Status::internal("no order in the answer"))
    }

    /// Pays an order with this card. A decline is an answer, too.
    ///
    /// # Errors
    ///
    /// The call's.
    pub async fn pays(&self, order_id: &str, card: &str) -> Result<Payment, Status> {
        let (order_id, payment_method) = (order_id.to_owned(), card.to_owned());
        self.pays_as(CreatePaymentRequest { order_id, payment_method, request_id: None }).await
    }

    /// Pays in just these words.
    ///
    /// # Errors
    ///
    /// The call's.
    pub async fn pays_as(&self, request: CreatePaymentRequest) -> Result<Payment, Status> {
        let answer = self.payments.clone().create_payment(request).await?.into_inner();
        answer.payment.ok_or_else(|| Status::internal("no payment in the answer"))
    }

    /// The payment as it is now.
    ///
    /// # Errors
    ///
    /// The call's.
    pub async fn payment(&self, id: &str) -> Result<Payment, Status> {
        let answer = self.payments.clone().get_payment(GetPaymentRequest { id: id.to_owned() }).await?.into_inner();
        answer.payment.ok_or_else(|| Status::internal("no payment in the answer"))
    }

    /// An order's payments as they are now, the newest first; 50 at most.
    ///
    /// # Errors
    ///
    /// The call's.
    pub async fn payments(&self, order_id: &str) -> Result<Vec<Payment>, Status> {
        let request = ListPaymentsRequest { order_id: Some(order_id.to_owned()), ..ListPaymentsRequest::default() };
        Ok(self.payments.clone().list_payments(request).await?.into_inner().payments)
    }

    /// An order's timer as it is now.
    ///
    /// # Errors
    ///
    /// The call's.
    pub async fn timer(&self, order_id: &str) -> Result<Expiration, Status> {
        let request = GetExpirationRequest { order_id: order_id.to_owned() };
        let answer = self.expiration.clone().get_expiration(request).await?.into_inner();
        answer.expiration.ok_or_else(|| Status::internal("no expiration in the answer"))
    }

    /// Waits until tickets has decided on an order, one way or the other, and gives it.
    ///
    /// # Errors
    ///
    /// It hasn't in time.
    pub async fn awaits_decision(&self, id: &str) -> Result<Order> {
        wait::until(&format!("a decision on order {id}"), SOON, || async {
            let order = self.order(id).await?;
            ensure!(order.status() != OrderStatus::Created, "it is still {}", order.status().as_str_name());
            Ok(order)
        })
        .await
    }

    /// Waits until an order has this status, and gives it.
    ///
    /// # Errors
    ///
    /// It doesn't in time.
    pub async fn awaits_order(&self, id: &str, status: OrderStatus) -> Result<Order> {
        wait::until(&format!("order {id} to be {}", status.as_str_name()), SOON, || async {
            let order = self.order(id).await?;
            ensure!(order.status() == status, "it is {} ({:?})", order.status().as_str_name(), order.cancel_reason());
            Ok(order)
        })
        .await
    }

    /// Waits until an order is cancelled for this reason, and gives it.
    ///
    /// # Errors
    ///
    /// It isn't in time, or for another.
    pub async fn awaits_cancellation(&self, id: &str, reason: CancelReason) -> Result<Order> {
        let order = self.awaits_order(id, OrderStatus::Cancelled).await?;
        ensure!(order.cancel_reason() == reason, "cancelled for another reason: {:?}", order.cancel_reason());
        Ok(order)
    }

    /// Waits until an order has ended, one way or the other, and gives it.
    ///
    /// # Errors
    ///
    /// It doesn't in time.
    pub async fn awaits_end(&self, id: &str) -> Result<Order> {
        wait::until(&format!("order {id} to end"), SETTLED, || async {
            let order = self.order(id).await?;
            let ended = [OrderStatus::Completed, OrderStatus::Cancelled].contains(&order.status());
            ensure!(ended, "it is {}", order.status().as_str_name());
            Ok(order)
        })
        .await
    }

    /// Waits until nothing moves any more for an order that has ended: no charge is pending, and none has to go back.
    ///
    /// # Errors
    ///
    /// Something still does in time.
    pub async fn awaits_rest(&self, order: &Order) -> Result<Vec<Payment>> {
        wait::until(&format!("the money of order {} to come to rest", order.id), SETTLED, || async {
            let payments = self.payments(&order.id).await?;
            let kept = if order.status() == OrderStatus::Completed { 1 } else { 0 };
            let succeeded = payments.iter().filter(|payment| payment.status() == PaymentStatus::Succeeded).count();
            let moving = payments
                .iter()
                .find(|payment| [PaymentStatus::Pending, PaymentStatus::RefundPending].contains(&payment.status()));
            ensure!(moving.is_none() && succeeded == kept, "they are {payments:?}");
            Ok(payments)
        })
        .await
    }

    /// Waits until the newest payment of an order has this status, and gives it.
    ///
    /// # Errors
    ///
    /// It doesn't in time.
    pub async fn awaits_payment(&self, order_id: &str, status: PaymentStatus) -> Result<Payment> {
        wait::until(&format!("the payment of order {order_id} to be {}", status.as_str_name()), SETTLED, || async {
            let newest = self.payments(order_id).await?.into_iter().next().context("there is none")?;
            ensure!(newest.status() == status, "it is {}", newest.status().as_str_name());
            Ok(newest)
        })
        .await
    }

    /// Waits until an order's timer has this status.
    ///
    /// # Errors
    ///
    /// It doesn't in time.
    pub async fn awaits_timer(&self, order_id: &str, status: ExpirationStatus) -> Result<Expiration> {
        wait::until(&format!("the timer of order {order_id} to be {}", status.as_str_name()), SOON, || async {
            let timer = self.timer(order_id).await?;
            ensure!(timer.status() == status, "it is {}", timer.status().as_str_name());
            Ok(timer)
        })
        .await
    }

    /// Waits until a ticket's stock is so much available, reserved and sold, and gives it.
    ///
    /// # Errors
    ///
    /// It isn't in time.
    pub async fn awaits_stock(&self, id: &str, available: i32, reserved: i32, sold: i32) -> Result<Ticket> {
        wait::until(&format!("stock of {available} available, {reserved} reserved, {sold} sold"), SOON, || async {
            let ticket = self.ticket(id).await?;
            let stock = (ticket.available, ticket.reserved, ticket.sold);
            ensure!(stock == (available, reserved, sold), "it is {stock:?}");
            Ok(ticket)
        })
        .await
    }
}
