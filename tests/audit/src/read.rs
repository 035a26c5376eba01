//! Reading everything there is. In: the sources. Out: what was seen. Nothing here judges; it only refuses what can't be
//! read.

mod databases;
mod head;
mod ledger;
mod topics;

use std::time::Duration;

use anyhow::{Context, Result};
use uuid::Uuid;

use crate::{Sources, case::Seen};

/// How long one source may take, however much is in it.
const LIMIT: Duration = Duration::from_secs(300);
/// How long a source may take to answer at all.
const CONNECT: Duration = Duration::from_secs(5);

/// All of it, once. The topics are read meanwhile: what is behind them or ahead of them is told by its version.
pub(crate) async fn everything(sources: &Sources) -> Result<Seen> {
    // Ids are ordered as their column is, and none comes before this one.
    let since = sources.since.unwrap_or(Uuid::nil());
    let mut seen = Seen { since, ledger: sources.ledger.is_some(), ..Seen::default() };
    let topics = topics::read(sources);
    let rows = async {
        let databases = &sources.databases;
        // Whoever follows before what it follows, so that it never seems to be ahead.
        databases::expiration(&databases.expiration, since, &mut seen).await.context("expiration's database")?;
        databases::payments(&databases.payments, since, &mut seen).await.context("payments' database")?;
        databases::orders(&databases.orders, since, &mut seen).await.context("orders' database")?;
        databases::tickets(&databases.tickets, since, &mut seen).await.context("tickets' database")?;
        if let Some(base) = &sources.ledger {
            ledger::read(base, since, &mut seen).await.context("the provider's ledger")?;
        }
        anyhow::Ok(())
    };
    let ((topics, events, wrong), ()) = tokio::try_join!(topics, rows)?;
    seen.topics = topics;
    seen.counts.events = events;
    seen.violations.extend(wrong);
    Ok(seen)
}
