//! How TLS to DPS is set up, and why a handshake fails.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::CertificateError;

/// The settings in which two TLS configurations can differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsSettings {
    /// PEM or DER, trusted beside the public roots.
    pub ca_bundle: Option<Arc<[u8]>>,
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
            Self::Handshake => {
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
