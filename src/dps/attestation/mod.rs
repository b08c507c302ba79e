//! How a device proves to DPS who it is. What a kind of credential can do is decided in this folder;
//! everything else passes credentials on as they are.

pub mod certificate;
mod key_text;
mod sas;
pub mod seal;
pub mod symmetric_key;

use std::fmt;
use std::sync::Arc;

use http::header::HeaderValue;

use self::certificate::DeviceCertificate;
use self::symmetric_key::DeviceKey;
use super::ids::{IdScope, RegistrationId};

/// Kinds of credentials, by what DPS checks them against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CredentialKind {
    /// A key derived from the symmetric key of an enrollment group.
    GroupKey,
    /// The symmetric key of a device's individual enrollment, used as it is.
    IndividualKey,
    /// An X.509 certificate of the device. Whether a group of its CA admits it or an individual enrollment,
    /// DPS decides by the chain.
    Certificate,
}

impl CredentialKind {
    /// True where DPS takes the registration id as the device id: an enrollment group cannot name one
    /// ("DPS enrollment groups: the registration id is the device id"), an individual enrollment can.
    pub fn device_id_is_registration_id(self) -> bool {
        match self {
            Self::GroupKey => true,
            Self::IndividualKey | Self::Certificate => false,
        }
    }

    /// True where one secret vouches for all devices of an integration, so that its refusal concerns
    /// them all.
    pub fn is_shared(self) -> bool {
        match self {
            Self::GroupKey => true,
            Self::IndividualKey | Self::Certificate => false,
        }
    }
}

/// Identifies a credential without revealing it; shown as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CredentialId {
    kind: CredentialKind,
    fingerprint: u64,
}

impl CredentialId {
    /// Stands for the credentials of devices that each have one of their own, where it does not matter
    /// which.
    pub const OF_EACH_DEVICE: Self = Self { kind: CredentialKind::IndividualKey, fingerprint: 0 };

    /// Takes the first 8 bytes of a digest.
    fn new(kind: CredentialKind, digest: &[u8]) -> Self {
        let fingerprint = digest.first_chunk::<8>().map_or(0, |first| u64::from_be_bytes(*first));
        Self { kind, fingerprint }
    }

    /// Reads what `Display` wrote.
    pub fn parse(kind: CredentialKind, text: &str) -> Option<Self> {
        let fingerprint = (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten()?;
        Some(Self { kind, fingerprint })
    }

    pub fn kind(self) -> CredentialKind {
        self.kind
    }
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.fingerprint)
    }
}

/// What one device proves its identity with, to DPS and to its hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceCredential {
    /// Id of the secret that vouches for the device: for a derived key, the enrollment group's key; for an
    /// individual enrollment's, that key itself; for a certificate, that.
    pub issuer: CredentialId,
    pub proof: Proof,
}

/// The secret part of a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    SymmetricKey(DeviceKey),
    Certificate(Arc<DeviceCertificate>),
}

impl DeviceCredential {
    /// The credential of a device's key as its Secret shows it; `None` if it is none that an enrollment of
    /// this kind can have.
    pub fn of_key(issuer: CredentialId, text: &str) -> Option<Self> {
        Some(Self { issuer, proof: Proof::SymmetricKey(DeviceKey::read(issuer.kind(), text)?) })
    }

    /// The `Authorization` header of a request made at `now` (Unix seconds of DPS's clock), marked as
    /// sensitive. `None` for a credential that authenticates the connection instead.
    pub fn authorize(&self, scope: &IdScope, id: &RegistrationId, now: i64) -> Option<HeaderValue> {
        match &self.proof {
            Proof::SymmetricKey(key) => {
                let token = sas::token(scope, id, key, now + sas::LIFETIME);
                // Escaped and base64 text only, so it is always a valid header value.
                let mut value = HeaderValue::from_str(&token).ok()?;
                value.set_sensitive(true);
                Some(value)
            }
            Proof::Certificate(_) => None,
        }
    }

    /// The certificate that authenticates the connection, if it is one.
    pub fn certificate(&self) -> Option<&Arc<DeviceCertificate>> {
        match &self.proof {
            Proof::SymmetricKey(_) => None,
            Proof::Certificate(certificate) => Some(certificate),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_a_round_trip_and_other_texts_are_not_read() {
        let id = CredentialId::new(CredentialKind::GroupKey, &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(id.to_string(), "0001020304050607");
        assert_eq!(CredentialId::parse(CredentialKind::GroupKey, &id.to_string()), Some(id));
        for text in ["", "0001", "000102030405060g", "00010203040506070"] {
            assert_eq!(CredentialId::parse(CredentialKind::GroupKey, text), None, "{text}");
        }
    }
}
