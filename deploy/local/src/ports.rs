//! TCP ports on 127.0.0.1. In: nothing, or fixed numbers. Out: ports that nobody else has, also among test processes that run
//! at the same time. It never hands out a port that is merely free at this moment.
//!
//! Binding to port 0 and closing again gives a number that any other process may get a millisecond later. So a port here goes with
//! a Unix socket of an abstract name, `ticketing-port-<port>`: only one process can have it, and only where the port itself could
//! be in its way (the network namespace, whatever its temporary folder and user); it goes with the process, however it ends, and a
//! server may be killed and started again while its port stays ours. The range of free ones lies below Linux's ephemeral ports
//! (32768 and up), so no outgoing connection takes one either.
//!
//! Fixed ones may lie among the ephemeral ports, where any connection out of this machine could take one while its server is being
//! built or started again. So each is also bound, by a socket that never listens: the kernel gives a bound port to no outgoing
//! connection, and a server that sets SO_REUSEADDR, as all of ours do, may still bind it and listen.
//!
//! Nothing here ever listens, not for a moment: a child that another thread forks just then would listen with us until it is the
//! program it was forked for, and keep the port from the server it is meant for.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self as unix, UnixDatagram};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpSocket;

use crate::progress::{say, step};
use crate::{tree, wait};

/// Where the fixed ones don't come to lie when tests move them: the sandbox's just below, Jaeger's just above.
const RANGE: Range<u16> = 24_200..27_600;

/// Linux forgets a connection that has ended after a minute at most.
const LEFTOVERS_STAY: Duration = Duration::from_secs(65);

/// A port on 127.0.0.1, kept from others until its last clone is dropped.
#[derive(Debug, Clone)]
pub struct Port {
    number: u16,
    _lock: Arc<UnixDatagram>,
    /// A fixed one's: bound, and never listening.
    _bound: Option<Arc<TcpSocket>>,
}

impl Port {
    /// A port that nothing listens on and no other holder of a `Port` has.
    ///
    /// # Errors
    /// When no sockets can be made, or all ports are taken.
    pub fn free() -> Result<Self> {
        let first = scatter() % u32::from(RANGE.end - RANGE.start);
        let size = u32::from(RANGE.end - RANGE.start);
        for step in 0..size {
            // Below the size of the range, which is u16.
            let number = RANGE.start + ((first + step) % size) as u16;
            let Some(lock) = lock(number)? else { continue };
            if is_free(number)? {
                return Ok(Self { number, _lock: Arc::new(lock), _bound: None });
            }
        }
        bail!("no free port in {RANGE:?}")
    }

    /// The port of this number, bound; or who has it.
    fn fixed(number: u16) -> Result<Result<Self, Holder>> {
        let Some(lock) = lock(number)? else { return Ok(Err(Holder::Stack)) };
        match bind(Ipv4Addr::LOCALHOST, number) {
            Ok(bound) => Ok(Ok(Self { number, _lock: Arc::new(lock), _bound: Some(Arc::new(bound)) })),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(Err(holder(number))),
            Err(error) => Err(error).with_context(|| format!("binding port {number}")),
        }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Its address on this machine.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

/// Takes the name that goes with a port, unless another holder of a [`Port`] has it.
fn lock(number: u16) -> Result<Option<UnixDatagram>> {
    let name = unix::SocketAddr::from_abstract_name(format!("ticketing-port-{number}"));
    match name.and_then(|name| UnixDatagram::bind_addr(&name)) {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
        Err(error) => Err(error).with_context(|| format!("taking the name of port {number}")),
    }
}

/// A socket that has the port and lets a server have it, too. Children don't inherit it.
fn bind(address: Ipv4Addr, number: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((address, number).into())?;
    Ok(socket)
}

/// Whether nothing listens on this port. All addresses are asked, so a listener on any of them counts.
fn is_free(port: u16) -> Result<bool> {
    match bind(Ipv4Addr::UNSPECIFIED, port) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(false),
        Err(error) => Err(error).with_context(|| format!("asking for port {port}")),
    }
}

/// Takes all of these ports, each with the name of what wants it. Where only the leftovers of connections are in the way, waits until
/// they are gone, which takes a minute at most.
///
/// # Errors
/// Names every port that is taken, what wanted it, and who has it, if that can be seen.
pub async fn reserve(wanted: &[(u16, &str)]) -> Result<Vec<Port>> {
    match try_reserve(wanted)? {
        Ok(ports) => Ok(ports),
        Err(taken) if taken.pass => {
            let gone = wait::until("the kernel to forget them", LEFTOVERS_STAY, async || match try_reserve(wanted) {
                Ok(Ok(ports)) => Ok(Ok(ports)),
                Ok(Err(taken)) if taken.pass => Err(taken.into()),
                Ok(Err(taken)) => Ok(Err(taken.into())),
                Err(error) => Ok(Err(error)),
            });
            say(format_args!("ports are in use:{}", taken.lines));
            step("waiting for the kernel to forget them", async { gone.await? }).await
        }
        Err(taken) => Err(taken.into()),
    }
}

/// All ports, or which of them can't be had.
fn try_reserve(wanted: &[(u16, &str)]) -> Result<Result<Vec<Port>, Taken>> {
    let mut ports = Vec::with_capacity(wanted.len());
    let mut taken = Taken { lines: String::new(), pass: true };
    for (number, what) in wanted {
        match Port::fixed(*number)? {
            Ok(port) => ports.push(port),
            Err(holder) => {
                taken.pass &= holder == Holder::Leftover;
                taken.lines += &format!("\n  port {number}, which {what} wants, is {holder}");
            }
        }
    }
    Ok(if taken.lines.is_empty() { Ok(ports) } else { Err(taken) })
}

/// Ports that can't be had.
#[derive(Debug)]
struct Taken {
    lines: String,
    /// Whether time alone will give them back.
    pass: bool,
}

impl From<Taken> for anyhow::Error {
    fn from(taken: Taken) -> Self {
        let way_out = "end what has them, or move all ports: TICKETING_PORT_OFFSET=1000 make run";
        anyhow::anyhow!("ports are in use:{}\n{way_out}", taken.lines)
    }
}

/// Who has a port that can't be bound.
#[derive(Debug, PartialEq, Eq)]
enum Holder {
    /// Another stack of this user's, which may not listen yet.
    Stack,
    /// A server; by name and pid, if that can be seen.
    Listener(Option<String>),
    /// A process that is connected to somewhere, with this as its own port.
    Connection(Option<String>),
    /// No process any more: the kernel keeps an ended connection in mind for a while.
    Leftover,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = |who: &Option<String>| who.clone().unwrap_or_else(|| "another process".to_owned());
        match self {
            Self::Stack => f.write_str("in use by another local stack"),
            Self::Listener(who) => write!(f, "in use by {}", name(who)),
            Self::Connection(who) => write!(
                f,
                "in use by an outgoing connection of {}, which got it by chance: once more may be enough",
                name(who)
            ),
            Self::Leftover => f.write_str("in use by what is left of a connection that has ended"),
        }
    }
}

/// Who has `port`: /proc/net/tcp has the socket's state and inode, the process's folder a link to it.
fn holder(port: u16) -> Holder {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    match in_the_way(&tables.concat(), port) {
        Some((true, inode)) => Holder::Listener(process_with(inode)),
        Some((false, inode)) => Holder::Connection(process_with(inode)),
        // Also what was there a moment ago and isn't any more.
        None => Holder::Leftover,
    }
}

/// The inode of the socket that keeps others from `127.0.0.1:port`, and whether it listens; none if no process has such a socket.
fn in_the_way(tables: &str, port: u16) -> Option<(bool, u64)> {
    // 127.0.0.1 and what includes it, as little-endian machines print them.
    const ADDRESSES: [&str; 4] =
        ["0100007F", "00000000", "00000000000000000000000000000000", "0000000000000000FFFF00000100007F"];
    const LISTEN: &str = "0A";
    let sockets = tables.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let (address, local_port) = fields.get(1)?.rsplit_once(':')?;
        let ours = ADDRESSES.contains(&address) && u16::from_str_radix(local_port, 16) == Ok(port);
        ours.then_some((*fields.get(3)? == LISTEN, fields.get(9)?.parse().ok()?))
    });
    // Without an inode it has no process. A listener also has connections, and explains them.
    sockets.filter(|(_, inode)| *inode != 0).max_by_key(|(listens, _)| *listens)
}

/// The name and pid of the process that has this socket. `None` for another user's, unless we are root.
fn process_with(inode: u64) -> Option<String> {
    let link = format!("socket:[{inode}]");
    tree::all().into_iter().find_map(|pid| {
        let process = Path::new("/proc").join(pid.to_string());
        let mut files = fs::read_dir(process.join("fd")).ok()?.flatten();
        files.find(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == link.as_str()))?;
        let name = fs::read_to_string(process.join("comm")).ok()?;
        Some(format!("{} (pid {pid})", name.trim()))
    })
}

/// Where to begin looking: processes that start together begin far apart, and a port is not reused at once.
fn scatter() -> u32 {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    // A hasher of the standard library has random keys.
    let random = RandomState::new().hash_one(0u8) as u32;
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    std::process::id().wrapping_mul(7919) ^ random ^ call.wrapping_mul(104_729)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests end with the first thing that is wrong")]
mod tests {
    use std::collections::HashSet;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn nobody_gets_a_port_that_another_holds() {
        let held: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> =
                (0..8).map(|_| scope.spawn(|| (0..20).map(|_| Port::free().unwrap()).collect())).collect();
            all.into_iter().flat_map(|one| -> Vec<Port> { one.join().unwrap() }).collect()
        });

        assert_eq!(held.iter().map(Port::number).collect::<HashSet<_>>().len(), 160);
    }

    /// Those who can't have their ports are told so at once.
    fn taken(wanted: &[(u16, &str)]) -> Taken {
        try_reserve(wanted).unwrap().unwrap_err()
    }

    #[test]
    fn a_port_in_use_is_named_with_what_wanted_it_and_who_has_it() {
        let (port, free) = (Port::free().unwrap().number(), Port::free().unwrap().number());
        let _listener = TcpListener::bind(("127.0.0.1", port)).unwrap();

        let taken = taken(&[(port, "Postgres"), (free, "Kafka")]);

        assert!(taken.lines.contains(&format!("port {port}, which Postgres wants, is in use by ")), "{taken:?}");
        assert!(taken.lines.contains(&format!("(pid {})", std::process::id())), "{taken:?}");
        assert!(!taken.lines.contains("Kafka") && !taken.pass, "{taken:?}");
    }

    #[tokio::test]
    async fn an_outgoing_connection_is_told_from_a_server_and_its_leftovers_from_both() {
        let port = Port::free().unwrap().number();
        let server = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let outgoing = TcpSocket::new_v4().unwrap();
        outgoing.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
        let outgoing = outgoing.connect(server.local_addr().unwrap()).await.unwrap();

        let connected = taken(&[(port, "tickets")]);
        // The end that is closed first is the one that is kept in mind.
        drop(outgoing);
        let ended = taken(&[(port, "tickets")]);

        let us = format!("(pid {})", std::process::id());
        assert!(
            connected.lines.contains("an outgoing connection of ") && connected.lines.contains(&us),
            "{connected:?}"
        );
        assert!(!connected.pass, "it may last");
        assert!(ended.lines.contains("what is left of a connection") && ended.pass, "{ended:?}");
    }

    #[tokio::test]
    async fn two_stacks_cannot_have_the_same_ports_even_before_anything_listens() {
        let number = Port::free().unwrap().number();
        let first = reserve(&[(number, "tickets")]).await.unwrap();

        let error = reserve(&[(number, "tickets")]).await.unwrap_err().to_string();
        drop(first);
        let again = reserve(&[(number, "tickets")]).await;

        assert!(error.contains("another local stack"), "{error}");
        assert_eq!(again.unwrap()[0].number(), number);
    }
}
