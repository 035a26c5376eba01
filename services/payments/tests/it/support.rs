//! A provider of one's own, and somebody who asks it for money.

use std::{net::SocketAddr, time::Duration};

use local::{ports::Port, ready::Readiness, wait};
use payments::provider::{
    BreakerConfig, Call, Charge, Outcome, Provider as _, ProviderConfig, ProviderMetrics, Refund, Refunded, Stripe,
    Trouble,
};
use serde_json::Value;
use shared::{
    config::{Secret, TelemetryConfig},
    money::{Currency, Money},
    ops::Metrics,
    telemetry::TraceContext,
};
use tempfile::TempDir;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long anything awaited may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);
pub(crate) const VISA: &str = "pm_card_visa";

/// A sandbox and a client of it.
pub(crate) struct World {
    pub(crate) stripe: Stripe,
    pub(crate) metrics: Metrics,
    address: SocketAddr,
    http: reqwest::Client,
    slow: &'static str,
    stop: CancellationToken,
    serving: JoinSet<()>,
    _port: Port,
    folder: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}, "1h").await
    }

    /// With a client that is treated so, and a sandbox whose slow charges take this long.
    pub(crate) async fn with(change: impl FnOnce(&mut ProviderConfig), slow: &'static str) -> Self {
        let port = Port::free().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
        let metrics = Metrics::new();
        let mut world = Self {
            stripe: stripe(address, change, &metrics),
            metrics,
            address,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            slow,
            stop: CancellationToken::new(),
            serving: JoinSet::new(),
            _port: port,
            folder: TempDir::new().unwrap(),
        };
        world.come_back().await;
        world
    }

    /// The sandbox goes away, its ledger doesn't.
    pub(crate) async fn go_away(&mut self) {
        self.stop.cancel();
        while self.serving.join_next().await.is_some() {}
    }

    /// The sandbox is there again.
    pub(crate) async fn come_back(&mut self) {
        self.stop = CancellationToken::new();
        let config = sandbox::Config {
            address: self.address,
            ledger: self.folder.path().join("ledger"),
            slow: humantime::parse_duration(self.slow).unwrap(),
            telemetry: TelemetryConfig {
                log_filter: "info".to_owned(),
                log_format: None,
                export: None,
                sampler: shared::config::SamplerConfig::DEFAULT,
                span_queue: TelemetryConfig::SPAN_QUEUE,
            },
        };
        let running = sandbox::run(config, self.stop.clone());
        self.serving.spawn(async { running.await.unwrap() });
        let ready = Readiness::Http { addr: self.address, path: "/healthz".to_owned() };
        wait::until("the sandbox", SOON, || ready.probe()).await.unwrap();
    }

    pub(crate) async fn switch(&self, json: Value) {
        let url = format!("http://{}/sandbox/faults", self.address);
        let response = self.http.post(url).body(json.to_string()).send().await.unwrap();
        assert_eq!(response.status(), 200);
    }

    /// How often money moved for an order.
    pub(crate) async fn movements(&self, order_id: Uuid) -> usize {
        let url = format!("http://{}/sandbox/ledger?order_id={order_id}", self.address);
        self.http.get(url).send().await.unwrap().text().await.unwrap().lines().count()
    }

    pub(crate) async fn charge(&self, charge: &Charge) -> Result<Outcome, Trouble> {
        self.stripe.charge(charge, &call(SOON)).await
    }

    /// See [`Provider::void_charge`](payments::provider::Provider::void_charge).
    pub(crate) async fn void(&self, charge: &Charge) -> Result<Option<Outcome>, Trouble> {
        self.stripe.void_charge(charge, &call(SOON)).await
    }

    pub(crate) async fn refund(&self, refund: &Refund) -> Result<Refunded, Trouble> {
        self.stripe.refund(refund, &call(SOON)).await
    }

    /// A charge that has succeeded, and what would give it back.
    pub(crate) async fn charged(&self) -> (Charge, Refund) {
        let charge = charge(VISA);
        let Ok(Outcome::Succeeded { reference }) = self.charge(&charge).await else { panic!("not charged") };
        let refund = Refund {
            key: format!("refund-{}", charge.payment_id),
            order_id: charge.order_id,
            payment_id: charge.payment_id,
            charge: reference,
            amount: charge.amount,
        };
        (charge, refund)
    }
}

/// A client of what listens there, in more of a hurry than usual.
pub(crate) fn stripe(address: SocketAddr, change: impl FnOnce(&mut ProviderConfig), metrics: &Metrics) -> Stripe {
    let mut config = ProviderConfig::new(format!("http://{address}").parse().unwrap(), Secret::new("sk_test_1"));
    config.timeout = Duration::from_secs(5);
    config.breaker = BreakerConfig { failures: 100, ..config.breaker };
    change(&mut config);
    Stripe::new(config, ProviderMetrics::new(metrics)).unwrap()
}

/// Somebody who waits this long.
pub(crate) fn call(within: Duration) -> Call {
    Call { deadline: Instant::now() + within, trace: TraceContext::root() }
}

/// A new charge of USD 299.00.
pub(crate) fn charge(method: &str) -> Charge {
    let payment_id = Uuid::now_v7();
    Charge {
        key: format!("charge-{payment_id}"),
        order_id: Uuid::now_v7(),
        payment_id,
        amount: Money::new(Currency::USD, 29900),
        method: method.to_owned(),
    }
}

pub(crate) fn declined(code: &str) -> Outcome {
    Outcome::Declined { code: code.to_owned() }
}
