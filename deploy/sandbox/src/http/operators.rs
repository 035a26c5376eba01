//! What Stripe doesn't have: the ledger as it is, its sums, and the switches. For operators and tests, so without a key.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde_json::json;
use shared::clock;

use super::{
    Context,
    answer::{self, Body},
    connection::Cut,
    routes::{Asked, Failure},
};
use crate::{
    faults::Switch,
    ledger::{Ledger, LedgerError},
    stripe::{Form, Problem},
};

/// Movements that are read at once.
const PAGE: usize = 1000;

/// `GET /healthz`: 200 as long as the ledger is written.
pub(super) fn healthz(context: &Context) -> Response<Body> {
    match context.ledger.is_open() {
        true => answer::respond(200, "text/plain", "serving\n"),
        false => answer::respond(503, "text/plain", "the ledger isn't written any more\n"),
    }
}

/// `GET /sandbox/ledger`: a line of JSON a movement, in order; `order_id`, `after` and `limit` narrow it. Without a limit it is
/// all that there was when it was asked for, told page by page, so that no reader is too slow and no ledger too large.
pub(super) async fn ledger(context: &Context, asked: &Asked) -> Result<Response<Body>, Failure> {
    asked.query.only(&["order_id", "after", "limit"])?;
    let reading = Reading {
        ledger: context.ledger.clone(),
        order_id: asked.query.get("order_id").map(ToOwned::to_owned),
        after: number(&asked.query, "after")?.unwrap_or(0),
        left: number(&asked.query, "limit")?.unwrap_or(u64::MAX),
        last: context.ledger.last_movement().await?,
    };
    let lines = StreamBody::new(stream::unfold(reading, Reading::next));
    let mut response = Response::new(lines.boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

/// How far a reader of the ledger has come.
struct Reading {
    ledger: Ledger,
    order_id: Option<String>,
    after: u64,
    left: u64,
    last: u64,
}

impl Reading {
    async fn next(mut self) -> Option<(Result<Frame<Bytes>, Cut>, Self)> {
        let limit = usize::try_from(self.left).unwrap_or(PAGE).min(PAGE);
        if limit == 0 || self.after >= self.last {
            return None;
        }
        let page = match self.ledger.movements(self.after, limit, self.order_id.clone()).await {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "the ledger's lines end early");
                return Some((Err(Cut), self));
            }
        };
        let mut lines = String::new();
        for movement in page.iter().filter(|movement| movement.seq <= self.last) {
            // A record of strings and numbers is always JSON.
            lines.push_str(&json!(movement).to_string());
            lines.push('\n');
        }
        self.left -= page.len() as u64;
        self.after = if page.len() < limit { self.last } else { page.last().map_or(self.last, |last| last.seq) };
        Some((Ok(Frame::data(lines.into())), self))
    }
}

/// `GET /sandbox/totals`: by currency, how many charges and refunds, and how much they moved, in the minor unit.
pub(super) async fn totals(context: &Context) -> Result<Response<Body>, Failure> {
    let totals: BTreeMap<_, _> = context.ledger.totals().await?.into_iter().collect();
    // Written at once, for a sum may be more than a `Value` holds.
    let text = serde_json::to_vec(&totals).map_err(LedgerError::from)?;
    Ok(answer::respond(200, "application/json", text))
}

/// `POST /sandbox/faults`: turns a switch on.
pub(super) fn add_fault(context: &Context, asked: &Asked) -> Result<Response<Body>, Failure> {
    let switch = serde_json::from_slice(&asked.body).map_err(|error| error.to_string());
    let switch = switch.and_then(|request| Switch::new(request, clock::now()));
    let switch = switch.map_err(|problem| Problem::invalid("fault", problem))?;
    tracing::info!(?switch, "a fault is switched on");
    context.faults.add(switch.clone());
    Ok(answer::json(&json!(switch)))
}

/// `GET /sandbox/faults`: the switches that are on.
pub(super) fn faults(context: &Context) -> Response<Body> {
    answer::json(&json!({ "faults": context.faults.list(clock::now()) }))
}

/// `DELETE /sandbox/faults`: turns all of them off.
pub(super) fn clear_faults(context: &Context) -> Response<Body> {
    context.faults.clear();
    faults(context)
}

fn number(query: &Form, name: &'static str) -> Result<Option<u64>, Problem> {
    let number = query.get(name).map(str::parse).transpose();
    number.map_err(|_| Problem::invalid(name, "This value must be a whole number from 0."))
}
