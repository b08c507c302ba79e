//! Probes and metrics over HTTP. Nothing here is secret, and nothing can be changed.
//!
//! Everybody in the cluster may reach these ports, and a probe that is late ends the process. So each
//! listener has a thread of its own, takes every connection at once, and makes room by closing others:
//! nobody ever waits for somebody else to be quick.

mod connections;
mod pages;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use self::connections::{Connections, Limits};
use super::Telemetry;

/// Time until a request's headers have to be there.
const HEADERS: Duration = Duration::from_secs(1);
/// Bytes that a request's headers may have; what hyper needs at least.
const HEADER_BYTES: usize = 8 * 1024;
/// Time until a connection ends, however slowly its peer reads.
const CONNECTION: Duration = Duration::from_secs(30);
/// Connections that have come and are not taken yet: one that finds no place here waits for a second.
const BACKLOG: u32 = 4096;
/// Wait after a connection could not be taken, for which file descriptors are missing.
const EXHAUSTED: Duration = Duration::from_millis(10);

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `--http-addr`.
    ProbesAndMetrics,
    /// `--probe-addr`.
    Probes,
}

impl Purpose {
    fn flag(self) -> &'static str {
        match self {
            Self::ProbesAndMetrics => "--http-addr",
            Self::Probes => "--probe-addr",
        }
    }
}

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{flag} {address} cannot be listened on; is it taken?")]
pub struct NotListening {
    flag: &'static str,
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// Serves until the process ends; returns the address, whose port was chosen if 0 was asked for.
///
/// # Errors
/// When the address cannot be listened on.
pub fn start(
    purpose: Purpose,
    address: SocketAddr,
    telemetry: Arc<Telemetry>,
) -> Result<SocketAddr, NotListening> {
    // Most of what the process may open is for its work. A probe that comes from the address of a flood
    // has as long to ask as the flood needs for its share.
    let may_open = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let all = usize::try_from(may_open / 8).unwrap_or(usize::MAX).clamp(64, 1024);
    start_with(Limits { all, of_one_peer: all * 3 / 4 }, purpose, address, telemetry)
}

fn start_with(
    limits: Limits,
    purpose: Purpose,
    address: SocketAddr,
    telemetry: Arc<Telemetry>,
) -> Result<SocketAddr, NotListening> {
    let (listens, is_listening) = mpsc::sync_channel(1);
    // A thread of its own answers also while the others are busy with the fleet.
    let serve = move || {
        let begun = runtime().and_then(|runtime| Ok((runtime.block_on(listen(address))?, runtime)));
        let (listener, runtime) = match begun {
            Ok(begun) => begun,
            Err(error) => return listens.send(Err(error)),
        };
        listens.send(listener.local_addr())?;
        runtime.block_on(async { accept(&listener, limits, &pages::router(purpose, telemetry)).await });
        Ok(())
    };
    let thread = thread::Builder::new().name(format!("http {}", address.port())).spawn(serve);
    let bound = thread.and_then(|_| is_listening.recv().unwrap_or_else(|gone| Err(io::Error::other(gone))));
    bound.map_err(|source| NotListening { flag: purpose.flag(), address, source })
}

fn runtime() -> io::Result<Runtime> {
    // The one blocking thread renders metrics.
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()
}

async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(listener: &TcpListener, limits: Limits, router: &Router) {
    let mut tasks = JoinSet::new();
    let mut open: Connections<AbortHandle> = Connections::new(limits);
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, peer)) = accepted {
                let (place, asked) = (open.place(peer.ip()), Arc::new(AtomicBool::new(false)));
                let served = serve(stream, router.clone(), asked.clone());
                let task = tasks.spawn(async move { served.await; place });
                if let Some(closed) = open.admit(place, asked, task) {
                    closed.abort();
                }
            } else {
                // Out of file descriptors, or the peer is gone already.
                if let Some(closed) = open.make_room() {
                    closed.abort();
                }
                sleep(EXHAUSTED).await;
            },
            // Those that were closed for others have lost their places already.
            Some(ended) = tasks.join_next() => if let Ok(place) = ended {
                open.remove(place);
            }
        }
    }
}

/// One request a connection: a peer that has been answered has no reason to stay.
async fn serve(stream: TcpStream, router: Router, asked: Arc<AtomicBool>) {
    // A peer that says nothing takes no buffers.
    if !matches!(timeout(HEADERS, stream.readable()).await, Ok(Ok(()))) {
        return;
    }
    let router = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(|request| {
        asked.store(true, Ordering::Relaxed);
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(HEADER_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // However it ends, the peer knows as much as there is to know.
    let _ = timeout(CONNECTION, connection).await;
}
