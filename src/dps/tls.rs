//! How TLS to DPS is set up, and why a handshake fails.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, SignatureScheme};

use super::attestation::certificate::CertificateFacts;

/// The settings in which two TLS configurations can differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsSettings {
    /// PEM or DER, trusted beside the public roots.
    pub ca_bundle: Option<Arc<[u8]>>,
}

/// A device's certificate, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    pub facts: CertificateFacts,
    pub handshake: Handshake,
}

/// What became of a certificate in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// The server did not ask for one. rustls takes part in no renegotiation, where it might do so later.
    NotAskedFor,
    /// The server takes no signature that its key can make.
    KeyNotTaken,
    Sent,
    /// Sent, and the server ended the handshake with an alert.
    Refused,
}

/// Presents a device's certificate when the server asks for one.
#[derive(Debug)]
pub(super) struct Presenter {
    certified: Arc<CertifiedKey>,
    handshake: AtomicU8,
}

impl Presenter {
    pub fn new(certified: Arc<CertifiedKey>) -> Self {
        Self { certified, handshake: AtomicU8::new(Handshake::NotAskedFor as u8) }
    }

    pub fn handshake(&self) -> Handshake {
        let all = [Handshake::NotAskedFor, Handshake::KeyNotTaken, Handshake::Sent];
        let seen = self.handshake.load(Ordering::Relaxed);
        all.into_iter().find(|handshake| *handshake as u8 == seen).unwrap_or(Handshake::NotAskedFor)
    }
}

impl ResolvesClientCert for Presenter {
    /// The CAs that the server names do not matter: it need not name those above an individual enrollment's certificate.
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let fits = self.certified.key.choose_scheme(schemes).is_some();
        let handshake = if fits { Handshake::Sent } else { Handshake::KeyNotTaken };
        self.handshake.store(handshake as u8, Ordering::Relaxed);
        fits.then(|| self.certified.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Why TLS could not be agreed upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFailure {
    /// No trusted CA has issued the server's certificate.
    Issuer,
    /// The server's certificate has expired or is not valid yet.
    Dates,
    /// The server's certificate is for other hosts.
    Name,
    /// The server has ended the handshake with an alert.
    Alert,
    /// Anything else: no version in common, what answers is no TLS.
    Handshake,
}

impl TlsFailure {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Issuer => {
                "its TLS certificate is not trusted: no CA that the operator trusts has issued it. Name the CA in spec.caBundleRef, by the CA's own certificate and not by the server's"
            }
            Self::Dates => {
                "its TLS certificate has expired or is not valid yet; have it renewed, or check the clock of the operator's node"
            }
            Self::Name => "its TLS certificate is for another host; check spec.hostname",
            Self::Alert | Self::Handshake => {
                "the TLS handshake failed; check that spec.hostname names a server that speaks TLS 1.2 or newer at that port"
            }
        }
    }

    /// `None` if TLS is not what failed. A TLS error lies below I/O errors, which do not name what they wrap
    /// as their source.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Self::of(io.get_ref()?);
        }
        match error.downcast_ref::<rustls::Error>() {
            Some(rustls::Error::InvalidCertificate(error)) => Some(Self::of_certificate(error)),
            Some(rustls::Error::AlertReceived(_)) => Some(Self::Alert),
            Some(_) => Some(Self::Handshake),
            None => Self::of(error.source()?),
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        use CertificateError::{
            Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
            NotValidYetContext, UnknownIssuer,
        };
        match error {
            UnknownIssuer => Self::Issuer,
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. } => Self::Dates,
            NotValidForName | NotValidForNameContext { .. } => Self::Name,
            _ => Self::Handshake,
        }
    }
}
