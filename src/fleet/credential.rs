//! Credentials as a device's status names them.

use crate::api::attestation::{CredentialStatus, CredentialType};
use crate::dps::attestation::{CredentialId, CredentialKind};

/// The credential that a status names. A key of the device's own has a Secret that it was read from.
pub fn read(status: &CredentialStatus) -> Option<CredentialId> {
    let kind = match (status.kind, &status.secret_name) {
        (CredentialType::SymmetricKey, None) => CredentialKind::GroupKey,
        (CredentialType::SymmetricKey, Some(_)) => CredentialKind::IndividualKey,
        (CredentialType::X509, _) => CredentialKind::Certificate,
    };
    CredentialId::parse(kind, status.fingerprint.as_ref()?)
}

/// The form that a credential has in a status, but for what is known of where it came from.
pub fn show(id: CredentialId) -> CredentialStatus {
    let (kind, secret_name) = match id.kind() {
        CredentialKind::GroupKey => (CredentialType::SymmetricKey, None),
        CredentialKind::IndividualKey => (CredentialType::SymmetricKey, Some(String::new())),
        CredentialKind::Certificate => (CredentialType::X509, Some(String::new())),
    };
    CredentialStatus {
        kind,
        slot: None,
        fingerprint: Some(id.to_string()),
        not_before: None,
        not_after: None,
        issuer: None,
        secret_name,
        secret_resource_version: None,
    }
}
