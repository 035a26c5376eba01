//! A proxy between the engine and Postgres that cuts connections at chosen points: when a COMMIT passes.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::Random;

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The COMMIT doesn't reach the server.
    BeforeCommit,
    /// The COMMIT reaches the server; its answer doesn't come back.
    AfterCommit,
    /// Anywhere else: what the client has just said is lost.
    Anywhere,
}

/// A proxy in front of a database.
pub struct Proxy {
    /// The database's URL by way of the proxy.
    pub url: String,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

struct State {
    server: SocketAddr,
    chance: Mutex<Chance>,
    cuts: AtomicU64,
}

struct Chance {
    random: Random,
    /// One in so many, for each cut.
    of_commits: u64,
    of_others: u64,
}

impl Proxy {
    /// In front of this URL's server; one commit in `of_commits` and one other message in `of_others` is cut. 0: none.
    pub async fn start(url: &str, seed: u64, of_commits: u64, of_others: u64) -> Self {
        let (head, rest) = url.split_once('@').unwrap();
        let (server, database) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{head}@{}/{database}", listener.local_addr().unwrap());
        let chance = Chance { random: Random::seeded(seed), of_commits, of_others };
        let state =
            Arc::new(State { server: server.parse().unwrap(), chance: Mutex::new(chance), cuts: AtomicU64::new(0) });
        let mut tasks = JoinSet::new();
        let serving = state.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(pass(client, serving.clone()));
            }
        });
        Self { url, state, _tasks: tasks }
    }

    /// Connections cut so far.
    pub fn cuts(&self) -> u64 {
        self.state.cuts.load(Ordering::SeqCst)
    }

    /// Cuts everything, from now on.
    pub fn cut_off(&self) {
        let mut chance = self.state.chance.lock().unwrap();
        (chance.of_commits, chance.of_others) = (1, 1);
    }

    /// Cuts no more.
    pub fn calm(&self) {
        let mut chance = self.state.chance.lock().unwrap();
        (chance.of_commits, chance.of_others) = (0, 0);
    }
}

impl State {
    fn cut(&self, commit: bool) -> Option<Cut> {
        let mut chance = self.chance.lock().unwrap();
        let one_in = if commit { chance.of_commits } else { chance.of_others };
        if one_in == 0 || chance.random.below(one_in) != 0 {
            return None;
        }
        self.cuts.fetch_add(1, Ordering::SeqCst);
        Some(match (commit, chance.random.below(2)) {
            (false, _) => Cut::Anywhere,
            (true, 0) => Cut::BeforeCommit,
            (true, _) => Cut::AfterCommit,
        })
    }
}

/// The client's frames, as far as they matter: which prepared statement is COMMIT.
#[derive(Default)]
struct Frames {
    started: bool,
    waiting: Vec<u8>,
    commits: std::collections::HashSet<Vec<u8>>,
}

impl Frames {
    /// Takes bytes; whether a COMMIT is executed in them.
    fn commit_in(&mut self, bytes: &[u8]) -> bool {
        self.waiting.extend_from_slice(bytes);
        let mut found = false;
        loop {
            let head = usize::from(self.started);
            let Some(length) = self.waiting.get(head..head + 4) else { return found };
            let length = u32::from_be_bytes(length.try_into().unwrap()) as usize + head;
            if self.waiting.len() < length {
                return found;
            }
            let frame: Vec<u8> = self.waiting.drain(..length).collect();
            if !self.started {
                self.started = true;
                continue;
            }
            let mut texts = frame[5..].split(|byte| *byte == 0);
            match frame[0] {
                b'P' => {
                    let (name, sql) = (texts.next().unwrap(), texts.next().unwrap());
                    if sql == b"COMMIT" {
                        self.commits.insert(name.to_vec());
                    }
                }
                b'B' => {
                    texts.next();
                    found |= self.commits.contains(texts.next().unwrap());
                }
                b'Q' => found |= texts.next() == Some(b"COMMIT"),
                _ => {}
            }
        }
    }
}

async fn pass(mut client: TcpStream, state: Arc<State>) {
    let Ok(mut server) = TcpStream::connect(state.server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let mut frames = Frames::default();
    let (mut said, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut said) => {
                let Ok(length @ 1..) = read else { return };
                let commit = frames.commit_in(&said[..length]);
                match state.cut(commit) {
                    Some(Cut::BeforeCommit | Cut::Anywhere) => return,
                    cut => {
                        if server.write_all(&said[..length]).await.is_err() || cut.is_some() {
                            // Closed without the server's answer: it reads what was sent, and then the end.
                            let _ = server.shutdown().await;
                            if cut.is_some() {
                                drop(client);
                                // Until the server has done with it, lest its data be thrown away by a reset.
                                while matches!(server.read(&mut answered).await, Ok(1..)) {}
                            }
                            return;
                        }
                    }
                }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
