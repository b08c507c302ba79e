//! The files of a Secret with a device's certificate: `tls.crt`, a NUL, `tls.key`.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Version};
use zeroize::Zeroizing;

use super::parts::valid;
use crate::controller::integration::certificate::{FoundCertificate, resolve};
use crate::controller::integration::credentials::Credentials;
use crate::dps::attestation::certificate::TlsFiles;
use crate::dps::attestation::{DeviceCredential, Proof};
use crate::dps::ids::RegistrationId;

const ID: &str = "truck-1";
/// Longest message.
const MESSAGE_MAX: usize = 700;
/// So much of a key's text is no chance.
const PIECE: usize = 16;

pub fn certificate(data: &[u8]) {
    let cut = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (certificates, key) = data.split_at(cut);
    let key = key.get(1..).unwrap_or_default();
    let files =
        TlsFiles { certificates: certificates.to_vec(), key: Zeroizing::new(key.to_vec()), authority: None };
    let found = FoundCertificate::Present {
        kind: "kubernetes.io/tls".to_owned(),
        generated: false,
        version: "1".to_owned(),
        files,
    };
    match resolve("truck-1-tls", found, &valid(RegistrationId::parse(ID))) {
        Ok(credentials) => is_of_device(&credentials, certificates),
        Err(why) => is_well_said(&why.message, key),
    }
}

fn is_of_device(credentials: &Credentials, certificates: &[u8]) {
    let device = credentials.for_device(&valid(RegistrationId::parse(ID)));
    is_a_pair(&valid(device.ok_or("a certificate is a device's own")), certificates);
    assert!(!format!("{credentials:?}").contains("PRIVATE"));
}

/// What is taken is one certificate with its key, and what others make of it, too.
pub(super) fn is_a_pair(device: &DeviceCredential, certificates: &[u8]) {
    let Proof::Certificate(taken) = &device.proof else { return };
    let leaf = valid(CertificateDer::from_pem_slice(certificates));
    let thumbprint: String = Sha256::digest(&leaf).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(device.issuer.to_string(), thumbprint[..16], "it is not the first one");
    let (_, parsed) = valid(X509Certificate::from_der(&leaf));
    // rustls reads those of version 3 only.
    if parsed.version() == X509Version::V3 {
        let matches = taken.certified().keys_match();
        assert!(!matches!(matches, Err(rustls::Error::InconsistentKeys(_))), "{matches:?}");
    }
    let names: Vec<_> = parsed.subject().iter_common_name().map(|name| name.as_str()).collect();
    assert!(matches!(&names[..], [Ok(name)] if name.eq_ignore_ascii_case(ID)), "{names:?}");
    assert!(!parsed.is_ca());
}

/// Short, in one line, and without anything of the key.
fn is_well_said(message: &str, key: &[u8]) {
    assert!(message.len() <= MESSAGE_MAX, "{} characters", message.len());
    assert!(!message.chars().any(char::is_control), "{message:?}");
    // What stands in both files is public.
    let words = key.split(|byte| !byte.is_ascii_alphanumeric() && !b"+/=".contains(byte));
    for word in words.filter(|word| word.len() >= PIECE) {
        let shown =
            word.windows(PIECE).any(|piece| message.as_bytes().windows(PIECE).any(|part| part == piece));
        assert!(!shown, "{message}");
    }
}
