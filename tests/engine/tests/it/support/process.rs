//! The counter as a real process, to be killed for real.

use std::{net::SocketAddr, time::Duration};

use engine_tests::counter::v1::counter_service_client::CounterServiceClient;
use local::{
    keys::{self, Signer},
    ports::Port,
    process::{Process, Spec},
    ready::Readiness,
};
use tempfile::TempDir;
use tonic::{Request, transport::Channel};

use super::Topics;

/// One replica, not started yet.
pub struct Replica {
    pub process: Process,
    pub ops: SocketAddr,
    grpc: SocketAddr,
    token: String,
    _ports: [Port; 2],
    _folder: TempDir,
}

impl Replica {
    pub fn of(database_url: &str, topics: &Topics, settings: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let signer = Signer::load_or_create(folder.path()).unwrap();
        let ports = [Port::free().unwrap(), Port::free().unwrap()];
        let [grpc, ops] = ports.each_ref().map(|port| SocketAddr::from(([127, 0, 0, 1], port.number())));
        let mut spec = Spec::new("counter", env!("CARGO_BIN_EXE_counter"), folder.path().join("log"));
        spec.readiness = Readiness::Http { addr: ops, path: "/readyz".to_owned() };
        spec.start_limit = Duration::from_secs(60);
        let common = [
            ("DATABASE_URL", database_url.to_owned()),
            ("KAFKA_BROKERS", topics.config.brokers.clone()),
            ("KAFKA_TOPIC_PREFIX", topics.config.prefix.clone()),
            ("KAFKA_TOPIC_PARTITIONS", topics.new_topic.partitions.to_string()),
            ("GRPC_ADDR", grpc.to_string()),
            ("OPS_ADDR", ops.to_string()),
            ("JWKS", keys::jwks_path(folder.path()).display().to_string()),
            ("JWT_ISSUER", keys::ISSUER.to_owned()),
            ("JWT_AUDIENCE", keys::AUDIENCE.to_owned()),
            ("SHUTDOWN_GRACE", "0s".to_owned()),
        ];
        spec.env.extend(common.map(|(name, value)| (name.to_owned(), value)));
        spec.env.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let token = signer.token("alice", &[]).unwrap();
        Self { process: Process::new(spec).unwrap(), ops, grpc, token, _ports: ports, _folder: folder }
    }

    /// A client, connected when it is first used.
    pub fn client(&self) -> CounterServiceClient<Channel> {
        CounterServiceClient::new(Channel::from_shared(format!("http://{}", self.grpc)).unwrap().connect_lazy())
    }

    /// A request of Alice's.
    pub fn by_alice<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        request
    }

    /// A metric's value, by its line up to there; `None` if there is none such, or nobody answers.
    pub async fn metric(&self, line: &str) -> Option<f64> {
        let page = reqwest::get(format!("http://{}/metrics", self.ops)).await.ok()?.text().await.ok()?;
        page.lines().find_map(|candidate| candidate.strip_prefix(line)?.strip_prefix(' ')?.parse().ok())
    }
}
