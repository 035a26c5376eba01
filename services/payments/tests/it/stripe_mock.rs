//! Stripe's own stripe-mock knows the API's description, and refuses requests that don't follow it. It keeps nothing, and answers
//! with examples, most of which are about other payments than ours: what the client makes of them is of no interest here.

use std::{net::SocketAddr, time::Duration};

use local::{
    ports::Port,
    process::{Process, Spec},
    tools::Tools,
};
use payments::provider::{Provider as _, Refund, Trouble, stripe::API_VERSION};
use shared::ops::Metrics;
use tempfile::TempDir;

use crate::support::{SOON, VISA, call, charge, stripe};

struct StripeMock {
    address: SocketAddr,
    process: Process,
    _ports: [Port; 2],
    _folder: TempDir,
}

impl StripeMock {
    async fn start() -> Self {
        let program = Tools::from_env().unwrap().stripe_mock().await.unwrap();
        let folder = TempDir::new().unwrap();
        let ports = [Port::free().unwrap(), Port::free().unwrap()];
        let [http, https] = ports.each_ref().map(|port| SocketAddr::from(([127, 0, 0, 1], port.number())));
        // Without an address of its own for HTTPS it would take the sandbox's.
        let spec = Spec::new("stripe-mock", program, folder.path().join("log")).args([
            "-strict-version-check".to_owned(),
            format!("-http-addr={http}"),
            format!("-https-addr={https}"),
        ]);
        let process = Process::new(spec).unwrap();
        process.start().await.unwrap();
        // It has no page for whoever has no key: that it says so shows that it is there.
        let asked = || local::ready::http_status(http, "/v1/charges");
        local::wait::until("stripe-mock", SOON, asked).await.unwrap();
        Self { address: http, process, _ports: ports, _folder: folder }
    }
}

#[tokio::test]
async fn every_request_follows_stripes_description_of_its_api() {
    let mock = StripeMock::start().await;
    let stripe = stripe(mock.address, |config| config.retries = 0, &Metrics::new());
    let charge = charge(VISA);
    let refund = Refund {
        key: "r".to_owned(),
        order_id: charge.order_id,
        payment_id: charge.payment_id,
        charge: "pi_1".to_owned(),
        amount: charge.amount,
    };
    let call = || call(SOON);
    for (what, trouble) in [
        ("charge", stripe.charge(&charge, &call()).await.err()),
        ("void a charge", stripe.void_charge(&charge, &call()).await.err()),
        ("find a charge", stripe.find_charge(&charge, Duration::MAX, &call()).await.err()),
        ("refund", stripe.refund(&refund, &call()).await.err()),
        ("find a refund", stripe.find_refund(&refund, &call()).await.err()),
    ] {
        assert!(!matches!(trouble, Some(Trouble::Broken { .. })), "{what}: {trouble:?}");
    }
    let log = std::fs::read_to_string(mock.process.log()).unwrap();
    for request in [
        "POST /v1/payment_intents\n",
        "GET /v1/payment_intents/search\n",
        // What the search has found is retrieved.
        "GET /v1/payment_intents/pi_",
        "POST /v1/refunds\n",
        "GET /v1/refunds\n",
    ] {
        assert!(log.contains(&format!("Request: {request}")), "{request} in\n{log}");
    }

    // And it does look: this is what a request that doesn't follow it is answered.
    let url = format!("http://{}/v1/refunds", mock.address);
    let unknown = reqwest::Client::new().post(url).bearer_auth("sk_test_1").header("stripe-version", API_VERSION);
    let refused = unknown.body("payment_intent=pi_1&reference=1").send().await.unwrap();
    assert_eq!(refused.status(), 400, "{}", refused.text().await.unwrap_or_default());
}
