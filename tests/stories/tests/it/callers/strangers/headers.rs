//! Deadlines that are none, have passed, or never come; and other odd headers.

use anyhow::Result;
use serde_json::{Value, json};
use stories::stranger::{Sent, Way};
use tonic::Code;

use super::{Case, Town, but, invalid, malformed, refused};

impl Town<'_> {
    pub(super) fn headers(&self) -> Result<Vec<Case>> {
        let get = || self.by("bob", "GetOrder", Sent::Message(json!({"id": self.order})));
        let create = || {
            self.by("alice", "CreateTicket", Sent::Message(but(&self.create_ticket(), &[("request_id", Value::Null)])))
        };
        let mut cases = Vec::new();
        for text in ["", "-1S", "+1S", "1", "S", "soon", "1.5S", "1s", "100000000S", "1 S"] {
            let name = format!("a deadline of {text:?}");
            cases.push(Case::new(&name, create()?, Some(invalid(&["grpc-timeout"]))).with("grpc-timeout", text));
        }
        for text in ["0n", "0S", "1n", "999u"] {
            let late = refused(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
            cases.push(Case::new(&format!("a deadline of {text}"), create()?, Some(late)).with("grpc-timeout", text));
        }
        cases.push(Case::new("a deadline in eleven thousand years", get()?, None).with("grpc-timeout", "99999999H"));
        for (name, value) in [
            ("traceparent", &b"00-00000000000000000000000000000000-0000000000000000-01"[..]),
            ("traceparent", b"\xff\xfe"),
            ("tracestate", b"=,=,=;\"'"),
            ("uber-trace-id", b"a:b:c:d:e"),
            ("grpc-accept-encoding", b"\"';--"),
            ("x-forwarded-for", b"not an address"),
        ] {
            cases.push(Case::new(&format!("an odd {name}"), get()?, None).with(name, value));
        }
        // Services take a little more than the gateway lets through.
        let large = "a".repeat(13 * 1024);
        let many = (0..70).fold(get()?, |mut call, _| {
            call.headers.push(("x-one-more", b"a".to_vec()));
            call
        });
        for (name, call) in [
            ("headers of more than 12 KiB", Case::new("", get()?, None).with("x-large", large).call),
            ("more than 64 headers", many),
        ] {
            let mut case = Case::new(name, call, Some(refused(Code::ResourceExhausted, "HEADERS_TOO_LARGE")));
            case.but.push((Way::Service, None));
            // Of HTTP/2, Envoy ends the stream and says no more.
            case.but.push((Way::Grpc, Some(refused(Code::Internal, ""))));
            cases.push(case);
        }
        // What some servers take for the same as a hyphen.
        let mut underscore =
            Case::new("a header with an underscore", get()?, Some(malformed())).with("x_roles", "operator");
        underscore.but.push((Way::Service, None));
        underscore.but.push((Way::Grpc, Some(refused(Code::Internal, ""))));
        cases.push(underscore);
        Ok(cases)
    }
}
