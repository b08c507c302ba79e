//! Sockets: connections are accepted, served, and ended when the simulator ends.

mod body;
pub(crate) mod device;
mod exchange;
mod pacing;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use hyper_util::server::graceful::GracefulConnection;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long open requests may take while the simulator stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause after a connection could not be accepted, for example for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Changes when the simulator has to stop, or when the sender is dropped.
pub(crate) type Stop = watch::Receiver<bool>;

/// Binds a listener; an error names the address.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { address, source })
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// Serves every connection in a task of its own until told to stop; then waits a moment for them.
pub(crate) async fn accept<F>(listener: TcpListener, mut stop: Stop, serve: impl Fn(TcpStream, Stop) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // It fails only for a connection that has ended already.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(serve(stream, stop.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    // Connections that are still open end when the set is dropped.
    let _ = tokio::time::timeout(STOP_TIMEOUT, all).await;
}

/// Serves a connection until it ends; when told to stop, until its open request is answered.
pub(crate) async fn serve_until_stop<C>(connection: &mut C, mut stop: Stop) -> Result<(), C::Error>
where
    C: GracefulConnection + Unpin,
{
    let mut connection = Pin::new(connection);
    tokio::select! {
        ended = &mut connection => ended,
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}
