//! A sandbox of one's own, and what its callers say to it.

use std::{net::SocketAddr, time::Duration};

use local::{
    ports::Port,
    process::{Process, Spec},
    ready::Readiness,
};
use reqwest::{Method, Response};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything awaited may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);
pub(crate) const SECRET: &str = "Bearer sk_test_1";

/// A sandbox's process, with a ledger that lives as long as this.
pub(crate) struct Sandbox {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) http: reqwest::Client,
    _port: Port,
    _folder: TempDir,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) replayed: bool,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) async fn read(response: Response) -> reqwest::Result<Self> {
        let status = response.status().as_u16();
        let replayed = response.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
        Ok(Self { status, replayed, body: response.json().await? })
    }

    pub(crate) fn id(&self) -> &str {
        self.body["id"].as_str().unwrap_or_else(|| panic!("no id in {self:?}"))
    }

    /// Status and the error's code.
    pub(crate) fn fault(&self) -> (u16, &str) {
        (self.status, self.body["error"]["code"].as_str().unwrap_or_default())
    }
}

impl Sandbox {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let port = Port::free().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
        let mut spec = Spec::new("sandbox", env!("CARGO_BIN_EXE_sandbox"), folder.path().join("log"));
        spec.readiness = Readiness::Http { addr: address, path: "/healthz".to_owned() };
        let ledger = folder.path().join("ledger").display().to_string();
        spec.env.extend([("SANDBOX_ADDR".to_owned(), address.to_string()), ("SANDBOX_LEDGER".to_owned(), ledger)]);
        spec.env.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let process = Process::new(spec).unwrap();
        process.start().await.unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { process, address, http, _port: port, _folder: folder }
    }

    /// A charge of USD 10.00 by this method, for the order named like the key.
    pub(crate) async fn charge(&self, key: &str, method: &str) -> reqwest::Result<Reply> {
        self.post("/v1/payment_intents", &charge_form(key, method), Some(key)).await
    }

    pub(crate) async fn refund(&self, key: &str, intent: &str) -> reqwest::Result<Reply> {
        self.post("/v1/refunds", &format!("payment_intent={intent}"), Some(key)).await
    }

    pub(crate) async fn post(&self, path: &str, form: &str, key: Option<&str>) -> reqwest::Result<Reply> {
        let mut request = self.request(Method::POST, path).body(form.to_owned());
        request = request.header("content-type", "application/x-www-form-urlencoded");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        Reply::read(request.send().await?).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        Reply::read(self.request(Method::GET, path).send().await.unwrap()).await.unwrap()
    }

    /// The ledger's movements.
    pub(crate) async fn ledger(&self, query: &str) -> Vec<Value> {
        let response = self.request(Method::GET, &format!("/sandbox/ledger?{query}")).send().await.unwrap();
        let lines = response.text().await.unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) async fn switch(&self, json: Value) {
        let request = self.request(Method::POST, "/sandbox/faults").body(json.to_string());
        let reply = Reply::read(request.send().await.unwrap()).await.unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.address)).header("authorization", SECRET)
    }
}

pub(crate) fn charge_form(order: &str, method: &str) -> String {
    format!(
        "amount=1000&currency=usd&payment_method={method}&confirm=true&automatic_payment_methods[enabled]=true&\
         automatic_payment_methods[allow_redirects]=never&metadata[order_id]={order}&metadata[payment_id]=p-{order}"
    )
}

/// Waits until this holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + SOON;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "waited {SOON:?} for {what}");
        tokio::task::yield_now().await;
    }
}
