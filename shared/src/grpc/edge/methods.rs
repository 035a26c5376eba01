//! The methods that a server answers, each with its metrics.

use std::{collections::HashMap, sync::Arc};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;

use crate::ops::{Metrics, seconds};

/// Every method of the served services; the rest of the world's are one.
#[derive(Debug)]
pub(in crate::grpc) struct Methods {
    known: HashMap<String, Arc<Method>>,
    unknown: Arc<Method>,
    panics: Counter,
}

/// A method.
#[derive(Debug)]
pub(in crate::grpc) struct Method {
    /// `/package.Service/Method`.
    pub(super) path: String,
    /// Whether its answer is a stream, which has no deadline of ours and ends when the server stops.
    pub(super) streams: bool,
    pub(super) calls: [Counter; CODES.len()],
    pub(super) in_flight: Gauge,
    pub(super) seconds: Histogram,
}

/// Every code of gRPC, in the order of their numbers.
const CODES: [(Code, &str); 17] = [
    (Code::Ok, "OK"),
    (Code::Cancelled, "CANCELLED"),
    (Code::Unknown, "UNKNOWN"),
    (Code::InvalidArgument, "INVALID_ARGUMENT"),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
    (Code::NotFound, "NOT_FOUND"),
    (Code::AlreadyExists, "ALREADY_EXISTS"),
    (Code::PermissionDenied, "PERMISSION_DENIED"),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
    (Code::FailedPrecondition, "FAILED_PRECONDITION"),
    (Code::Aborted, "ABORTED"),
    (Code::OutOfRange, "OUT_OF_RANGE"),
    (Code::Unimplemented, "UNIMPLEMENTED"),
    (Code::Internal, "INTERNAL"),
    (Code::Unavailable, "UNAVAILABLE"),
    (Code::DataLoss, "DATA_LOSS"),
    (Code::Unauthenticated, "UNAUTHENTICATED"),
];

/// A code's name as gRPC writes it.
pub(super) fn code_name(code: Code) -> &'static str {
    CODES.iter().find(|(known, _)| *known == code).map_or("UNKNOWN", |(_, name)| name)
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rpc {
    rpc: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RpcAndCode {
    rpc: String,
    code: &'static str,
}

/// Metrics by method.
struct Families {
    calls: Family<RpcAndCode, Counter>,
    in_flight: Family<Rpc, Gauge>,
    seconds: Family<Rpc, Histogram, fn() -> Histogram>,
}

impl Methods {
    /// The methods of these services, by the encoded `FileDescriptorSet` that describes them.
    pub(in crate::grpc) fn new(
        services: &[&str],
        descriptors: &[u8],
        metrics: &Metrics,
    ) -> Result<Self, prost::DecodeError> {
        let families = Families {
            calls: metrics.register("grpc_server_calls", "Calls answered, by code", Family::default()),
            in_flight: metrics.register("grpc_server_calls_in_flight", "Calls not answered yet", Family::default()),
            seconds: metrics.register(
                "grpc_server_call_seconds",
                "Time to answer a call; of a stream, until it ended",
                Family::new_with_constructor((|| Histogram::new(seconds())) as fn() -> Histogram),
            ),
        };
        let panics = metrics.counter("grpc_server_panics", "Calls whose handler panicked");

        let mut known = HashMap::new();
        for file in FileDescriptorSet::decode(descriptors)?.file {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                if services.contains(&name.as_str()) {
                    for method in &service.method {
                        let rpc = format!("{name}/{}", method.name());
                        let method = families.method(&rpc, method.server_streaming());
                        known.insert(format!("/{rpc}"), Arc::new(method));
                    }
                }
            }
        }
        Ok(Self { known, unknown: Arc::new(families.method("unknown", false)), panics })
    }

    /// The method with this path.
    pub(super) fn find(&self, path: &str) -> &Arc<Method> {
        self.known.get(path).unwrap_or(&self.unknown)
    }

    /// Counts a panic.
    pub(super) fn panicked(&self) {
        self.panics.inc();
    }
}

impl Families {
    fn method(&self, rpc: &str, streams: bool) -> Method {
        let label = Rpc { rpc: rpc.to_owned() };
        let calls = CODES.map(|(_, code)| self.calls.get_or_create_owned(&RpcAndCode { rpc: rpc.to_owned(), code }));
        Method {
            path: format!("/{rpc}"),
            streams,
            calls,
            in_flight: self.in_flight.get_or_create_owned(&label),
            seconds: self.seconds.get_or_create_owned(&label),
        }
    }
}
