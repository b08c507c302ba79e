//! A certificate that DPS issues to a device in the course of its registration: the key that is made for it, the request
//! (PKCS#10) that goes with the registration, and the chain that comes back. Shapes:
//! `specification/deviceprovisioningservices/data-plane`, RegisterDeviceAndIssueCertificate, and
//! `concept-certificate-issuance` in Microsoft's documentation.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pem::{EncodeConfig, LineEnding, Pem};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
};
use zeroize::{Zeroize, Zeroizing};

use super::attestation::certificate::{CertificateProblem, DeviceCertificate, TlsFiles};
use super::ids::RegistrationId;

/// Leaf, issuing CA and root; more than there are.
const CHAIN_MAX: usize = 10;

/// Curves of keys that are made for devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyCurve {
    P256,
    /// The one that Microsoft's documentation names.
    #[default]
    P384,
}

/// The system has no random numbers to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no key can be made: the system gives no random numbers")]
pub struct NoRandomness;

/// A key that was made for one registration of a device, and the request for its certificate. The key is in no
/// other place until its certificate is there: one that is lost has to be made, and certified, again.
pub struct CertificateRequest {
    id: RegistrationId,
    /// PEM.
    key: Zeroizing<String>,
    /// Base64 of the DER, as it travels.
    csr: String,
}

impl fmt::Debug for CertificateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CertificateRequest(…)")
    }
}

impl PartialEq for CertificateRequest {
    fn eq(&self, other: &Self) -> bool {
        self.csr == other.csr
    }
}

impl CertificateRequest {
    /// Makes a key, and the request for a certificate whose common name is the registration id.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn new(id: &RegistrationId, curve: KeyCurve) -> Result<Self, NoRandomness> {
        let algorithm = match curve {
            KeyCurve::P256 => &PKCS_ECDSA_P256_SHA256,
            KeyCurve::P384 => &PKCS_ECDSA_P384_SHA384,
        };
        let mut key = KeyPair::generate_for(algorithm).map_err(|_| NoRandomness)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, id.as_str());
        let csr = params.serialize_request(&key).map(|csr| STANDARD.encode(csr.der()));
        let text = Zeroizing::new(key.serialize_pem());
        key.zeroize();
        Ok(Self { id: id.clone(), key: text, csr: csr.map_err(|_| NoRandomness)? })
    }

    /// One whose key is known: what a fuzzer feeds was issued for it.
    #[cfg(any(test, fuzzing))]
    pub(super) fn of_key(id: &RegistrationId, key: &str) -> Self {
        Self { id: id.clone(), key: Zeroizing::new(key.to_owned()), csr: String::new() }
    }

    /// As it travels: base64 of the DER.
    pub(super) fn csr(&self) -> &str {
        &self.csr
    }

    /// The certificate that has come of it. `chain`: base64 of the DER of the leaf and of each CA above it.
    ///
    /// # Errors
    /// If it is none for this key and this device.
    pub(super) fn issued(&self, chain: &[String]) -> Result<Arc<DeviceCertificate>, CertificateProblem> {
        if chain.len() > CHAIN_MAX {
            return Err(CertificateProblem::TooMany(CHAIN_MAX));
        }
        let mut certificates = Vec::new();
        for (place, text) in chain.iter().enumerate() {
            let der = STANDARD.decode(text).map_err(|_| CertificateProblem::Damaged(place + 1))?;
            certificates.push(encoded(der));
        }
        let whole = self.read(&certificates, None)?;
        // Who is shown the chain has the root already, or trusts none that it is shown.
        let (subject, issuer) = &whole.facts().last;
        if certificates.len() < 2 || subject != issuer {
            return Ok(Arc::new(whole));
        }
        let root = certificates.pop();
        self.read(&certificates, root).map(Arc::new)
    }

    fn read(
        &self,
        certificates: &[String],
        authority: Option<String>,
    ) -> Result<DeviceCertificate, CertificateProblem> {
        let files = TlsFiles {
            certificates: certificates.concat().into_bytes(),
            key: Zeroizing::new(self.key.as_bytes().to_vec()),
            authority: authority.map(String::into_bytes),
        };
        DeviceCertificate::read(files, &self.id)
    }
}

fn encoded(der: Vec<u8>) -> String {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new("CERTIFICATE", der), config)
}

#[cfg(test)]
mod tests {
    use dps_dev::pki::Identity;
    use x509_parser::certification_request::X509CertificationRequest;
    use x509_parser::prelude::FromDer as _;

    use super::*;

    fn id() -> RegistrationId {
        RegistrationId::parse("truck-1").unwrap()
    }

    #[test]
    fn a_request_names_the_device_and_shows_its_key_and_not_the_private_one() {
        for curve in [KeyCurve::P256, KeyCurve::P384] {
            let request = CertificateRequest::new(&id(), curve).unwrap();
            let der = STANDARD.decode(request.csr()).unwrap();
            let (_, read) = X509CertificationRequest::from_der(&der).unwrap();
            let subject = &read.certification_request_info.subject;
            assert_eq!(subject.to_string(), "CN=truck-1", "{curve:?}");
            assert_eq!(format!("{request:?}"), "CertificateRequest(…)");
            assert!(der.len() < 8 * 1024);
        }
    }

    #[test]
    fn each_registration_has_a_key_of_its_own() {
        let (one, two) =
            (CertificateRequest::new(&id(), KeyCurve::P384), CertificateRequest::new(&id(), KeyCurve::P384));
        assert_ne!(one.unwrap(), two.unwrap());
    }

    /// What DPS would issue for it, as it travels: leaf, issuing CA, root.
    fn chain(request: &CertificateRequest, common_name: &str) -> Vec<String> {
        let root = Identity::root("dps-root").unwrap();
        let ca = root.intermediate("dps-issuing").unwrap();
        let leaf = ca.device_of_key(common_name, &request.key).unwrap();
        [&leaf, &ca, &root].map(|one| STANDARD.encode(pem::parse(&one.pem).unwrap().contents())).to_vec()
    }

    #[test]
    fn what_is_issued_has_the_chain_without_its_root_and_the_key_that_was_made() {
        for curve in [KeyCurve::P256, KeyCurve::P384] {
            let request = CertificateRequest::new(&id(), curve).unwrap();
            let issued = request.issued(&chain(&request, "truck-1")).unwrap();
            let TlsFiles { certificates, key, authority } = issued.reveal();
            let count = |text: &[u8]| String::from_utf8_lossy(text).matches("BEGIN CERTIFICATE").count();
            assert_eq!((count(certificates), count(authority.as_ref().unwrap())), (2, 1), "{curve:?}");
            assert_eq!(key.as_slice(), request.key.as_bytes());
            assert_eq!(issued.facts().issuer, "CN=dps-issuing");
        }
    }

    #[test]
    fn a_chain_that_is_not_for_this_key_and_this_device_is_refused() {
        let request = CertificateRequest::new(&id(), KeyCurve::P256).unwrap();
        let good = chain(&request, "truck-1");
        let other = CertificateRequest::new(&id(), KeyCurve::P256).unwrap();
        let [leaf, ca, root] = [0, 1, 2].map(|place: usize| good[place].clone());
        for (what, bad) in [
            ("of another device", chain(&request, "truck-2")),
            ("for another key", chain(&other, "truck-1")),
            ("in another order", vec![ca.clone(), leaf.clone(), root.clone()]),
            ("without what issued it", vec![leaf.clone(), root, ca]),
            ("with another root", vec![leaf.clone(), good[1].clone(), chain(&other, "truck-1")[2].clone()]),
            ("cut off", vec![leaf[..leaf.len() / 2].to_owned()]),
            ("no base64", vec!["?".to_owned()]),
            ("nothing", vec![String::new()]),
            ("none", Vec::new()),
            ("too long", vec![leaf; 11]),
        ] {
            assert!(request.issued(&bad).is_err(), "{what}");
        }
        let without_root = request.issued(&good[..2]).unwrap();
        assert_eq!(without_root.reveal().authority, None);
        assert_eq!(without_root.id(), request.issued(&good).unwrap().id());
    }
}
