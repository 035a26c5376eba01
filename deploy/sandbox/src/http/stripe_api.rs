//! Stripe's endpoints: the form judged, the switches asked, the ledger told.

use http::Response;
use serde_json::Value;
use shared::clock;

use super::{
    Context,
    answer::{self, Body},
    routes::{Asked, Failure},
    tap::Trick,
};
use crate::{
    faults::{Fault, Operation},
    ledger::{Answer, Idempotency, Instruction, Request},
    stripe::{self, ChargeRequest, Form, Metadata, Problem, RefundRequest, Term},
};

/// Stripe's bound.
const KEY_LENGTH: usize = 255;
/// What a search shows, unless it asks for less: Stripe's bounds.
const SEARCH_LIMIT: usize = 10;
const SEARCH_MAX: usize = 100;

/// `POST /v1/payment_intents`.
pub(super) async fn charge(context: &Context, trick: &Trick, asked: &Asked) -> Result<Response<Body>, Failure> {
    let form = Form::parse(&asked.body);
    let idempotency = idempotency(asked, &form)?;
    let request = ChargeRequest::parse(&form)?;
    let fault = match context.faults.is_empty() {
        true => None,
        false => context.faults.take(Operation::Charge, order_id(&request.metadata), clock::now()),
    };
    execute(context, trick, fault, Request::Charge(request), idempotency).await
}

/// `POST /v1/refunds`.
pub(super) async fn refund(context: &Context, trick: &Trick, asked: &Asked) -> Result<Response<Body>, Failure> {
    let form = Form::parse(&asked.body);
    let idempotency = idempotency(asked, &form)?;
    let request = RefundRequest::parse(&form)?;
    let fault = match context.faults.is_empty() {
        true => None,
        false => {
            // A refund that names no order is about its charge's.
            let intent = context.ledger.intent(request.intent.clone()).await?;
            let of_charge = intent.as_ref().and_then(|intent| order_id(&intent.metadata));
            let order_id = order_id(&request.metadata).or(of_charge);
            context.faults.take(Operation::Refund, order_id, clock::now())
        }
    };
    execute(context, trick, fault, Request::Refund(request), idempotency).await
}

async fn execute(
    context: &Context,
    trick: &Trick,
    fault: Option<Fault>,
    request: Request,
    idempotency: Option<Idempotency>,
) -> Result<Response<Body>, Failure> {
    match fault {
        Some(Fault::Error500) => return Err(Problem::internal().into()),
        Some(Fault::RateLimited) => return Err(Problem::rate_limited().into()),
        Some(Fault::RefuseRefund) => return Err(Problem::insufficient_balance().into()),
        _ => {}
    }
    let instruction = Instruction { request, idempotency, answer_500: fault == Some(Fault::ExecuteThen500) };
    // Slow ones aren't waited for at the end: they are on disk, and go on after it.
    let answer = tokio::select! {
        answer = context.ledger.execute(instruction) => answer?,
        () = too_late(context) => return Err(Failure::Cut),
    };
    match fault {
        Some(Fault::ChargeThenHang) => {
            context.stop.cancelled().await;
            return Err(Failure::Cut);
        }
        Some(Fault::AnswerTwice) => trick.twice(),
        Some(Fault::DropMidAnswer) => trick.cut(),
        _ => {}
    }
    Ok(answer::stripe(answer))
}

/// Some time after the end has begun: whatever was in the queue has been answered by then.
async fn too_late(context: &Context) {
    context.stop.cancelled().await;
    tokio::time::sleep(super::DRAIN / 2).await;
}

/// `GET /v1/payment_intents/{id}`.
pub(super) async fn intent(context: &Context, id: &str) -> Result<Response<Body>, Failure> {
    let found = context.ledger.intent(id.to_owned()).await?;
    let intent = found.ok_or_else(|| Problem::not_found("payment_intent", id, "intent"))?;
    Ok(object(&stripe::intent_object(&intent)))
}

/// `GET /v1/payment_intents/search`.
pub(super) async fn search(context: &Context, asked: &Asked) -> Result<Response<Body>, Failure> {
    asked.query.only(&["query", "limit"])?;
    let terms = Term::parse_all(asked.query.required("query")?)?;
    let limit = match asked.query.get("limit") {
        None => SEARCH_LIMIT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=SEARCH_MAX).contains(limit))
            .ok_or_else(|| Problem::invalid("limit", "This value must be from 1 to 100."))?,
    };
    let (found, has_more) = context.ledger.search(terms, limit).await?;
    let data = found.iter().map(stripe::intent_object).collect();
    Ok(object(&stripe::search_result("/v1/payment_intents/search", data, has_more)))
}

/// `GET /v1/refunds/{id}`.
pub(super) async fn one_refund(context: &Context, id: &str) -> Result<Response<Body>, Failure> {
    let found = context.ledger.refund(id.to_owned()).await?;
    let refund = found.ok_or_else(|| Problem::not_found("refund", id, "id"))?;
    Ok(object(&stripe::refund_object(&refund)))
}

/// `GET /v1/refunds?payment_intent=…`: all of an intent's, whatever the limit.
pub(super) async fn refunds(context: &Context, asked: &Asked) -> Result<Response<Body>, Failure> {
    asked.query.only(&["payment_intent", "limit"])?;
    let intent = asked.query.required("payment_intent")?;
    if context.ledger.intent(intent.to_owned()).await?.is_none() {
        return Err(Problem::not_found("payment_intent", intent, "payment_intent").into());
    }
    let found = context.ledger.refunds_of(intent.to_owned()).await?;
    Ok(object(&stripe::list("/v1/refunds", found.iter().map(stripe::refund_object).collect())))
}

fn idempotency(asked: &Asked, form: &Form) -> Result<Option<Idempotency>, Problem> {
    let Some(key) = asked.headers.get("idempotency-key") else { return Ok(None) };
    match key.to_str() {
        Ok(key) if (1..=KEY_LENGTH).contains(&key.len()) => Ok(Some(Idempotency::new(key, &asked.path, form))),
        _ => Err(Problem::invalid("idempotency_key", "An idempotency key has 1 to 255 characters of ASCII.")),
    }
}

fn order_id(metadata: &Metadata) -> Option<&str> {
    metadata.get("order_id").map(String::as_str)
}

fn object(object: &Value) -> Response<Body> {
    answer::stripe(Answer::object(object))
}
