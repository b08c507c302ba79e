//! The device at the other end of a connection, as the TLS handshake has shown it.

use rustls::{HandshakeKind, ServerConnection};

use crate::certificate::Chain;

#[derive(Debug)]
pub(crate) struct Peer {
    /// The number of the connection, from 1.
    pub connection: u64,
    /// The handshake resumed a session of before.
    pub resumed: bool,
    pub chain: Option<Chain>,
}

impl Peer {
    pub fn of(connection: u64, tls: &ServerConnection) -> Self {
        Self {
            connection,
            resumed: matches!(tls.handshake_kind(), Some(HandshakeKind::Resumed)),
            chain: tls.peer_certificates().and_then(Chain::of),
        }
    }
}
