//! Connecting, and what every session is set to.

use std::{
    io,
    ops::{Deref, DerefMut},
    time::Duration,
};

use diesel_async::AsyncPgConnection;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::{
    Config, NoTls,
    config::{Host, SslMode, TargetSessionAttrs},
};

use super::{
    error::{Fault, fault},
    pipeline::Pipeline,
    sqlstate::{FirstError, Tap},
};

/// To connect at all, and for bytes sent to be acknowledged: a server that is gone is noticed within this.
const NETWORK_TIMEOUT: Duration = Duration::from_secs(5);

/// Every session: waits for another's lock for a second at most, and is ended by the server when its client vanished
/// within a transaction, between two requests (when idle) or in the middle of one (by keepalives), so that locks never
/// outlive their holder for long. Compiling plans costs more than it saves on statements this small.
const SESSION: &str = "-c lock_timeout=1s -c idle_in_transaction_session_timeout=5s -c jit=off \
                       -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=2";

/// The sessions that callers read by besides: a read that takes so long is one that few may make, or the server's trouble,
/// and whoever asked may have gone, while the next who is given its connection waits for its end.
const READER: &str = "-c statement_timeout=5s";

/// The sessions of the write path, and of what reads behind it, besides: statements are prepared once, often while their
/// tables are empty, and keep the plan. A sequential scan or a hash join chosen then reads the whole table at every batch
/// once that has grown; every statement there has an index to go by.
const PREPARED: &str = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_hashjoin=off \
                        -c enable_mergejoin=off";

/// How often the server is asked to answer, by a `Sync`: after what.
#[derive(Clone, Copy, Debug)]
enum Syncs {
    /// Each statement.
    PerStatement,
    /// All that is sent at once: see `pipeline`.
    PerFlush,
}

/// A Postgres database, not connected to yet.
#[derive(Clone)]
pub struct Database {
    config: Config,
}

/// A connection, and what its server last complained of.
pub struct Conn {
    inner: AsyncPgConnection,
    first_error: FirstError,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No host could be reached in time.
    #[error("can't reach the database: {0}")]
    Unreachable(#[from] io::Error),
    /// The server was reached, and said no or vanished.
    #[error("the database refused the connection: {}", said(.0))]
    Refused(#[from] tokio_postgres::Error),
    /// The session could not be set up.
    #[error("can't set up the session: {0}")]
    Setup(#[from] diesel::ConnectionError),
}

/// In the server's own words, if it had any: the error itself says that there was one.
fn said(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |said| said.message().to_owned())
}

/// Why a text is no URL of a database that can be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidUrl {
    /// It can't be parsed. (The parser's own message may hold the password.)
    #[error("must be a URL like postgres://user:password@host:5432/database")]
    Malformed,
    /// TLS was asked for.
    #[error("must have an sslmode of disable or prefer: connections are not encrypted by this program")]
    Tls,
    /// Something was asked for that would not be heeded.
    #[error("must have neither hostaddr nor target_session_attrs: name hosts that are written to")]
    Unheeded,
}

impl Database {
    /// The database behind a `postgres://` URL; `application` is how its sessions are named in `pg_stat_activity`.
    ///
    /// # Errors
    ///
    /// The URL can't be parsed, or asks for what isn't supported.
    pub fn new(url: &str, application: &str) -> Result<Self, InvalidUrl> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(InvalidUrl::Malformed);
        }
        let mut config: Config = url.parse().map_err(|_| InvalidUrl::Malformed)?;
        if config.get_hosts().is_empty() || config.get_dbname().is_none() {
            return Err(InvalidUrl::Malformed);
        }
        if !matches!(config.get_ssl_mode(), SslMode::Disable | SslMode::Prefer) {
            return Err(InvalidUrl::Tls);
        }
        if !config.get_hostaddrs().is_empty() || config.get_target_session_attrs() != TargetSessionAttrs::Any {
            return Err(InvalidUrl::Unheeded);
        }
        config.ssl_mode(SslMode::Disable).application_name(application);
        Ok(Self { config })
    }

    /// A connection for whatever is done beside calls.
    ///
    /// # Errors
    ///
    /// No server could be reached within 5 s, or it refused.
    pub async fn connect(&self) -> Result<Conn, ConnectError> {
        self.open(SESSION.to_owned(), Syncs::PerStatement).await
    }

    /// A connection for what callers read.
    ///
    /// # Errors
    ///
    /// No server could be reached within 5 s, or it refused.
    pub(crate) async fn connect_reader(&self) -> Result<Conn, ConnectError> {
        self.open(format!("{SESSION} {READER}"), Syncs::PerStatement).await
    }

    /// A connection for the write path. Statements in flight together must lie within one BEGIN and its COMMIT; a statement
    /// alone stands for itself.
    ///
    /// # Errors
    ///
    /// No server could be reached, or it refused.
    pub(crate) async fn connect_writer(&self) -> Result<Conn, ConnectError> {
        self.open(format!("{SESSION} {PREPARED}"), Syncs::PerFlush).await
    }

    /// A connection for what else the engine does again and again by statements that stay prepared.
    ///
    /// # Errors
    ///
    /// No server could be reached, or it refused.
    pub(crate) async fn connect_prepared(&self) -> Result<Conn, ConnectError> {
        self.open(format!("{SESSION} {PREPARED}"), Syncs::PerStatement).await
    }

    async fn open(&self, options: String, syncs: Syncs) -> Result<Conn, ConnectError> {
        let options = match self.config.get_options() {
            Some(given) => format!("{options} {given}"),
            None => options,
        };
        match tokio::time::timeout(NETWORK_TIMEOUT, self.handshake(options, syncs)).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::Unreachable(io::ErrorKind::TimedOut.into())),
        }
    }

    async fn handshake(&self, options: String, syncs: Syncs) -> Result<Conn, ConnectError> {
        let first_error = FirstError::default();
        let tap = Tap::new(self.reach().await?, first_error.clone());
        let stream: Socket = match syncs {
            Syncs::PerStatement => Box::new(tap),
            Syncs::PerFlush => Box::new(Pipeline::new(tap)),
        };
        let (client, connection) = self.config.clone().options(options).connect_raw(stream, NoTls).await?;
        #[allow(clippy::disallowed_methods, reason = "it ends when the client, which the connection owns, is dropped")]
        tokio::spawn(async move {
            // Whatever ends it, the statements that were under way have been told.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a database connection ended");
            }
        });
        Ok(Conn { inner: AsyncPgConnection::try_from(client).await?, first_error })
    }

    /// The first of the hosts that answers.
    async fn reach(&self) -> io::Result<Socket> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        let ports = self.config.get_ports();
        for (index, host) in self.config.get_hosts().iter().enumerate() {
            // Either a port for each host, or one for all, or none.
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            match connect(host, port).await {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Stream for T {}
type Socket = Box<dyn Stream>;

async fn connect(host: &Host, port: u16) -> io::Result<Socket> {
    match host {
        Host::Tcp(name) => {
            let stream = TcpStream::connect((name.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            let socket = SockRef::from(&stream);
            socket.set_tcp_user_timeout(Some(NETWORK_TIMEOUT))?;
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(NETWORK_TIMEOUT).with_interval(NETWORK_TIMEOUT))?;
            Ok(Box::new(stream))
        }
        Host::Unix(folder) => Ok(Box::new(UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await?)),
    }
}

impl Conn {
    /// What an error that this connection just met means.
    pub fn fault(&self, error: &diesel::result::Error) -> Fault {
        fault(error, self.first_error.take())
    }

    /// Forgets what the server complained of so far. Behind the first error of a pipeline come those of the statements
    /// after it, which may arrive when the first has been judged already: left there, they would be taken for the cause
    /// of the next.
    pub(crate) fn forget_errors(&self) {
        self.first_error.take();
    }

    /// The bare connection, when nothing of ours is needed any more.
    pub(super) fn into_inner(self) -> AsyncPgConnection {
        self.inner
    }
}

impl Deref for Conn {
    type Target = AsyncPgConnection;

    fn deref(&self) -> &AsyncPgConnection {
        &self.inner
    }
}

impl DerefMut for Conn {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        &mut self.inner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_judged_before_anything_connects() {
        for (url, ok) in [
            ("postgres://user:secret@localhost:5432/tickets", true),
            ("postgres:///tickets?host=/run/postgresql", true),
            ("postgres://a,b:5433/tickets", true),
            ("postgres://localhost/tickets?sslmode=require", false),
            ("postgres://localhost", false),
            ("localhost", false),
            ("", false),
        ] {
            assert_eq!(Database::new(url, "test").is_ok(), ok, "{url}");
        }
    }
}
