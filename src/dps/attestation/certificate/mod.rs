//! A device's X.509 certificate with its private key: what is read from its Secret, and everything that can
//! be checked before DPS is asked. Pure.

mod checks;
mod problem;

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use ring::digest;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

pub use self::problem::CertificateProblem;
use super::seal::{Seal, Statement};
use super::{CredentialId, CredentialKind, DeviceCredential, Proof};
use crate::dps::ids::RegistrationId;

/// Largest `tls.crt`, in bytes.
const CHAIN_MAX: usize = 64 * 1024;
/// Largest `tls.key`, in bytes.
const KEY_MAX: usize = 16 * 1024;
/// A leaf and the CAs above it.
const CERTIFICATES_MAX: usize = 10;
/// Seconds by which another clock may be behind that has stamped a certificate.
const TOLERANCE: i64 = 5 * 60;

/// What a Secret of type `kubernetes.io/tls` holds, in PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// `tls.crt`: the device's certificate, then the CAs above it.
    pub certificates: Vec<u8>,
    /// `tls.key`.
    pub key: Zeroizing<Vec<u8>>,
    /// `ca.crt`, if there is one.
    pub authority: Option<Vec<u8>>,
}

impl fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsFiles(…)")
    }
}

/// A certificate that a device may present to DPS. The parsed key is not wiped when it is dropped: ring has
/// no way to. The text is.
#[derive(Clone)]
pub struct DeviceCertificate {
    files: TlsFiles,
    certified: Arc<CertifiedKey>,
    facts: CertificateFacts,
}

/// What may be shown of a certificate: all of it is public.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// SHA-256 of the leaf, as the hub has it.
    pub thumbprint: [u8; 32],
    /// SHA-1 of the leaf, as the portal shows an individual enrollment's.
    pub portal_thumbprint: [u8; 20],
    /// Subject of the CA that has issued the leaf.
    pub issuer: String,
    /// That CA; `None` of a certificate that no CA has issued.
    pub ca: Option<CaId>,
    /// Subject and issuer of the last certificate that is presented: DPS has to know the one that issued it.
    pub last: (String, String),
    /// Unix seconds.
    pub not_before: i64,
    /// Unix seconds.
    pub not_after: i64,
}

/// A CA as the certificates that it issues name it: by its subject, and by its key where they say which one. Another
/// key under the same name is another CA. Shown as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaId(u64);

impl CaId {
    /// `key`: its identifier, if the certificate has it (RFC 5280, 4.2.1.1).
    fn new(subject: &[u8], key: Option<&[u8]>) -> Self {
        let digest = Sha256::new()
            .chain_update(u64::try_from(subject.len()).unwrap_or(u64::MAX).to_be_bytes())
            .chain_update(subject)
            .chain_update(key.unwrap_or_default())
            .finalize();
        Self(digest.first_chunk::<8>().map_or(0, |first| u64::from_be_bytes(*first)))
    }

    /// Reads what `Display` wrote.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten().map(Self)
    }
}

impl fmt::Display for CaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What is kept of a certificate that a device was registered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub not_before: Option<Timestamp>,
    pub not_after: Timestamp,
    pub ca: Option<CaId>,
}

/// How a certificate stands at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Until then, in Unix seconds.
    NotYet(i64),
    Valid,
    Expired,
}

impl CertificateFacts {
    /// Both thumbprints as portals and hubs show them: upper-case hexadecimal.
    pub fn shown_thumbprints(&self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
        format!("SHA-256 {}, SHA-1 {}", hex(&self.thumbprint), hex(&self.portal_thumbprint))
    }

    /// What is kept of it once the device is registered with it.
    pub fn kept(&self) -> Kept {
        let not_before = Timestamp::from_second(self.not_before).ok();
        Kept { not_before, not_after: self.expires(), ca: self.ca }
    }

    /// When it expires. One without an end (RFC 5280, 4.1.2.5) names a time that is later than the last one here.
    pub fn expires(&self) -> Timestamp {
        Timestamp::from_second(self.not_after).unwrap_or(Timestamp::MAX)
    }

    /// `now` in Unix seconds. A certificate that has just been made by a host whose clock is ahead is taken.
    pub fn validity(&self, now: i64) -> Validity {
        if self.not_before > now + TOLERANCE {
            Validity::NotYet(self.not_before)
        } else if self.not_after <= now {
            Validity::Expired
        } else {
            Validity::Valid
        }
    }
}

impl fmt::Debug for DeviceCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DeviceCertificate").field(&self.facts).finish()
    }
}

impl PartialEq for DeviceCertificate {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files
    }
}

impl Eq for DeviceCertificate {}

impl DeviceCertificate {
    /// Reads and checks what the Secret of the device with this registration id holds, but for its dates.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn read(files: TlsFiles, id: &RegistrationId) -> Result<Self, CertificateProblem> {
        let chain = certificates(&files.certificates)?;
        let facts = checks::chain(&chain, id)?;
        let certified = checks::key(&chain, private_key(&files.key)?)?;
        Ok(Self { files, certified: Arc::new(certified), facts })
    }

    /// The first 8 bytes of the leaf's SHA-256: the beginning of the thumbprint that the hub has.
    pub fn id(&self) -> CredentialId {
        CredentialId::new(CredentialKind::Certificate, &self.facts.thumbprint)
    }

    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// What a TLS client presents, and signs with.
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// The texts, for the one place that has to show them: the device's Secret.
    pub fn reveal(&self) -> &TlsFiles {
        &self.files
    }

    /// The seal under which a statement can be believed later.
    pub fn seal(&self, statement: &Statement) -> Seal {
        Seal::new(&self.files.key, statement)
    }

    /// True if the statement was sealed with this key.
    pub fn has_sealed(&self, statement: &Statement, seal: &Seal) -> bool {
        seal.is_of(&self.files.key, statement)
    }

    /// What the device proves its identity with.
    pub fn credential(self: &Arc<Self>) -> DeviceCredential {
        DeviceCredential { issuer: self.id(), proof: Proof::Certificate(self.clone()) }
    }
}

/// The certificates of a PEM text. What stands between them does not matter.
fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateProblem> {
    sized("tls.crt", text, CHAIN_MAX)?;
    let mut chain = Vec::new();
    for read in CertificateDer::pem_slice_iter(text) {
        let der = read.map_err(|_| CertificateProblem::Damaged(chain.len() + 1))?;
        if chain.len() == CERTIFICATES_MAX {
            return Err(CertificateProblem::TooMany(CERTIFICATES_MAX));
        }
        chain.push(der);
    }
    if chain.is_empty() { Err(CertificateProblem::NoCertificate) } else { Ok(chain) }
}

fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, CertificateProblem> {
    sized("tls.key", text, KEY_MAX)?;
    if text.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
        return Err(CertificateProblem::EncryptedKey);
    }
    let mut keys = PrivateKeyDer::pem_slice_iter(text);
    let key = keys.next().ok_or(CertificateProblem::NoKey)?.map_err(|_| CertificateProblem::DamagedKey)?;
    if keys.next().is_some() { Err(CertificateProblem::SeveralKeys) } else { Ok(key) }
}

/// In the first line of an encrypted PKCS#8 key, and in the headers of OpenSSL's older form.
const ENCRYPTED: &[u8] = b"ENCRYPTED";

fn sized(what: &'static str, text: &[u8], most: usize) -> Result<(), CertificateProblem> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(CertificateProblem::Empty(what));
    }
    if text.len() > most {
        return Err(CertificateProblem::TooLarge { what, most: most / 1024 });
    }
    Ok(())
}

/// SHA-256 of a certificate.
fn thumbprint(der: &[u8]) -> [u8; 32] {
    Sha256::digest(der).into()
}

/// SHA-1 of a certificate: a name for it in the portal, on which nothing here relies.
fn portal_thumbprint(der: &[u8]) -> [u8; 20] {
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der);
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
