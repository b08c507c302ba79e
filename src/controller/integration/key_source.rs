//! Where a device's own key or certificate was read. Pure.

use crate::api::attestation::CredentialStatus;
use crate::dps::attestation::CredentialId;
use crate::fleet::credential;

/// A Secret that a device's own key or certificate was read from, and at which version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySource {
    pub secret: String,
    /// `None` where it is known by name only.
    pub version: Option<String>,
    /// Which one that was.
    pub key: Option<CredentialId>,
}

impl KeySource {
    /// Where a status says that the device's own credential was looked at.
    pub fn stated(status: &CredentialStatus) -> Option<Self> {
        let CredentialStatus { secret_name, secret_resource_version, .. } = status;
        let version = secret_resource_version.clone();
        Some(Self { secret: secret_name.clone()?, version, key: credential::read(status) })
    }

    /// True if both are the same version of one Secret.
    pub fn is_same_version(&self, other: &Self) -> bool {
        self.secret == other.secret && self.version == other.version
    }
}
