//! The CA of the certificates that are issued to devices: a root, and an issuing CA under it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, SerialNumber, SubjectPublicKeyInfo,
};

use crate::certificate::Certificate;
use crate::tls::common_name;

const ROOT_NAME: &str = "dps-simulator issuance root";
const ISSUING_NAME: &str = "dps-simulator issuing CA";

/// Two CAs with keys of their own, which each simulator makes for itself.
#[derive(Debug)]
pub(crate) struct IssuingCa {
    issuer: Issuer<'static, KeyPair>,
    /// The certificates of the issuing CA and of the root, DER in base64.
    above: [String; 2],
    root_pem: String,
}

/// What a device's certificate has to say.
pub(crate) struct Leaf<'a> {
    pub common_name: &'a str,
    pub key: &'a SubjectPublicKeyInfo,
    pub serial_number: [u8; 16],
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl IssuingCa {
    pub fn generate() -> Result<Self, rcgen::Error> {
        let root_key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
        let root_params = ca_params(ROOT_NAME, 1);
        let root = root_params.self_signed(&root_key)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
        let params = ca_params(ISSUING_NAME, 0);
        let issuing = params.signed_by(&key, &Issuer::new(root_params, root_key))?;
        Ok(Self {
            above: [&issuing, &root].map(|certificate| STANDARD.encode(certificate.der())),
            root_pem: root.pem(),
            issuer: Issuer::new(params, key),
        })
    }

    pub fn issue(&self, leaf: &Leaf<'_>) -> Result<Certificate, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(leaf.common_name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        // Otherwise it would come from the key, and be that of every certificate of the key.
        params.serial_number = Some(SerialNumber::from_slice(&leaf.serial_number));
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_1970(leaf.not_before);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_1970(leaf.not_after);
        let issued = params.signed_by(leaf.key, &self.issuer)?;
        Certificate::from_der(issued.der().clone()).map_err(|_| rcgen::Error::CouldNotParseCertificate)
    }

    /// A device's certificate and those above it, up to the root: DER in base64.
    pub fn chain_of(&self, leaf: &Certificate) -> Vec<String> {
        std::iter::once(STANDARD.encode(leaf.der())).chain(self.above.iter().cloned()).collect()
    }

    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }
}

/// Its time is the longest that rcgen has: it must not end before a device's, whatever a test's clock says.
fn ca_params(name: &str, cas_below: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(cas_below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

/// Certificates of before 1970 begin there: nobody's clock is that far behind.
fn since_1970(at: Timestamp) -> Duration {
    Duration::from_secs(at.as_second().max(0).unsigned_abs())
}
