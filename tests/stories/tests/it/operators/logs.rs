//! What services log: facts for machines, a line each, and nobody's secrets.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, ensure};
use contracts::orders::v1::{ListOrdersRequest, OrderStatus, order_service_client::OrderServiceClient};
use local::wait;
use serde_json::Value;
use stories::{Refused, SERVICES, SOON, World};
use tonic::transport::Endpoint;

/// What occurs nowhere else than in what these people send.
const SELLER: &str = "sieglinde-who-sells";
const BUYER: &str = "balthasar-who-buys";
const TITLE: &str = "A secret concert";
const BAD_TITLE: &str = "A concert\0 that Postgres can't hold";

#[tokio::test]
async fn every_line_is_a_fact_for_machines_and_tells_nobodys_secrets() -> Result<()> {
    // Given services that log more than usual.
    let filter = "info,shared=debug,tickets=debug,orders=debug,payments=debug,expiration=debug";
    let world = World::with(|stack| Ok(stack.env_for_all("RUST_LOG", filter))).await?;

    // When people do what goes well, and what doesn't.
    let (seller, buyer) = (world.user(SELLER)?, world.user(BUYER)?);
    let ticket = seller.lists(TITLE, 29900, 5).await?;
    let order = buyer.places(&ticket, 1).await?;
    buyer.awaits_order(&order.id, OrderStatus::AwaitingPayment).await?;
    buyer.pays(&order.id, "pm_card_chargeDeclined").await?;
    buyer.pays(&order.id, "pm_card_visa").await?;
    buyer.awaits_order(&order.id, OrderStatus::Completed).await?;
    Refused::of(buyer.pays(&order.id, "pm_card_visa").await)?;
    Refused::of(seller.lists(BAD_TITLE, 100, 1).await)?;
    let address = format!("http://{}", world.replica("orders", 0)?.grpc());
    let mut orders = OrderServiceClient::new(Endpoint::from_shared(address)?.connect_lazy());
    let mut forged = tonic::Request::new(ListOrdersRequest::default());
    forged.metadata_mut().insert("authorization", "Bearer forged.by.nobody".parse()?);
    ensure!(orders.list_orders(forged).await.is_err(), "a forged token is believed");
    // One that the database cuts off, which is told.
    let session = stories::delay::superuser(&world).await?;
    let (_, database) = world.replica("orders", 0)?.database_url().rsplit_once('/').context("a database")?;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    session.execute(end, &[&database]).await?;
    wait::until("orders to write again", SOON, || async { Ok(buyer.places(&ticket, 1).await?) }).await?;
    for service in world.stack().services() {
        service.process().terminate().await?;
    }

    // Then each line is an object with its time, its level, where it is from and what it says, and names none of that.
    let secret = [SELLER, BUYER, TITLE, "concert", "forged.by.nobody", "eyJ", local::sandbox::SECRET_KEY];
    for service in SERVICES {
        let log = fs::read_to_string(world.replica(service, 0)?.process().log())?;
        let mut said = BTreeSet::new();
        for line in log.lines() {
            let fact: Value = serde_json::from_str(line).with_context(|| format!("{service}: {line}"))?;
            for field in ["timestamp", "level", "target", "message"] {
                ensure!(fact[field].as_str().is_some_and(|text| !text.is_empty()), "{service}: no {field} in {line}");
            }
            let told = secret.iter().find(|secret| line.contains(**secret));
            ensure!(told.is_none(), "{service} tells {told:?}: {line}");
            said.insert(fact["message"].as_str().unwrap_or_default().to_owned());
        }
        ensure!(said.contains("serving") && said.contains("ended"), "{service} says {said:?}");
    }
    world.end().await
}
