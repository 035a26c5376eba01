//! What every call passes on its way, and what every answer looks like.

use std::time::Duration;

use crate::edge_support::{Edge, Key, authorized, awaited, claims, jwks, raw, reason};
use bytes::Bytes;
use engine_tests::counter::v1::{
    CreateCounterRequest, GetCounterRequest, IncrementRequest, ListCountersRequest, WatchCounterRequest,
};
use futures_util::StreamExt as _;
use prost::Message as _;
use tokio::{net::TcpListener, time::Instant};
use tonic::{Code, Request, Status, codec::CompressionEncoding};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_types::StatusExt as _;

const CREATE: &str = "/counter.v1.CounterService/CreateCounter";

/// A server, and a token that it accepts.
async fn edge() -> (Edge, String) {
    let key = Key::ed25519("ed");
    let edge = Edge::start(&[&key]).await;
    (edge, key.sign(&claims("alice")))
}

fn titled(title: &str) -> CreateCounterRequest {
    CreateCounterRequest { title: Some(title.to_owned()), limit: 1, request_id: None }
}

async fn create(edge: &Edge, request: Request<CreateCounterRequest>) -> Result<(), Status> {
    edge.client().await.create_counter(request).await.map(|_| ())
}

#[tokio::test]
async fn a_call_has_the_deadline_that_it_asks_for_but_thirty_seconds_at_most() {
    let (edge, token) = edge().await;
    for (timeout, seconds) in [(None, 30), (Some("10S"), 10), (Some("99999999H"), 30), (Some("1H"), 30)] {
        let mut request = authorized(titled("a counter"), &token);
        if let Some(timeout) = timeout {
            request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
        }
        let before = Instant::now();
        create(&edge, request).await.unwrap();
        let deadline = edge.counters.calls.lock().unwrap().pop().unwrap().deadline;
        // A millisecond is kept for the answer.
        let (least, most) = (Duration::from_millis(seconds * 1000 - 1), Duration::from_secs(seconds));
        assert!(deadline >= before + least && deadline <= Instant::now() + most, "{timeout:?}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_call_whose_deadline_passes_is_answered_then_and_its_handler_dropped() {
    let (edge, token) = edge().await;
    let call = async |timeout: &str| {
        let mut request = authorized(Bytes::from(titled("never").encode_to_vec()), &token);
        request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
        let status = raw(&edge, CREATE, request, None).await.unwrap_err();
        (status.code(), reason(&status))
    };
    let expected = (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned());
    for timeout in ["0n", "0S", "1n", "1m"] {
        assert_eq!(call(timeout).await, expected, "{timeout}");
    }
    assert!(edge.counters.calls.lock().unwrap().is_empty(), "what has no time left doesn't reach the handler");
    for _ in 0..20 {
        assert_eq!(call("50m").await, expected);
    }
    awaited("the handler to be dropped", edge.counters.dropped.cancelled()).await;
    let counted = edge
        .metric(r#"grpc_server_calls_total{rpc="counter.v1.CounterService/CreateCounter",code="DEADLINE_EXCEEDED"}"#);
    assert_eq!(counted.await, 24.0);
    edge.stop().await;
}

#[tokio::test]
async fn a_deadline_that_cant_be_read_is_the_callers_fault() {
    let (edge, token) = edge().await;
    for timeout in ["soon", "5", "S", "100000000S", "-1S"] {
        let mut request = authorized(titled("a counter"), &token);
        request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
        let status = create(&edge, request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_ARGUMENT"), "{timeout}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn what_cant_be_decoded_is_the_callers_fault() {
    let (edge, token) = edge().await;
    for bytes in [
        &b"\xff\xff\xff"[..],                                // no field
        b"\x0a\x05ab",                                       // a length beyond the end
        b"\x0a\x02\xff\xfe",                                 // a title that is no UTF-8
        b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", // a number without an end
    ] {
        let request = authorized(Bytes::copy_from_slice(bytes), &token);
        let status = raw(&edge, CREATE, request, None).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{bytes:?}: {status:?}");
        assert_eq!(reason(&status), "MALFORMED_MESSAGE");
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_message_may_weigh_64_kib_compressed_or_not() {
    let (edge, token) = edge().await;
    let gzip = Some(CompressionEncoding::Gzip);
    // A title has a tag and a length of 1 and 3 bytes before it, the limit 2 bytes after.
    let of_size = |size: usize| Bytes::from(titled(&"x".repeat(size - 6)).encode_to_vec());
    assert_eq!(of_size(64 * 1024).len(), 64 * 1024);
    for (message, compression, expected) in [
        (of_size(64 * 1024), None, "INVALID_ARGUMENT"), // it was read: the title is too long
        (of_size(64 * 1024), gzip, "INVALID_ARGUMENT"),
        (of_size(64 * 1024 + 1), None, "MESSAGE_TOO_LARGE"),
        (of_size(64 * 1024 + 1), gzip, "MESSAGE_TOO_LARGE"),
        (of_size(50_000_000), gzip, "MESSAGE_TOO_LARGE"), // 50 kB on the wire
    ] {
        let size = message.len();
        let status = raw(&edge, CREATE, authorized(message, &token), compression).await.unwrap_err();
        assert_eq!(reason(&status), expected, "{size} bytes, {compression:?}: {status:?}");
        let code = if expected == "MESSAGE_TOO_LARGE" { Code::ResourceExhausted } else { Code::InvalidArgument };
        assert_eq!(status.code(), code);
    }
    edge.stop().await;
}

#[tokio::test]
async fn what_is_open_to_strangers_takes_no_more_than_calls_do() {
    let (edge, _) = edge().await;
    const CHECK: &str = "/grpc.health.v1.Health/Check";
    for (bytes, expected) in [
        (vec![0xff; 3], (Code::InvalidArgument, "MALFORMED_MESSAGE")),
        (vec![0; 64 * 1024 + 1], (Code::ResourceExhausted, "MESSAGE_TOO_LARGE")),
    ] {
        let status = raw(&edge, CHECK, Request::new(Bytes::from(bytes)), None).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), expected);
    }
    edge.stop().await;
}

#[tokio::test]
async fn every_fault_of_a_request_is_in_one_answer() {
    let (edge, token) = edge().await;
    let request = CreateCounterRequest {
        title: Some("tab\there".to_owned()),
        limit: 0,
        request_id: Some("not a UUID".to_owned()),
    };
    let status = create(&edge, authorized(request, &token)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_ARGUMENT"));
    let details = status.get_error_details();
    let fields: Vec<_> =
        details.bad_request().unwrap().field_violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["title", "limit", "request_id"]);
    edge.stop().await;
}

#[tokio::test]
async fn a_refusal_says_why_and_when_to_try_again() {
    let (edge, token) = edge().await;
    let status = create(&edge, authorized(titled("sold out"), &token)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "SOLD_OUT"));
    let details = status.get_error_details();
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_millis(1500)));
    edge.stop().await;
}

#[tokio::test]
async fn a_status_without_a_reason_is_given_one() {
    let (edge, token) = edge().await;
    let request = authorized(IncrementRequest::default(), &token);
    let status = edge.client().await.increment(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "PERMISSION_DENIED"));
    edge.stop().await;
}

#[tokio::test]
async fn a_method_that_isnt_there_is_unimplemented_and_adds_no_series() {
    let (edge, token) = edge().await;
    for path in ["/counter.v1.CounterService/Nothing", "/counter.v1.Nothing/Nothing", "/x/y", "/ticketing/1/2/3"] {
        let request = authorized(Bytes::new(), &token);
        let status = raw(&edge, path, request, None).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unimplemented, "UNKNOWN_METHOD"), "{path}");
    }
    assert_eq!(edge.metric(r#"grpc_server_calls_total{rpc="unknown",code="UNIMPLEMENTED"}"#).await, 4.0);
    let (_, page) = edge.ask("/metrics").await;
    assert!(!page.contains("Nothing"));
    edge.stop().await;
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_no_more() {
    let (edge, token) = edge().await;
    let status = create(&edge, authorized(titled("panic"), &token)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Internal, "INTERNAL"));
    assert!(!status.message().contains("asked"), "what it said stays here: {status:?}");

    // In a stream, half-way.
    let request = authorized(WatchCounterRequest { id: "panic".to_owned() }, &token);
    let mut stream = edge.client().await.watch_counter(request).await.unwrap().into_inner();
    let status = awaited("the stream's end", async {
        loop {
            if let Err(status) = stream.next().await.unwrap() {
                return status;
            }
        }
    });
    let status = status.await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Internal, "INTERNAL"));

    assert_eq!(edge.metric("grpc_server_panics_total").await, 2.0);
    create(&edge, authorized(titled("a counter"), &token)).await.unwrap();
    edge.stop().await;
}

#[tokio::test]
async fn a_stream_outlives_its_callers_timeout_header_and_ends_when_the_server_stops() {
    let (edge, token) = edge().await;
    let mut request = authorized(WatchCounterRequest { id: uuid::Uuid::nil().to_string() }, &token);
    request.metadata_mut().insert("grpc-timeout", "500m".parse().unwrap());
    let mut stream = edge.client().await.watch_counter(request).await.unwrap().into_inner();
    assert!(stream.next().await.unwrap().is_ok());
    // Only its beginning had to be in time.
    let more = tokio::time::timeout(Duration::from_secs(1), stream.next()).await;
    assert!(more.is_err(), "{more:?}");
    edge.shutdown.cancel();
    let status = awaited("the stream's end", stream.next()).await.unwrap().unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "SHUTTING_DOWN"));
    assert!(status.get_error_details().retry_info().is_some());
    edge.stop().await;
}

#[tokio::test]
async fn a_caller_who_goes_away_is_counted_and_the_handler_dropped() {
    let (edge, token) = edge().await;
    let mut client = edge.client().await;
    let mut calls = tokio::task::JoinSet::new();
    calls.spawn(async move { client.create_counter(authorized(titled("never"), &token)).await });
    awaited("the call to begin", edge.counters.begun()).await;
    calls.shutdown().await;
    awaited("the handler to be dropped", edge.counters.dropped.cancelled()).await;
    let rpc = r#"rpc="counter.v1.CounterService/CreateCounter""#;
    awaited("the call to be counted", async {
        while edge.metric(&format!(r#"grpc_server_calls_total{{{rpc},code="CANCELLED"}}"#)).await < 1.0 {}
    })
    .await;
    assert_eq!(edge.metric(&format!("grpc_server_calls_in_flight{{{rpc}}}")).await, 0.0);
    edge.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_lets_calls_end_and_gives_up_on_those_that_dont() {
    let (edge, token) = edge().await;
    let mut client = edge.client().await;
    let mut calls = tokio::task::JoinSet::new();
    calls.spawn(async move { client.create_counter(authorized(titled("never"), &token)).await });
    awaited("the call to begin", edge.counters.begun()).await;
    let began = Instant::now();
    edge.stop().await;
    assert!(began.elapsed() >= crate::edge_support::DRAIN, "it waited for the call");
}

#[tokio::test]
async fn a_list_goes_on_where_its_page_ended() {
    let (edge, token) = edge().await;
    let mut client = edge.client().await;
    let mut seen = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListCountersRequest { page_size: Some(2), page_token };
        let answer = client.list_counters(authorized(request, &token)).await.unwrap().into_inner();
        seen.extend(answer.counters.into_iter().map(|counter| counter.id.parse::<uuid::Uuid>().unwrap().as_u128()));
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, [3, 2, 1]);

    let request = ListCountersRequest { page_size: Some(-1), page_token: "forged".to_owned() };
    let status = client.list_counters(authorized(request, &token)).await.unwrap_err();
    let details = status.get_error_details();
    assert_eq!(details.bad_request().unwrap().field_violations.len(), 2);
    edge.stop().await;
}

#[tokio::test]
async fn health_is_told_alike_to_callers_watchers_and_operators() {
    let key = Key::ed25519("ed");
    let edge = Edge::start_with(Some(&jwks(&[&key])), Duration::ZERO).await;
    let mut client = HealthClient::new(edge.channel().await);
    let named = |service: &str| HealthCheckRequest { service: service.to_owned() };
    let mut watch = client.watch(named("counter.v1.CounterService")).await.unwrap().into_inner();

    assert_eq!(awaited("the first state", watch.message()).await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(edge.ask("/readyz").await.0, 503);
    assert_eq!(edge.ask("/livez").await.0, 200);

    edge.health.ready();
    assert_eq!(awaited("to serve", watch.message()).await.unwrap().unwrap().status(), ServingStatus::Serving);
    for service in ["", "counter.v1.CounterService"] {
        let status = client.check(named(service)).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }
    assert_eq!(client.check(named("counter.v1.Nothing")).await.unwrap_err().code(), Code::NotFound);
    let mut nothing = client.watch(named("counter.v1.Nothing")).await.unwrap().into_inner();
    let told = awaited("that it is unknown", nothing.message()).await.unwrap().unwrap();
    assert_eq!(told.status(), ServingStatus::ServiceUnknown);
    assert_eq!(edge.ask("/readyz").await, (200, "serving\n".to_owned()));

    edge.health.hold("outbox", "the database is not what it was");
    assert_eq!(awaited("the hold", watch.message()).await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(edge.ask("/readyz").await, (503, "outbox: the database is not what it was\n".to_owned()));
    edge.health.release("outbox");
    assert_eq!(awaited("to serve again", watch.message()).await.unwrap().unwrap().status(), ServingStatus::Serving);

    edge.health.stopping();
    assert_eq!(awaited("the stop", watch.message()).await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(edge.ask("/readyz").await, (503, "stopping\n".to_owned()));
    edge.stop().await;
    let end = awaited("the end of the watch of nothing", nothing.message()).await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable, "it went on until the server stopped");
}

#[tokio::test]
async fn reflection_tells_what_is_served_in_both_versions() {
    let (edge, _) = edge().await;
    let services = [
        "counter.v1.CounterService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ];
    {
        use tonic_reflection::pb::v1::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let ask = |request| ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let requests = [
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol("counter.v1.CounterService".to_owned())),
        ];
        let mut client = ServerReflectionClient::new(edge.channel().await);
        let mut answers = client.server_reflection_info(tokio_stream::iter(requests)).await.unwrap().into_inner();
        let Some(MessageResponse::ListServicesResponse(list)) = answers.next().await.unwrap().unwrap().message_response
        else {
            unreachable!("a list was asked for")
        };
        let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
        names.sort();
        assert_eq!(names, services);
        let Some(MessageResponse::FileDescriptorResponse(file)) =
            answers.next().await.unwrap().unwrap().message_response
        else {
            unreachable!("a file was asked for")
        };
        let file = prost_types::FileDescriptorProto::decode(&*file.file_descriptor_proto[0]).unwrap();
        assert_eq!(file.name(), "counter/v1/service.proto");
    }
    {
        use tonic_reflection::pb::v1alpha::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut client = ServerReflectionClient::new(edge.channel().await);
        let mut answers = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
        let Some(MessageResponse::ListServicesResponse(list)) = answers.next().await.unwrap().unwrap().message_response
        else {
            unreachable!("a list was asked for")
        };
        let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
        names.sort();
        assert_eq!(names, services);
    }
    edge.stop().await;
}

#[tokio::test]
async fn metrics_are_there_before_the_first_call_and_count_each_once() {
    let (edge, token) = edge().await;
    let ok = r#"grpc_server_calls_total{rpc="counter.v1.CounterService/GetCounter",code="OK"}"#;
    let refused = r#"grpc_server_calls_total{rpc="counter.v1.CounterService/GetCounter",code="UNAUTHENTICATED"}"#;
    assert_eq!((edge.metric(ok).await, edge.metric(refused).await), (0.0, 0.0));

    let mut client = edge.client().await;
    client.get_counter(authorized(GetCounterRequest::default(), &token)).await.unwrap();
    client.get_counter(GetCounterRequest::default()).await.unwrap_err();
    assert_eq!((edge.metric(ok).await, edge.metric(refused).await), (1.0, 1.0));
    let rpc = r#"{rpc="counter.v1.CounterService/GetCounter"}"#;
    assert_eq!(edge.metric(&format!("grpc_server_calls_in_flight{rpc}")).await, 0.0);
    assert_eq!(edge.metric(&format!("grpc_server_call_seconds_count{rpc}")).await, 2.0);
    edge.stop().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_its_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let fault = shared::grpc::bind("GRPC_ADDR", address).await.unwrap_err().to_string();
    assert!(fault.contains("GRPC_ADDR") && fault.contains(&address.to_string()), "{fault}");
}
