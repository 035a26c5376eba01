//! What must hold of a whole system once it has come to rest: all that the auditor looks at, that buyers were told the
//! truth, and that every change which a topic tells was a legal one. In: a world, and what its buyers were told. Out: every
//! violation, in a line of its own.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result};
use audit::{Databases, Sources};
use contracts::orders::v1::ListOrdersRequest;

use crate::{World, record};

/// How long something has to be wrong at rest: what a service does on its own afterwards (a cursor, a lease) takes less.
const PATIENCE: Duration = Duration::from_secs(5);

/// Everything that is not as it must be; nothing, if all is well.
///
/// # Errors
///
/// The system can't be asked.
pub async fn audit(world: &World, acknowledged: &BTreeSet<String>) -> Result<Vec<String>> {
    let orders = all_orders(world).await?;
    let mut violations = Vec::new();
    for id in acknowledged.difference(&orders) {
        violations.push(format!("order {id} was acknowledged, and is lost"));
    }
    for id in orders.difference(acknowledged) {
        violations.push(format!("order {id} exists, and nobody was told of it: a request was done twice"));
    }
    let illegal = [
        record::tickets(world).await.err().map(|violation| format!("topic tickets: {violation:#}")),
        record::orders(world).await.err().map(|violation| format!("topic orders: {violation:#}")),
        record::payments(world).await.err().map(|violation| format!("topic payments: {violation:#}")),
    ];
    violations.extend(illegal.into_iter().flatten());
    let report = audit::audit(&sources(world)?, PATIENCE).await?;
    violations.extend(report.violations.iter().map(ToString::to_string));
    Ok(violations)
}

/// Where a world's truths are.
///
/// # Errors
///
/// It has no such service, or no provider.
pub fn sources(world: &World) -> Result<Sources> {
    let database = |service| anyhow::Ok(world.replica(service, 0)?.database_url().to_owned());
    Ok(Sources {
        databases: Databases {
            tickets: database("tickets")?,
            orders: database("orders")?,
            payments: database("payments")?,
            expiration: database("expiration")?,
        },
        kafka_brokers: world.stack().shared_servers().kafka_brokers.clone(),
        topic_prefix: world.stack().topic_prefix(),
        ledger: Some(world.stack().sandbox().context("a world with payments has a sandbox")?.url()),
        since: None,
    })
}

/// All orders that an operator is shown.
async fn all_orders(world: &World) -> Result<BTreeSet<String>> {
    let mut client = world.operator()?.orders;
    let mut orders = BTreeSet::new();
    let mut request = ListOrdersRequest { page_size: Some(200), ..ListOrdersRequest::default() };
    loop {
        let page = client.list_orders(request.clone()).await?.into_inner();
        orders.extend(page.orders.into_iter().map(|order| order.id));
        if page.next_page_token.is_empty() {
            return Ok(orders);
        }
        request.page_token = page.next_page_token;
    }
}
