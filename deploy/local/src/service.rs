//! The system's own processes: which there are, and what each gets to run. In: a name. Out: its ports, its database, its variables. A
//! new service is a line here; CONTRIBUTING.md, "Add a service", names whatever else lists them.

use std::net::SocketAddr;

use crate::ports::Port;
use crate::process::Process;

/// A service, as `make run` has it.
#[derive(Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its name: also its package's, its binary's, its database's, and its folder's below `services/`.
    pub name: &'static str,
    /// Where its gRPC server listens.
    pub grpc_port: u16,
    /// Where it answers `/livez`, `/readyz` and `/metrics`.
    pub ops_port: u16,
}

/// All services, in the order in which they are shown.
pub const SERVICES: [ServiceSpec; 4] = [
    ServiceSpec { name: "tickets", grpc_port: 50051, ops_port: 9101 },
    ServiceSpec { name: "orders", grpc_port: 50052, ops_port: 9102 },
    ServiceSpec { name: "payments", grpc_port: 50053, ops_port: 9103 },
    ServiceSpec { name: "expiration", grpc_port: 50054, ops_port: 9104 },
];

impl ServiceSpec {
    /// The service of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        SERVICES.iter().find(|spec| spec.name == name)
    }
}

/// One replica of a service.
#[derive(Debug)]
pub struct Service {
    pub(crate) spec: &'static ServiceSpec,
    pub(crate) process: Process,
    pub(crate) grpc: SocketAddr,
    pub(crate) ops: SocketAddr,
    pub(crate) database_url: String,
    /// Held, so that the addresses stay its own while it is down.
    pub(crate) _ports: [Port; 2],
}

impl Service {
    /// The service's name; all its replicas have the same.
    pub fn name(&self) -> &'static str {
        self.spec.name
    }

    /// Start, stop, kill, pause, resume, restart.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Where its gRPC server listens.
    pub fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Where it answers `/livez`, `/readyz` and `/metrics`.
    pub fn ops(&self) -> SocketAddr {
        self.ops
    }

    /// Its database, as its own role; all its replicas have the same.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }
}
