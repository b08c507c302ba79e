//! Certificates that DPS issues as a device registers: the signing request (CSR) in the body of register is
//! checked first, and the certificate is made once it is known that the device will be assigned.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rcgen::{
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, PublicKeyData as _, SubjectPublicKeyInfo,
};
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use super::by_certificate::is_name_of;
use super::call::Call;
use super::refusal::Refusal;
use crate::certificate::{Certificate, common_name};
use crate::config::{CsrUnderOtherVersion, IssuanceOverHttps, Readings};
use crate::issuing_ca::Leaf;

/// The size of the largest signing request, as it is sent.
const MAX_CSR: usize = 8 * 1024;
/// Certificates are valid from a little before they are issued, for those whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(5 * 60);

/// A signing request that was checked.
pub(super) struct SigningRequest {
    key: SubjectPublicKeyInfo,
    validity: Duration,
}

impl Call<'_> {
    /// The checked signing request of a registration, if it has one.
    pub(super) fn signing_request(&self, csr: Option<Value>) -> Result<Option<SigningRequest>, Refusal> {
        let Some(csr) = self.known_csr(csr)? else { return Ok(None) };
        if self.readings.issuance_over_https == IssuanceOverHttps::Refused {
            return Err(Refusal::BadRequest("Certificates are not issued over HTTPS."));
        }
        let Some(policy) = self.verified.enrollment.issuance else {
            return Err(Refusal::BadRequest("The enrollment has no certificate policy."));
        };
        let key = requested_key(&csr, self.registration_id, self.readings)?;
        Ok(Some(SigningRequest { key, validity: policy.validity }))
    }

    /// The signing request, if the api-version of the call has such a field.
    pub(super) fn known_csr(&self, csr: Option<Value>) -> Result<Option<Value>, Refusal> {
        match (csr, self.issuance.in_version, self.readings.csr_under_other_version) {
            (csr, true, _) => Ok(csr),
            (Some(_), false, CsrUnderOtherVersion::Refused) => {
                Err(Refusal::BadRequest("This api-version issues no certificates."))
            }
            (_, false, _) => Ok(None),
        }
    }

    pub(super) fn issue(&self, asked: &SigningRequest) -> Result<Certificate, Refusal> {
        let now = self.now.wall;
        let leaf = Leaf {
            common_name: &self.answered_id(),
            key: &asked.key,
            serial_number: self.ids.serial_number(),
            not_before: now.checked_sub(BACKDATED).unwrap_or(Timestamp::MIN),
            not_after: now.checked_add(asked.validity).unwrap_or(Timestamp::MAX),
        };
        self.issuance.ca.issue(&leaf).map_err(|_| Refusal::BadRequest("The csr cannot be signed."))
    }
}

/// The public key of a signing request that its own key has signed, for the device alone.
fn requested_key(
    csr: &Value,
    registration_id: &str,
    readings: &Readings,
) -> Result<SubjectPublicKeyInfo, Refusal> {
    const NO_CSR: Refusal = Refusal::BadRequest("The csr is no PKCS#10 request in base64 of DER.");
    let text = csr.as_str().ok_or(NO_CSR)?;
    if text.len() > MAX_CSR {
        return Err(Refusal::BadRequest("The csr is larger than 8 KB."));
    }
    let der = STANDARD.decode(text).map_err(|_| NO_CSR)?;
    let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|_| NO_CSR)?;
    if !rest.is_empty() {
        return Err(NO_CSR);
    }
    let info = &request.certification_request_info;
    let key = SubjectPublicKeyInfo::from_der(info.subject_pki.raw).ok();
    let kinds = [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_RSA_SHA256];
    let Some(key) = key.filter(|key| kinds.contains(&key.algorithm())) else {
        return Err(Refusal::BadRequest("The key of the csr is not ECDSA with P-256 or P-384, nor RSA."));
    };
    if request.verify_signature().is_err() {
        return Err(Refusal::BadRequest("The csr is not signed with its own key."));
    }
    match common_name(&info.subject) {
        Some(name) if is_name_of(&name, registration_id, readings) => Ok(key),
        _ => Err(Refusal::BadRequest("The common name of the csr is not the registrationId.")),
    }
}
