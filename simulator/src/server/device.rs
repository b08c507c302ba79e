//! The device endpoint: TLS and HTTP/1.1.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::exchange::Exchange;
use super::pacing::{PacedStream, Pacing};
use super::{Stop, serve_until_stop};
use crate::shared::{Outage, Shared};

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Serves one connection of a device.
pub(crate) async fn serve(shared: Arc<Shared>, tls: TlsAcceptor, stream: TcpStream, mut stop: Stop) {
    match shared.outage() {
        Outage::None => {}
        Outage::Reset => {
            // Where the option cannot be set the connection ends without a reset.
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
    let pacing = Arc::new(Pacing::default());
    let service = service_fn(|request| {
        let (shared, pacing) = (Arc::clone(&shared), Arc::clone(&pacing));
        async move { Exchange::run(&shared, &pacing, request).await }
    });
    let stream = PacedStream::new(stream, Arc::clone(&pacing));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = serve_until_stop(&mut connection, stop).await {
        tracing::debug!(%error, "a connection ended");
    }
    if pacing.reset_requested() {
        connection.into_parts().io.into_inner().reset();
    }
}
