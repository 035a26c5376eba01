//! The API: requests checked and turned into commands, states and refusals turned into answers. Decides nothing.

use std::time::Duration;

use contracts::payments::v1::{
    self as api, CreatePaymentRequest, CreatePaymentResponse, GetPaymentRequest, GetPaymentResponse,
    ListPaymentsRequest, ListPaymentsResponse, payment_service_server::PaymentService,
};
use shared::{
    backoff::Pauses,
    command::{Done, Envelope, Failure, Lane},
    db::Pool,
    grpc::{Call, Fault, Fields, Listing, Page},
    id::Id,
    jobs::{Jobs as _, Runner},
    user::UserId,
};
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status};

use crate::{
    domain::{Account, Command, OrderId, PaymentId, Payments, Refusal},
    events::payment_message,
    jobs::Asker,
    provider::Provider,
    store,
};

/// Serves `ticketing.payments.v1.PaymentService`.
pub(crate) struct Api<P> {
    lane: Lane<Payments>,
    pool: Pool,
    asking: Runner<Payments, Asker<P>>,
    provider: &'static str,
}

/// How long a caller waits for the provider's answer at most.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is left of a caller's time for the answer that there is no answer yet.
const MARGIN: Duration = Duration::from_millis(200);
/// Characters of a payment method's name.
const METHOD_CHARS: std::ops::RangeInclusive<usize> = 1..=100;

impl<P: Provider> Api<P> {
    /// Commands go to the lane, reads to the pool, and the provider of that name is asked by the runner.
    pub(crate) fn new(
        lane: Lane<Payments>,
        pool: Pool,
        asking: Runner<Payments, Asker<P>>,
        provider: &'static str,
    ) -> Self {
        Self { lane, pool, asking, provider }
    }

    async fn find(&self, id: PaymentId, user: Option<&UserId>) -> Result<api::Payment, Fault> {
        let mut conn = self.pool.get().await?;
        let found = store::find(&mut conn, id, user).await?;
        let (order, payment) = found.ok_or_else(|| Fault::not_found("there is no such payment"))?;
        Ok(payment_message(&order, &payment))
    }

    /// A payment as it is once it has an outcome, or else as it is when the time is over: of a request that is repeated, the first
    /// may be under way yet, here or at another replica.
    async fn find_decided(&self, id: PaymentId, until: Instant) -> Result<api::Payment, Fault> {
        let mut pauses = Pauses::until(until);
        loop {
            let payment = self.find(id, None).await?;
            if payment.status() != api::PaymentStatus::Pending || !pauses.pause().await {
                return Ok(payment);
            }
        }
    }
}

/// Asks the provider about what `command` has just recorded, and waits for what comes of it as long as there is time.
/// `None`: nothing yet. The question is asked to its end all the same, or by the timers once its lease is over.
async fn ask<P: Provider>(
    asking: &Runner<Payments, Asker<P>>,
    state: &Option<Account>,
    command: &Command,
    call: &Call,
    until: Instant,
) -> Option<Account> {
    let question = Payments::job(state, command)?;
    let place = timeout_at(until, asking.place()).await.ok()?;
    let told = asking.start(question, call.trace.clone(), place);
    timeout_at(until, told).await.ok()?.ok()?
}

#[tonic::async_trait]
impl<P: Provider> PaymentService for Api<P> {
    async fn create_payment(
        &self,
        request: Request<CreatePaymentRequest>,
    ) -> Result<Response<CreatePaymentResponse>, Status> {
        let call = Call::of(&request)?;
        let latest = call.deadline.checked_sub(MARGIN).unwrap_or(call.deadline);
        // Counted from when there is something to wait for.
        let until = move || (Instant::now() + PATIENCE).min(latest);
        let mut request = request.into_inner();
        let NewPayment { order, method, request_id } = check_create(&request)?;

        let id = PaymentId::new();
        // See `Call::claim`.
        (request.order_id, request.request_id) = (order.to_string(), None);
        let claim = call.claim("CreatePayment", request_id, &request, id);
        let (user, provider) = (call.caller.user.clone(), self.provider.to_owned());
        let command = Command::Pay { id, order, user, method, provider };
        let (lane, asking, context) = (self.lane.clone(), self.asking.clone(), call.trace.clone());
        let paying = async move {
            let envelope = || Envelope::new(command.clone(), call.trace.clone()).with_claim(claim.clone());
            // An order that its buyer was just told of may not have been heard of here yet, nor that it holds stock.
            let not_heard_yet = |refusal: &Refusal| matches!(refusal, Refusal::NotFound | Refusal::NotPayableYet);
            Ok(match lane.submit_when_heard(envelope, call.deadline.into_std(), not_heard_yet).await? {
                Done::Now(state) => Done::Now(ask(&asking, &state, &command, &call, until()).await.or(state)),
                before @ Done::Before(_) => before,
            })
        };
        // Its caller may hang up while the payment is recorded, and the order may have ended when the lease has.
        let done = self.asking.see_through(&context, paying).await.ok_or_else(Fault::internal)?;
        let state = match done.map_err(|failure: Failure<Refusal>| failure.fault(fault))? {
            Done::Now(state) => state,
            // Its id was claimed by this very caller.
            Done::Before(id) => {
                let payment = self.find_decided(PaymentId::from_uuid(id), until()).await?;
                return Ok(Response::new(CreatePaymentResponse { payment: Some(payment) }));
            }
        };
        let payment = state.as_ref().and_then(|account| Some((&account.order, account.payment(id)?)));
        let (order, payment) = payment.ok_or_else(Fault::internal)?;
        Ok(Response::new(CreatePaymentResponse { payment: Some(payment_message(order, payment)) }))
    }

    async fn get_payment(&self, request: Request<GetPaymentRequest>) -> Result<Response<GetPaymentResponse>, Status> {
        let call = Call::of(&request)?;
        let mut fields = Fields::new();
        let id = fields.id("id", &request.get_ref().id);
        let id = fields.finish(|| id)?;
        Ok(Response::new(GetPaymentResponse { payment: Some(self.find(id, call.caller.sees()).await?) }))
    }

    async fn list_payments(
        &self,
        request: Request<ListPaymentsRequest>,
    ) -> Result<Response<ListPaymentsResponse>, Status> {
        let call = Call::of(&request)?;
        let (listing, order, page) = check_list(request.get_ref(), &call.caller.user)?;

        let user = call.caller.sees().map(UserId::as_str);
        let mut conn = self.pool.get().await.map_err(Fault::from)?;
        let mut found = store::list(&mut conn, user, order, &page).await.map_err(Fault::from)?;
        let next_page_token = listing.cut(&page, &mut found, |(_, payment)| payment.id);
        let payments = found.iter().map(|(order, payment)| payment_message(order, payment)).collect();
        Ok(Response::new(ListPaymentsResponse { payments, next_page_token }))
    }
}

/// A payment that is to be made.
#[derive(Debug)]
#[allow(missing_docs, reason = "named as the contract names them")]
pub struct NewPayment {
    pub order: OrderId,
    pub method: String,
    pub request_id: Option<Id<()>>,
}

/// What a payment is to be.
pub fn check_create(request: &CreatePaymentRequest) -> Result<NewPayment, Fault> {
    let mut fields = Fields::new();
    let order = fields.id("order_id", &request.order_id);
    let method = fields.text("payment_method", &request.payment_method, METHOD_CHARS);
    let request_id = fields.optional_id("request_id", request.request_id.as_deref());
    fields.finish(|| Some(NewPayment { order: order?, method: method?, request_id: request_id? }))
}

/// The list as this caller sees it, which order's payments it is to show, if not all, and which page of that.
pub fn check_list(request: &ListPaymentsRequest, caller: &UserId) -> Result<(Listing, Option<OrderId>, Page), Fault> {
    // An id is the same in either case, and so is the list of its payments.
    let named = request.order_id.as_deref().map(str::to_ascii_lowercase);
    let listing = Listing::new("ListPayments", caller).filter("order_id", named.as_deref());
    let mut fields = Fields::new();
    let order = fields.optional_id("order_id", named.as_deref());
    let page = fields.page(&listing, request.page_size, &request.page_token);
    fields.finish(|| Some((listing, order?, page?)))
}

fn fault(refusal: Refusal) -> Fault {
    const SOON: Duration = Duration::from_secs(1);
    match refusal {
        Refusal::NotFound => Fault::not_found("there is no such order, as far as is known").retry_after(SOON),
        Refusal::NotPayableYet => {
            Fault::failed_precondition("ORDER_NOT_PAYABLE", "the order holds no stock yet").retry_after(SOON)
        }
        Refusal::NotPayable => Fault::failed_precondition("ORDER_NOT_PAYABLE", "the order has ended"),
        Refusal::AlreadyPaid => Fault::failed_precondition("ALREADY_PAID", "the order was paid"),
        Refusal::PaymentInProgress => {
            Fault::failed_precondition("PAYMENT_IN_PROGRESS", "a payment of this order has begun").retry_after(SOON)
        }
        // Of the provider's answers alone.
        Refusal::NoSuchPayment | Refusal::Contradiction => Fault::internal(),
    }
}
