//! The device endpoint: TLS and HTTP/1.1.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::Stop;
use super::exchange::Exchange;
use super::line::{Line, Paced};
use crate::shared::{Outage, Shared};

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Serves one connection of a device.
pub(crate) async fn serve(shared: Arc<Shared>, tls: TlsAcceptor, stream: TcpStream, mut stop: Stop) {
    match shared.outage() {
        Outage::None => {}
        Outage::Reset => {
            // Without it the connection merely ends; there is nothing better to do.
            let _ = stream.set_zero_linger();
            return;
        }
        Outage::Silent => {
            tokio::select! {
                () = shared.silence_ends() => {}
                _ = stop.changed() => {}
            }
            return;
        }
    }
    let handshake = tokio::time::timeout(HANDSHAKE_LIMIT, tls.accept(stream)).await;
    let Ok(Ok(stream)) = handshake else {
        tracing::debug!("a TLS handshake failed");
        return;
    };
    let line = Arc::new(Line::default());
    let service = service_fn(|request| {
        let (shared, line) = (Arc::clone(&shared), Arc::clone(&line));
        async move { Exchange::begin(&shared, &line, request).await }
    });
    let mut connection =
        http1::Builder::new().serve_connection(TokioIo::new(Paced::new(stream, Arc::clone(&line))), service);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        _ = stop.changed() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
    if line.is_to_be_reset() {
        connection.into_parts().io.into_inner().reset();
    }
}
