//! The edge, as a web page meets it: by somebody else's gRPC-Web client.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use local::tools::Tools;
use serde_json::{Value, json};
use stories::{SOON, World};
use tokio::{process::Command, time::timeout};

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/browser/client.mjs");

#[tokio::test]
async fn a_page_orders_pays_and_watches_with_a_grpc_web_client_from_npm() -> Result<()> {
    let tools = Tools::from_env()?;
    let (node, library) = (tools.node().await?, tools.grpc_web().await?);
    let world = World::with(|stack| Ok(stack.gateway())).await?;
    let descriptors = world.stack().dir().join("descriptors.binpb");
    std::fs::write(&descriptors, contracts::DESCRIPTORS)?;
    let token = world.stack().signer().token("bob", &[])?;

    // What is read from standard input finds its libraries from the working directory.
    let mut page = Command::new(node);
    page.args(["--input-type=module", "-", &world.gateway()?.url(), &token]).arg(&descriptors).current_dir(library);
    page.stdin(std::fs::File::open(CLIENT)?).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = timeout(SOON, page.output()).await.context("the page never ends")??;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let told: Vec<Value> =
        serde_json::Deserializer::from_slice(&output.stdout).into_iter().collect::<Result<_, _>>()?;
    assert_eq!(told.first().map(|first| &first["ticket"]), Some(&json!("Concert")), "{told:#?}");
    let statuses: Vec<_> = told.iter().filter_map(|step| step["status"].as_i64()).collect();
    assert!(statuses.is_sorted() && statuses.ends_with(&[2, 3]), "awaiting payment, then completed: {told:#?}");
    assert!(told.contains(&json!({"paid": "29900"})), "{told:#?}");
    assert_eq!(told.last(), Some(&json!({"refused": "Unauthenticated", "reason": "TOKEN_MISSING"})));
    world.end().await
}
