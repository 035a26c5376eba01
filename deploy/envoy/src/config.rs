//! What the gateway is told.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use shared::config::{AuthConfig, Default, LogFormat, Settings, TelemetryConfig, parse};

use crate::api::Api;

/// The settings of the gateway.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients come in.
    pub address: SocketAddr,
    /// Where Envoy's own pages are: a loopback address, for whoever reaches them can stop it.
    pub admin: SocketAddr,
    /// Envoy's program.
    pub envoy: PathBuf,
    /// Where its configuration is written.
    pub bootstrap: PathBuf,
    /// Each service's replicas.
    pub upstreams: Upstreams,
    /// Web pages of these origins may call.
    pub origins: Vec<String>,
    /// What a client may do.
    pub rate: Rate,
    /// Proxies of ours in front of this one: so many of the last addresses in `x-forwarded-for` are believed.
    pub trusted_hops: u32,
    /// How long a call may take from its first byte to the last of its answer. A watch may take any time.
    pub timeout: Duration,
    /// How long a request may take to arrive, from its first byte to its last.
    pub arrival: Duration,
    /// How long nothing may move in a call; of a watch, too, only its connection has to live.
    pub idle: Duration,
    /// Threads that do the work.
    pub threads: usize,
    /// The authorities whose word counts on who serves keys or takes spans over TLS: a file of certificates.
    pub authorities: PathBuf,
    /// How tokens are checked.
    pub auth: AuthConfig,
    /// What it tells operators.
    pub telemetry: TelemetryConfig,
}

/// A client's token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second, for ever.
    pub per_second: u32,
    /// Requests at once, after a pause.
    pub burst: u32,
}

/// Where each service's replicas are: host and port.
pub type Upstreams = BTreeMap<String, Vec<(String, u16)>>;

impl Config {
    /// Reads them; `None` if any has a fault.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let address = settings.get(
            "GATEWAY_ADDR",
            Default::To("127.0.0.1:8080"),
            "where clients come in: gRPC, gRPC-Web and JSON over HTTP",
            parse::address,
        );
        let admin = settings.get(
            "GATEWAY_ADMIN_ADDR",
            Default::To("127.0.0.1:9901"),
            "where Envoy's own pages are, a loopback address: /ready, /stats/prometheus",
            loopback,
        );
        let path = |text: &str| Ok(PathBuf::from(text));
        let envoy = settings.get("ENVOY", Default::To("envoy"), "Envoy's program", path);
        let bootstrap = settings.get(
            "ENVOY_BOOTSTRAP",
            Default::To("envoy.json"),
            "where Envoy's configuration is written, from these settings and the contracts; its folder must be there",
            in_a_folder,
        );
        let upstreams = settings.get(
            "UPSTREAMS",
            Default::To(
                "tickets=localhost:50051,orders=localhost:50052,payments=localhost:50053,expiration=localhost:50054",
            ),
            "where the services' replicas are: service=host:port, comma-separated, a service as often as it has replicas",
            upstreams,
        );
        let origins = settings.get_or_empty(
            "CORS_ORIGINS",
            Default::Unset("none"),
            "web pages of these origins may call: comma-separated, like https://tickets.example",
            origins,
        );
        let per_second = settings.get(
            "CLIENT_RATE",
            Default::To("200"),
            "requests a second that a client may make, by its address (of IPv6, its /64)",
            parse::number(1..=1_000_000),
        );
        let burst = settings.get(
            "CLIENT_BURST",
            Default::To("500"),
            "requests that a client may make at once, after a pause",
            parse::number(1..=1_000_000),
        );
        let trusted_hops = settings.get(
            "TRUSTED_HOPS",
            Default::To("0"),
            "proxies of ours in front: a client's address is then found in x-forwarded-for",
            parse::number(0..=16),
        );
        let timeout = settings.get(
            "CALL_TIMEOUT",
            Default::To("40s"),
            "how long a call may take, a watch excepted; longer than the services' own 30s",
            parse::duration,
        );
        let arrival = settings.get(
            "REQUEST_TIMEOUT",
            Default::To("20s"),
            "how long a request may take to arrive, headers and body",
            parse::duration,
        );
        let idle = settings.get(
            "CALL_IDLE_TIMEOUT",
            Default::To("60s"),
            "how long nothing may move in a call, a watch excepted",
            parse::duration,
        );
        let threads =
            settings.get("WORKER_THREADS", Default::To("1"), "threads that do the work", parse::number(1..=1024));
        let authorities = settings.get(
            "SSL_CERT_FILE",
            Default::To("/etc/ssl/certs/ca-certificates.crt"),
            "whose word counts on servers of keys or takers of spans, over TLS: certificates, PEM",
            path,
        );
        let auth = AuthConfig::read(settings);
        let telemetry = TelemetryConfig::read_for_tls(settings);
        Some(Self {
            address: address?,
            admin: admin?,
            envoy: envoy?,
            bootstrap: bootstrap?,
            upstreams: upstreams?,
            origins: origins?,
            rate: Rate { per_second: per_second?, burst: burst? },
            trusted_hops: trusted_hops?,
            timeout: timeout?,
            arrival: arrival?,
            idle: idle?,
            threads: threads?,
            authorities: authorities?,
            auth: auth?,
            telemetry: telemetry?,
        })
    }

    /// How log lines look.
    pub fn log_format(&self) -> LogFormat {
        self.telemetry.log_format_on(io::stdout().is_terminal())
    }

    /// Envoy's name for a level of `RUST_LOG`, which may say much more than a level.
    pub fn log_level(&self) -> &'static str {
        match self.telemetry.log_filter.as_str() {
            "error" => "error",
            "warn" => "warning",
            "debug" => "debug",
            "trace" => "trace",
            "off" => "off",
            _ => "info",
        }
    }
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address = parse::address(text)?;
    if address.ip().is_loopback() { Ok(address) } else { Err("must be a loopback address and a port".to_owned()) }
}

fn in_a_folder(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    // Of a bare name it is empty, and means where this process is.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.file_name().is_some() && folder.is_dir() {
        Ok(path)
    } else {
        Err("must be a file's path in a folder that is there".to_owned())
    }
}

fn upstreams(text: &str) -> Result<Upstreams, String> {
    let mut upstreams = Upstreams::new();
    let api = Api::of_contracts().map_err(|error| error.to_string())?;
    let rooms: Vec<_> = api.services.iter().map(|service| service.room.as_str()).collect();
    for one in text.split(',') {
        let (service, host, port) = upstream(one).ok_or("must be service=host:port, comma-separated")?;
        if !rooms.contains(&service.as_str()) {
            return Err(format!("must name services out of {}", rooms.join(", ")));
        }
        upstreams.entry(service).or_default().push((host, port));
    }
    Ok(upstreams)
}

fn upstream(text: &str) -> Option<(String, String, u16)> {
    let (service, address) = text.split_once('=')?;
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let well = !service.is_empty() && !host.is_empty() && !host.contains(['/', ' ']);
    well.then(|| (service.to_owned(), host.trim_matches(['[', ']']).to_owned(), port))
}

fn origins(text: &str) -> Result<Vec<String>, String> {
    text.split(',').filter(|origin| !origin.is_empty()).map(origin).collect()
}

/// An origin as browsers write it (RFC 6454): compared as it is, so what no browser sends would never match.
fn origin(text: &str) -> Result<String, String> {
    let url = parse::http_url(text).ok().filter(|url| url.origin().ascii_serialization() == text);
    match url {
        Some(_) => Ok(text.to_owned()),
        None => Err("must be origins as browsers write them, like https://tickets.example, comma-separated".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_services_with_their_replicas() {
        let read = upstreams("tickets=127.0.0.1:1,orders=orders-srv:50052,tickets=[::1]:2").unwrap();
        assert_eq!(read["tickets"], [("127.0.0.1".to_owned(), 1), ("::1".to_owned(), 2)]);
        assert_eq!(read["orders"], [("orders-srv".to_owned(), 50052)]);
        for wrong in ["", "tickets", "tickets=", "tickets=host", "tickets=host:0", "=host:1", "tickets=http://host:1"] {
            assert!(upstreams(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn origins_are_written_as_browsers_write_them() {
        assert_eq!(origins("").unwrap(), Vec::<String>::new());
        assert_eq!(origins("https://a.example,http://localhost:3000").unwrap().len(), 2);
        for wrong in ["*", "a.example", "https://a.example/", "https://A.example", "https://a.example:443", "null"] {
            assert!(origins(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_configuration_is_written_into_a_folder_that_is_there() {
        assert!(in_a_folder("envoy.json").is_ok() && in_a_folder("/tmp/envoy.json").is_ok());
        for wrong in ["", "/", "/nowhere/at/all/envoy.json"] {
            assert!(in_a_folder(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn envoys_own_pages_are_for_this_machine_alone() {
        assert!(loopback("127.0.0.1:9901").is_ok() && loopback("[::1]:9901").is_ok());
        assert!(loopback("0.0.0.0:9901").is_err());
    }
}
