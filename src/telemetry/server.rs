//! Probes and metrics over HTTP. Nothing here is secret, and nothing can be changed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::Telemetry;

/// Connections at a time; further ones wait, because the process needs its file descriptors.
const CONNECTIONS: usize = 64;
/// Time until a request's headers have to be there.
const HEADERS: Duration = Duration::from_secs(5);
/// Time until a connection ends, so that idle ones do not keep others out.
const CONNECTION: Duration = Duration::from_secs(60);

/// The text format that every Prometheus reads.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("--http-addr {address} cannot be listened on; is it taken?")]
pub struct NotListening {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// Serves until the process ends; returns the address, whose port was chosen if 0 was asked for.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn start(address: SocketAddr, telemetry: Arc<Telemetry>) -> Result<SocketAddr, NotListening> {
    let failed = |source| NotListening { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(telemetry);
    tokio::spawn(accept(listener, router));
    Ok(bound)
}

async fn accept(listener: TcpListener, router: Router) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    // The semaphore is never closed.
    while let Ok(slot) = slots.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, router.clone(), slot));
            }
            // Out of file descriptors, or the peer is gone already: others may get through.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn serve(stream: TcpStream, router: Router, _slot: OwnedSemaphorePermit) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // However it ends, the peer knows as much as there is to know.
    let _ = timeout(CONNECTION, connection).await;
}

async fn livez(State(telemetry): State<Arc<Telemetry>>) -> (StatusCode, &'static str) {
    if telemetry.health.is_alive() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the loop has stopped\n")
    }
}

async fn readyz(State(telemetry): State<Arc<Telemetry>>) -> (StatusCode, &'static str) {
    if telemetry.health.is_ready() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the cluster's objects have not all been read\n")
    }
}

async fn metrics(State(telemetry): State<Arc<Telemetry>>) -> impl IntoResponse {
    match telemetry.metrics.text() {
        Ok(text) => (StatusCode::OK, [(CONTENT_TYPE, TEXT)], text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, [(CONTENT_TYPE, TEXT)], error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn idle_connections_do_not_keep_others_out() {
        let telemetry = Arc::new(Telemetry::new().unwrap());
        let address = start("127.0.0.1:0".parse().unwrap(), telemetry).await.unwrap();
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS + 8 {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let begun = Instant::now();
        let mut asked = TcpStream::connect(address).await.unwrap();
        asked.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        timeout(4 * HEADERS, asked.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(begun.elapsed() >= HEADERS / 2, "it had to wait for the idle ones");
    }
}
