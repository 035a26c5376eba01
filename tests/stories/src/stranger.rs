//! Somebody who keeps to no contract. In: a call, sound or not, down to its bytes. Out: how it was refused, by each way in
//! that there is for such a call: straight at its service, or through the gateway in gRPC, gRPC-Web or JSON.

use std::{fmt, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use gateway::api::{Api, Binding, Method};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response,
    header::{CONTENT_TYPE, TE},
};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use prost::Message;
use prost_reflect::DynamicMessage;
use serde_json::Value;
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::{Answer, Refused, SERVICES, World};

/// How long an answer may take: a call that waits for what it hasn't heard of takes 2 s by itself.
const PATIENCE: Duration = Duration::from_secs(30);
/// The bytes before a message: a flag, and a length.
const FRAME: usize = 5;
/// The flag of gRPC-Web's frame of trailers.
const TRAILERS: u8 = 0x80;

/// One call, as it is sent.
#[derive(Clone, Debug)]
pub struct Call {
    /// The RPC's bare name; of a [`Sent::Http`], nothing.
    pub rpc: &'static str,
    /// All headers but the content's type.
    pub headers: Vec<(&'static str, Vec<u8>)>,
    /// What it says.
    pub sent: Sent,
}

/// What a call says.
#[derive(Clone, Debug)]
pub enum Sent {
    /// A message, in JSON's terms: by every way.
    Message(Value),
    /// Bytes where a message should be: by every way but JSON.
    Bytes(Vec<u8>),
    /// Bytes where a framed message should be: by every way but JSON.
    Frame(Vec<u8>),
    /// A request in HTTP: in JSON's way alone.
    Http {
        /// Its verb.
        verb: &'static str,
        /// Its path, and perhaps a query.
        path: String,
        /// Its body.
        body: Vec<u8>,
    },
}

/// A way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// gRPC, straight at the service.
    Service,
    /// gRPC, through the gateway.
    Grpc,
    /// gRPC-Web, through the gateway.
    GrpcWeb,
    /// JSON, through the gateway.
    Json,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Service, Self::Grpc, Self::GrpcWeb, Self::Json];
}

/// Somebody who sends anything anywhere.
pub struct Stranger {
    api: Api,
    gateway: SocketAddr,
    services: Vec<(&'static str, SocketAddr)>,
    /// For gRPC.
    http2: Client<HttpConnector, Full<Bytes>>,
    /// As browsers mostly come where there is no TLS.
    http1: Client<HttpConnector, Full<Bytes>>,
}

impl fmt::Debug for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stranger").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

impl Stranger {
    /// Somebody who knows where everything is.
    ///
    /// # Errors
    ///
    /// The world has no gateway.
    pub fn new(world: &World) -> Result<Self> {
        let services = SERVICES.iter().map(|name| Ok((*name, world.replica(name, 0)?.grpc())));
        Ok(Self {
            api: Api::of_contracts()?,
            gateway: world.gateway()?.addr(),
            services: services.collect::<Result<_>>()?,
            http2: Client::builder(TokioExecutor::new()).http2_only(true).build_http(),
            http1: Client::builder(TokioExecutor::new()).build_http(),
        })
    }

    /// Sends it this way. The outer `None`: there is no such way for it. The inner one: it wasn't refused.
    ///
    /// # Errors
    ///
    /// There is no answer, or none that a client could make sense of.
    pub async fn send(&self, call: &Call, way: Way) -> Result<Option<Option<Refused>>> {
        let Some(request) = self.request(call, way)? else { return Ok(None) };
        let client = if matches!(way, Way::Service | Way::Grpc) { &self.http2 } else { &self.http1 };
        let answered = async {
            let (head, body) = client.request(request).await?.into_parts();
            let body = body.collect().await?;
            let trailers = body.trailers().cloned();
            anyhow::Ok((Response::from_parts(head, body.to_bytes()), trailers))
        };
        let (response, trailers) = match timeout(PATIENCE, answered).await.context("no answer")? {
            Ok(answer) => answer,
            Err(error) => return reset(&error).map_or(Err(error), |refused| Ok(Some(Some(refused)))),
        };
        let status = match way {
            Way::Json => return in_json(response).map(Some),
            Way::Service | Way::Grpc => trailers.as_ref().and_then(Status::from_header_map),
            // Before it is known what it is, it is refused as HTTP.
            Way::GrpcWeb if response.status() != 200 => return in_json(response).map(Some),
            Way::GrpcWeb => trailers_in(response.body()).as_ref().and_then(Status::from_header_map),
        };
        let status = status.or_else(|| Status::from_header_map(response.headers()));
        let status = status.with_context(|| format!("no status of gRPC: {response:?}"))?;
        Ok(Some(if status.code() == Code::Ok { None } else { Some(Refused::of(Err::<(), _>(status))?) }))
    }

    fn request(&self, call: &Call, way: Way) -> Result<Option<Request<Full<Bytes>>>> {
        let request = if way == Way::Json { self.in_json(call)? } else { self.in_grpc(call, way)? };
        Ok(request.map(|mut request| {
            for (name, value) in &call.headers {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    request.headers_mut().append(HeaderName::from_static(name), value);
                }
            }
            request
        }))
    }

    fn in_json(&self, call: &Call) -> Result<Option<Request<Full<Bytes>>>> {
        let (verb, path, body) = match &call.sent {
            Sent::Http { verb, path, body } => (*verb, path.clone(), body.clone()),
            Sent::Message(message) => match self.method(call.rpc)?.1.bindings.first().and_then(|it| bound(it, message))
            {
                Some(bound) => bound,
                None => return Ok(None),
            },
            Sent::Bytes(_) | Sent::Frame(_) => return Ok(None),
        };
        let request = Request::builder().method(verb).uri(format!("http://{}{path}", self.gateway));
        Ok(Some(request.header(CONTENT_TYPE, "application/json").body(Full::from(body))?))
    }

    fn in_grpc(&self, call: &Call, way: Way) -> Result<Option<Request<Full<Bytes>>>> {
        if matches!(call.sent, Sent::Http { .. }) {
            return Ok(None);
        }
        let (room, method) = self.method(call.rpc)?;
        let body = match &call.sent {
            Sent::Message(message) => {
                framed(&DynamicMessage::deserialize(method.descriptor.input(), message)?.encode_to_vec())?
            }
            Sent::Bytes(bytes) => framed(bytes)?,
            Sent::Frame(bytes) => bytes.clone(),
            Sent::Http { .. } => return Ok(None),
        };
        let to = if way == Way::Service { self.service(room)? } else { self.gateway };
        let kind = if way == Way::GrpcWeb { "application/grpc-web+proto" } else { "application/grpc" };
        let request = Request::builder().method("POST").uri(format!("http://{to}{}", method.path));
        Ok(Some(request.header(CONTENT_TYPE, kind).header(TE, "trailers").body(Full::from(body))?))
    }

    fn method(&self, rpc: &str) -> Result<(&str, &Method)> {
        let mut all = self.api.services.iter().flat_map(|of| of.methods.iter().map(move |it| (of.room.as_str(), it)));
        all.find(|(_, method)| method.descriptor.name() == rpc).with_context(|| format!("there is no {rpc}"))
    }

    fn service(&self, room: &str) -> Result<SocketAddr> {
        let found = self.services.iter().find(|(name, _)| *name == room);
        found.map(|(_, addr)| *addr).with_context(|| format!("there is no {room}"))
    }
}

/// A message behind its flag and length.
///
/// # Errors
///
/// It is longer than a length can say.
pub fn framed(message: &[u8]) -> Result<Vec<u8>> {
    Ok([&[0][..], &u32::try_from(message.len())?.to_be_bytes(), message].concat())
}

/// A message as HTTP has it: its verb, path and body. None if the path would be another's, for a field that is a segment
/// of it is empty.
fn bound(binding: &Binding, message: &Value) -> Option<(&'static str, String, Vec<u8>)> {
    let mut rest = message.as_object()?.clone();
    let mut path = binding.template.clone();
    for variable in binding.variables() {
        let value = rest.remove(variable)?;
        let value = value.as_str().filter(|value| !value.is_empty())?;
        path = path.replace(&format!("{{{variable}}}"), &escaped(value));
    }
    if binding.body {
        return Some((binding.verb, path, Value::from(rest).to_string().into_bytes()));
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pairs: Vec<_> = rest.iter().map(|(name, value)| format!("{name}={}", escaped(&text(value)))).collect();
    let query = if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) };
    Some((binding.verb, path + &query, Vec::new()))
}

/// Percent-encoded. A form's own spelling but for spaces, which in paths are no plus.
fn escaped(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// What a stream that was reset for what came on it is to a client of gRPC, which is told no reason.
fn reset(error: &anyhow::Error) -> Option<Refused> {
    let reset = error.chain().find_map(|cause| cause.downcast_ref::<h2::Error>())?;
    let told = reset.is_remote() && !reset.is_go_away();
    (told && reset.reason() == Some(h2::Reason::INTERNAL_ERROR)).then(|| Refused::new(Code::Internal, ""))
}

/// What comes last in the body of an answer in gRPC-Web.
fn trailers_in(mut body: &[u8]) -> Option<HeaderMap> {
    loop {
        let (frame, rest) = body.split_at_checked(FRAME)?;
        let (flag, length) = frame.split_first()?;
        let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
        let (content, rest) = rest.split_at_checked(length)?;
        if flag & TRAILERS != 0 {
            let lines = std::str::from_utf8(content).ok()?.lines().filter_map(|line| line.split_once(':'));
            return lines.map(|(name, value)| Some((name.parse().ok()?, value.trim().parse().ok()?))).collect();
        }
        body = rest;
    }
}

/// How a request in JSON was refused. That its status in HTTP says the same is looked at here.
fn in_json(response: Response<Bytes>) -> Result<Option<Refused>> {
    let (head, body) = response.into_parts();
    let answer =
        Answer { status: head.status.as_u16(), headers: head.headers, text: String::from_utf8(body.to_vec())? };
    if answer.status < 400 {
        return Ok(None);
    }
    let (status, code, reason) = answer.refusal()?;
    let refused = Refused {
        code: Code::from(i32::try_from(code)?),
        retry: answer.detail("google.rpc.RetryInfo").is_ok(),
        fields: answer.violations(),
        reason,
    };
    let expected = status_of(&refused);
    ensure!(status == expected, "{refused:?} is {expected} in HTTP: {answer:?}");
    Ok(Some(refused))
}

/// What a refusal is in HTTP: by its code, but for a few that HTTP has a better word for.
fn status_of(refused: &Refused) -> u16 {
    match (refused.code, refused.reason.as_str()) {
        (_, "MESSAGE_TOO_LARGE") => 413,
        (_, "HEADERS_TOO_LARGE") => 431,
        (_, "REQUEST_TIMEOUT") => 408,
        (Code::Unimplemented, "UNKNOWN_METHOD") => 405,
        (Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange, _) => 400,
        (Code::Unauthenticated, _) => 401,
        (Code::PermissionDenied, _) => 403,
        (Code::NotFound, _) => 404,
        (Code::AlreadyExists | Code::Aborted, _) => 409,
        (Code::ResourceExhausted, _) => 429,
        (Code::Unimplemented, _) => 501,
        (Code::Unavailable, _) => 503,
        (Code::DeadlineExceeded, _) => 504,
        _ => 500,
    }
}

/// Paths of the gateway that there aren't.
pub const UNKNOWN_PATHS: &[&str] = &[
    "/",
    "/api",
    "/api/",
    "/api/ticket",
    "/api/tickets/1/2",
    "/api/orders/1:pay",
    "//api/tickets",
    "/API/tickets",
    "/api/tickets;a=b",
    "/api/../etc/passwd",
    "/.env",
    "/wp-login.php",
    "/healthz",
    "/ready",
    "/metrics",
    "/readyz",
    "/stats",
    "/ticketing.tickets.v1.TicketService/GetTicket",
    "/ticketing.tickets.v1.TicketService",
];

/// Verbs that a path of the gateway doesn't have, and those that it has.
pub const WRONG_VERBS: &[(&str, &str, &str)] = &[
    ("DELETE", "/api/tickets", "GET, POST"),
    ("PUT", "/api/orders", "GET, POST"),
    ("POST", "/api/tickets/1", "GET, PATCH, PUT"),
    ("PATCH", "/api/orders/1", "DELETE, GET"),
    ("GET", "/api/orders/1:cancel", "POST"),
    ("DELETE", "/api/tickets/1:withdraw", "POST"),
    ("POST", "/api/orders/1:watch", "GET"),
    ("OPTIONS", "/api/tickets", "GET, POST"),
];
