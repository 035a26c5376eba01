//! Fixed ports, held for servers that come and go: what this kernel makes of a port that is bound and never listened on.

use crate::common::{folder, tools};
use local::kafka::{Kafka, KafkaConfig};
use local::ports::{self, Port};
use local::postgres::{Postgres, PostgresConfig};
use local::process::Process;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;

/// A fixed port, held. Like those of the services it is one that the kernel gives to outgoing connections.
async fn held() -> Port {
    // Kept until the port is held, and by a socket that lets another have it, too.
    let chosen = TcpSocket::new_v4().unwrap();
    chosen.set_reuseaddr(true).unwrap();
    chosen.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let number = chosen.local_addr().unwrap().port();
    ports::reserve(&[(number, "a server")]).await.unwrap().remove(0)
}

/// Starts it, kills it while a client is connected, which leaves the port with an ended connection, and starts it again.
async fn start_kill_and_start(server: &Process, port: &Port) {
    server.start().await.unwrap();
    let mut client = TcpStream::connect(port.address()).await.unwrap();
    server.kill().await.unwrap();
    // Either end is an end.
    let _ = client.read(&mut [0]).await;
    server.start().await.unwrap();
    server.terminate().await.unwrap();
}

#[tokio::test]
async fn postgres_listens_on_a_port_that_is_held_for_it_also_after_it_was_killed() {
    let (dir, port) = (folder(), held().await);
    let config = PostgresConfig { dir: dir.path().into(), port: port.clone(), fsync: false, settings: Vec::new() };
    let server = Postgres::create(&tools(), config).await.unwrap();

    start_kill_and_start(server.process(), &port).await;
}

#[tokio::test]
async fn kafka_listens_on_ports_that_are_held_for_it_also_after_it_was_killed() {
    let (dir, port, controller_port) = (folder(), held().await, held().await);
    let config = KafkaConfig { dir: dir.path().into(), port: port.clone(), controller_port, settings: Vec::new() };
    let server = Kafka::create(&tools(), config).await.unwrap();

    start_kill_and_start(server.process(), &port).await;
}

#[tokio::test]
async fn a_service_listens_on_a_port_that_is_held_for_it_also_with_its_last_connections_not_yet_forgotten() {
    let port = held().await;

    // As tonic and axum do. In a process of its own: what another test forks has this process's sockets for a moment, and would
    // listen with us.
    let script = r#"
import socket, sys
for _ in range(2):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(sys.argv[1])))
    listener.listen()
    client = socket.create_connection(listener.getsockname())
    accepted, _ = listener.accept()
    # The server's end first: that is the one which is kept in mind.
    accepted.close()
    listener.close()
    client.close()
"#;
    let server = Command::new("python3").args(["-c", script, &port.number().to_string()]).output().await.unwrap();

    assert!(server.status.success(), "{}", String::from_utf8_lossy(&server.stderr));
}

#[tokio::test]
async fn no_outgoing_connection_gets_a_port_that_is_held() {
    // Asks the kernel for a connection from this one port, if it can be asked: Linux 6.3 and later.
    let script = r#"
import errno, socket, struct, sys
port, server = int(sys.argv[1]), int(sys.argv[2])
outgoing = socket.socket()
try:
    outgoing.setsockopt(socket.IPPROTO_IP, 51, struct.pack("I", port << 16 | port))  # IP_LOCAL_PORT_RANGE
    outgoing.connect(("127.0.0.1", server))
    print("got", outgoing.getsockname()[1])
except OSError as error:
    print(errno.errorcode[error.errno])
"#;
    let port = held().await;
    let number = port.number();
    let server = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let to = server.local_addr().unwrap().port().to_string();
    let connect = async || {
        let mut python = Command::new("python3");
        let output = python.args(["-c", script, &number.to_string(), &to]).output().await.unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };

    let while_held = connect().await;
    drop(port);
    let afterwards = connect().await;

    if while_held != "ENOPROTOOPT" {
        assert_eq!(while_held, "EADDRNOTAVAIL");
        assert_eq!(afterwards, format!("got {number}"), "nothing but the holding kept it");
    }
}
