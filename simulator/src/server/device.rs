//! The device endpoint: TLS and HTTP/1.1.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::exchange::Exchange;
use super::pacing::{PacedStream, Pacing};
use super::{Stop, serve_until_stop};
use crate::peer::Peer;
use crate::shared::{Handshake, Outage, Shared};

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// A TLS alert of level fatal, `handshake_failure` (RFC 5246, sections 6.2.1 and 7.2).
const HANDSHAKE_FAILURE: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];

/// Does TLS handshakes, with and without asking for a certificate.
#[derive(Clone)]
pub(crate) struct Acceptors {
    pub asking: TlsAcceptor,
    pub without_request: TlsAcceptor,
}

impl Acceptors {
    /// `None` if there was no handshake.
    async fn accept(&self, mut stream: TcpStream, handshake: Handshake) -> Option<TlsStream<TcpStream>> {
        let tls = match handshake {
            Handshake::Normal => &self.asking,
            Handshake::CertificateNotRequested => &self.without_request,
            Handshake::Slow(milliseconds) => {
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
                &self.asking
            }
            Handshake::Alert => {
                // The client must not find its own message unread, or it would see a reset.
                let _ = stream.read(&mut [0; 16 * 1024]).await;
                let _ = stream.write_all(&HANDSHAKE_FAILURE).await;
                return None;
            }
        };
        match tokio::time::timeout(HANDSHAKE_LIMIT, tls.accept(stream)).await {
            Ok(Ok(stream)) => Some(stream),
            _ => None,
        }
    }
}

/// Serves one connection of a device.
pub(crate) async fn serve(shared: Arc<Shared>, tls: Acceptors, stream: TcpStream, mut stop: Stop) {
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
    let Some(stream) = tls.accept(stream, shared.handshake()).await else {
        tracing::debug!("a TLS handshake failed");
        return;
    };
    let peer = Arc::new(Peer::of(shared.next_connection(), stream.get_ref().1));
    let pacing = Arc::new(Pacing::default());
    let service = service_fn(|request| {
        let (shared, pacing, peer) = (Arc::clone(&shared), Arc::clone(&pacing), Arc::clone(&peer));
        async move { Exchange::run(&shared, &pacing, &peer, request).await }
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
