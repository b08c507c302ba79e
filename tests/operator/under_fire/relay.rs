//! What is between the operator and DPS below TLS, and what can happen to connections there.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

/// `protocol_version`: what a server says that speaks TLS 1.1 only.
const ALERT: [u8; 7] = [21, 3, 1, 0, 2, 2, 70];
/// Connections that the system keeps until they are accepted.
const BACKLOG: u32 = 8;
/// On this machine a connection is made within this time, or not at all.
const HANDSHAKE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Everything goes to DPS and back.
    Open,
    /// Connections are accepted, and nothing is ever said.
    Silent,
    /// The server speaks TLS 1.1 only.
    OldTls,
    /// What would open a connection is dropped.
    Blackhole,
}

/// What came over one connection that did not lead to DPS.
type Received = Arc<Mutex<Vec<Vec<u8>>>>;

/// It ends with the value.
pub struct Relay {
    port: u16,
    way: watch::Sender<Way>,
    received: Received,
    task: JoinHandle<()>,
    /// They fill the place for connections that wait to be accepted.
    plugs: Vec<TcpStream>,
}

impl Relay {
    /// An open way to this port.
    pub fn to(dps: u16) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket can be made");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a port is free");
        let listener = socket.listen(BACKLOG).expect("it can listen");
        let port = listener.local_addr().expect("it is bound").port();
        let (sender, way) = watch::channel(Way::Open);
        let received = Received::default();
        let task = tokio::spawn(accept(listener, way, dps, Arc::clone(&received)));
        Self { port, way: sender, received, task, plugs: Vec::new() }
    }

    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Connections that are open end.
    pub async fn becomes(&mut self, way: Way) {
        self.way.send_replace(way);
        self.plugs.clear();
        if way != Way::Blackhole {
            return;
        }
        let port = self.port;
        let connect = async || timeout(HANDSHAKE, TcpStream::connect(("127.0.0.1", port))).await;
        while let Ok(plug) = connect().await {
            self.plugs.push(plug.expect("the listener is there"));
        }
    }

    /// What each connection that did not lead to DPS has brought.
    pub fn received(&self) -> Vec<Vec<u8>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, mut way: watch::Receiver<Way>, dps: u16, received: Received) {
    let mut connections = JoinSet::new();
    while way.wait_for(|way| *way != Way::Blackhole).await.is_ok() {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(serve(stream, way.clone(), dps, Arc::clone(&received)));
            },
            _ = way.changed() => {}
        }
    }
}

async fn serve(mut stream: TcpStream, mut way: watch::Receiver<Way>, dps: u16, received: Received) {
    let now = *way.borrow_and_update();
    let served = async {
        if now == Way::Open {
            let mut dps = TcpStream::connect(("127.0.0.1", dps)).await?;
            copy_bidirectional(&mut stream, &mut dps).await?;
            return Ok::<_, io::Error>(());
        }
        let index = {
            let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
            received.push(Vec::new());
            received.len() - 1
        };
        let mut buffer = [0; 4096];
        loop {
            let size = stream.read(&mut buffer).await?;
            if size == 0 {
                return Ok(());
            }
            received.lock().unwrap_or_else(PoisonError::into_inner)[index].extend(&buffer[..size]);
            if now == Way::OldTls {
                stream.write_all(&ALERT).await?;
            }
        }
    };
    tokio::select! {
        // The operator may go away at any time.
        _ = served => {}
        _ = way.changed() => {}
    }
}
