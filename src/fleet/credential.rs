//! Credentials as a device's status names them.

use crate::api::attestation::{CredentialStatus, CredentialType};
use crate::dps::attestation::{CredentialId, CredentialKind};

/// The credential that a status names.
pub fn read(status: &CredentialStatus) -> Option<CredentialId> {
    let kind = match status.kind {
        CredentialType::SymmetricKey => CredentialKind::GroupKey,
    };
    CredentialId::parse(kind, &status.fingerprint)
}

/// The form that a credential has in a status.
pub fn show(id: CredentialId) -> CredentialStatus {
    let kind = match id.kind() {
        CredentialKind::GroupKey => CredentialType::SymmetricKey,
    };
    CredentialStatus { kind, slot: None, fingerprint: id.to_string() }
}
