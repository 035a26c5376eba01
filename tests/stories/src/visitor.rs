//! Somebody who knows HTTP and JSON alone, and what they are answered.

use anyhow::{Context, Result, ensure};
use local::wait;
use reqwest::{
    Client, Method, RequestBuilder, Response,
    header::{CONTENT_TYPE, HeaderMap},
};
use serde_json::Value;

use crate::SOON;

/// Somebody who calls an HTTP server, perhaps with a token.
#[derive(Clone)]
pub struct Visitor {
    client: Client,
    url: String,
    token: Option<String>,
}

/// What a visitor was answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

impl Visitor {
    /// Somebody without a token, who calls this server.
    ///
    /// # Errors
    ///
    /// No HTTP client can be made on this machine.
    pub fn new(url: String) -> Result<Self> {
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { client, url, token: None })
    }

    /// The same, with this token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// Begins a request. `path` may have a query.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// GET.
    ///
    /// # Errors
    ///
    /// There is no answer.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        Answer::of(self.request(Method::GET, path)).await
    }

    /// POST of this body, as JSON.
    ///
    /// # Errors
    ///
    /// There is no answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.call(Method::POST, path, body).await
    }

    /// Any method, with this body as JSON.
    ///
    /// # Errors
    ///
    /// There is no answer.
    pub async fn call(&self, method: Method, path: &str, body: &Value) -> Result<Answer> {
        Answer::of(self.request(method, path).json(body)).await
    }

    /// Waits until what is at this path satisfies `is`, and gives it.
    ///
    /// # Errors
    ///
    /// It doesn't in time.
    pub async fn awaits(&self, what: &str, path: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
        wait::until(what, SOON, async || {
            let seen = self.get(path).await?.ok()?;
            ensure!(is(&seen), "it is {seen}");
            Ok(seen)
        })
        .await
    }
}

impl Answer {
    /// Sends a request, and reads its whole answer.
    ///
    /// # Errors
    ///
    /// There is none.
    pub async fn of(request: RequestBuilder) -> Result<Self> {
        Self::read(request.send().await?).await
    }

    /// Reads the whole of an answer that has begun.
    ///
    /// # Errors
    ///
    /// It breaks off.
    pub async fn read(response: Response) -> Result<Self> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Self { status, headers, text: response.text().await? })
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body, of an answer with status 200.
    ///
    /// # Errors
    ///
    /// It has another status, or is no JSON.
    pub fn ok(&self) -> Result<Value> {
        ensure!(self.status == 200, "{self:?}");
        self.json()
    }

    /// How a request was refused: the status, gRPC's code, and `ErrorInfo`'s reason.
    ///
    /// # Errors
    ///
    /// It wasn't, or not as `google.rpc.Status` with the details that every error has.
    pub fn refusal(&self) -> Result<(u16, i64, String)> {
        ensure!(self.status >= 400, "this was not refused: {self:?}");
        let body = self.json()?;
        let code = body["code"].as_i64().with_context(|| format!("no code: {self:?}"))?;
        ensure!(body["message"].as_str().is_some_and(|text| !text.is_empty()), "no message: {self:?}");
        let info = self.detail("google.rpc.ErrorInfo")?;
        ensure!(info["domain"] == "ticketing", "of another domain: {self:?}");
        Ok((self.status, code, info["reason"].as_str().unwrap_or_default().to_owned()))
    }

    /// The detail of this type.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn detail(&self, message: &str) -> Result<Value> {
        let body = self.json()?;
        let kind = format!("type.googleapis.com/{message}");
        let details = body["details"].as_array().map(Vec::as_slice).unwrap_or_default();
        let found = details.iter().find(|detail| detail["@type"] == kind.as_str());
        found.cloned().with_context(|| format!("no {message}: {self:?}"))
    }

    /// The fields that `BadRequest` names; none, if there is no such detail.
    pub fn violations(&self) -> Vec<String> {
        let Ok(request) = self.detail("google.rpc.BadRequest") else { return Vec::new() };
        let all = request["fieldViolations"].as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().filter_map(|violation| violation["field"].as_str()).map(str::to_owned).collect()
    }

    fn json(&self) -> Result<Value> {
        let kind = self.header(CONTENT_TYPE.as_str()).unwrap_or_default();
        ensure!(kind == "application/json", "not JSON: {self:?}");
        serde_json::from_str(&self.text).with_context(|| format!("not JSON: {self:?}"))
    }
}
