//! X.509 certificates: those of enrollments, and the chains that devices present.

use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Name};

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("name either a file or the text of the certificate in pem")]
    Nothing,
    #[error("cannot read {}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("it has no certificate in PEM")]
    NotPem,
    #[error("it is not an X.509 certificate: {0}")]
    NotX509(String),
}

/// SHA-256 of a certificate, as hubs store it: upper-case hexadecimal.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Thumbprint(String);

impl Thumbprint {
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the certificate of an enrollment is: in a file, which is read with the configuration, or here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    file: Option<PathBuf>,
    pem: Option<String>,
}

/// A certificate that has been parsed once, so that it can be again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Source")]
pub struct Certificate {
    der: CertificateDer<'static>,
}

impl TryFrom<Source> for Certificate {
    type Error = CertificateError;

    fn try_from(source: Source) -> Result<Self, Self::Error> {
        match source {
            Source { file: Some(path), pem: None } => match std::fs::read_to_string(&path) {
                Ok(text) => Self::from_pem(&text),
                Err(source) => Err(CertificateError::File { path, source }),
            },
            Source { file: None, pem: Some(text) } => Self::from_pem(&text),
            _ => Err(CertificateError::Nothing),
        }
    }
}

impl Certificate {
    /// Reads the first certificate of a PEM text.
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        let der = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| CertificateError::NotPem)?;
        Self::from_der(der)
    }

    pub(crate) fn from_der(der: CertificateDer<'static>) -> Result<Self, CertificateError> {
        let parsed = X509Certificate::from_der(&der);
        if let Some(problem) = parsed.map(drop).err() {
            return Err(CertificateError::NotX509(problem.to_string()));
        }
        Ok(Self { der })
    }

    pub fn thumbprint(&self) -> Thumbprint {
        Thumbprint::of(&self.der)
    }

    /// True if this certificate's key has signed the other one. A CA signs itself, too.
    pub(crate) fn has_signed(&self, other: &Self) -> bool {
        let (Some(own), Some(other)) = (self.parsed(), other.parsed()) else { return false };
        own.subject().as_raw() == other.issuer().as_raw()
            && own.is_ca()
            && other.verify_signature(Some(own.public_key())).is_ok()
    }

    /// True if it needs no CA: its own key has signed it.
    pub(crate) fn is_self_signed(&self) -> bool {
        self.parsed().is_some_and(|own| {
            own.subject().as_raw() == own.issuer().as_raw() && own.verify_signature(None).is_ok()
        })
    }

    /// The one common name of its subject.
    pub(crate) fn common_name(&self) -> Option<String> {
        common_name(self.parsed()?.subject())
    }

    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }

    pub(crate) fn is_valid_at(&self, now: Timestamp) -> bool {
        self.parsed().is_some_and(|own| {
            let validity = own.validity();
            (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now.as_second())
        })
    }

    /// What may be shown of it.
    pub fn shown(&self) -> CertificateShown {
        let parsed = self.parsed();
        let name = |name: fn(&X509Certificate<'_>) -> String| parsed.as_ref().map(name).unwrap_or_default();
        let time = |time: fn(&X509Certificate<'_>) -> i64| {
            parsed.as_ref().and_then(|own| Timestamp::from_second(time(own)).ok()).unwrap_or_default()
        };
        CertificateShown {
            thumbprint: self.thumbprint(),
            subject: name(|own| text(own.subject())),
            issuer: name(|own| text(own.issuer())),
            serial_number: name(|own| own.raw_serial_as_string().replace(':', "").to_uppercase()),
            not_before: time(|own| own.validity().not_before.timestamp()),
            not_after: time(|own| own.validity().not_after.timestamp()),
        }
    }

    fn parsed(&self) -> Option<X509Certificate<'_>> {
        Some(X509Certificate::from_der(&self.der).ok()?.1)
    }
}

/// The one common name in a subject.
pub(crate) fn common_name(subject: &X509Name<'_>) -> Option<String> {
    let mut names = subject.iter_common_name();
    let name = names.next()?.as_str().ok()?.to_owned();
    names.next().is_none().then_some(name)
}

fn text(name: &X509Name<'_>) -> String {
    name.to_string()
}

/// What may be shown of a certificate: all of it is public.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateShown {
    /// SHA-256 in upper-case hexadecimal.
    pub thumbprint: Thumbprint,
    pub subject: String,
    pub issuer: String,
    pub serial_number: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// What a device presents in its TLS handshake: its own certificate, then others in any order. Of each
/// the handshake has proven nothing but that the device has the key of the first.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub leaf: Certificate,
    pub others: Vec<Certificate>,
}

impl Chain {
    /// `None` if any of them is no certificate.
    pub fn of(presented: &[CertificateDer<'_>]) -> Option<Self> {
        let all = presented.iter().map(|der| Certificate::from_der(der.clone().into_owned()).ok());
        let mut all = all.collect::<Option<Vec<_>>>()?.into_iter();
        Some(Self { leaf: all.next()?, others: all.collect() })
    }

    /// The way from the leaf upward, the leaf left out, through what was presented and what DPS knows.
    pub fn issuers<'c>(&'c self, known: &[&'c Certificate]) -> Vec<&'c Certificate> {
        let mut way: Vec<&Certificate> = Vec::new();
        let mut current = &self.leaf;
        let candidates: Vec<&Certificate> = self.others.iter().chain(known.iter().copied()).collect();
        while let Some(next) = candidates
            .iter()
            .copied()
            .find(|issuer| *issuer != current && !way.contains(issuer) && issuer.has_signed(current))
        {
            way.push(next);
            current = next;
        }
        way
    }
}
