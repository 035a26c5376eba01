//! The provider's ledger, as the sandbox tells it. In: its base URL. Out: every movement, beside the order that it is for.

use std::borrow::Cow;

use anyhow::{Context, Result};
use reqwest::Client;
use serde::Deserialize;
use uuid::Uuid;

use super::{CONNECT, LIMIT};
use crate::{
    About, Rule, Violation,
    case::{Currency, Kind, Movement, Print, Seen},
};

/// A line of the ledger, as far as it is of interest.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    payment_intent: Cow<'a, str>,
    amount: i64,
    #[serde(borrow)]
    currency: Cow<'a, str>,
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
}

/// What payments says that money is for. Anybody could have moved some for something else.
#[derive(Default, Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    order_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    payment_id: Option<Cow<'a, str>>,
}

pub(super) async fn read(base: &str, since: Uuid, seen: &mut Seen) -> Result<()> {
    let client = Client::builder().no_proxy().connect_timeout(CONNECT).timeout(LIMIT).build()?;
    let mut answer = client.get(format!("{base}/sandbox/ledger")).send().await?.error_for_status()?;
    let mut left = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        left.extend_from_slice(&chunk);
        let whole = left.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in left[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            take(line, since, seen).with_context(|| String::from_utf8_lossy(line).into_owned())?;
        }
        left.drain(..whole);
    }
    anyhow::ensure!(left.is_empty(), "its last line is not whole");
    Ok(())
}

fn take(line: &[u8], since: Uuid, seen: &mut Seen) -> Result<()> {
    let line: Line<'_> = serde_json::from_slice(line)?;
    let id = |text: &Option<Cow<'_, str>>| text.as_ref().and_then(|text| Uuid::try_parse(text).ok());
    let movement = Movement {
        kind: match &*line.kind {
            "charge" => Kind::Charge,
            "refund" => Kind::Refund,
            other => anyhow::bail!("{other} is no kind of movement"),
        },
        charge: Print::of(&line.payment_intent),
        payment: id(&line.metadata.payment_id),
        amount: line.amount,
        currency: Currency::of(&line.currency),
    };
    let Some(order) = id(&line.metadata.order_id) else {
        if since.is_nil() {
            let what = format!("money moved for no order, by {}", line.payment_intent);
            seen.violations.push(Violation::new(Rule::NoSuchOrder, About::Service("payments"), what));
        }
        return Ok(());
    };
    if order >= since {
        seen.counts.movements += 1;
        seen.orders.entry(order).or_default().movements.push(movement);
    }
    Ok(())
}
