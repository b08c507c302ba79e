//! Keys of enrollments and the device keys that come of them. Both are wiped when dropped and show nothing
//! in `Debug`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

pub use super::key_text::KeyError;
use super::seal::{Seal, Statement};
use super::{CredentialId, CredentialKind, DeviceCredential, Proof, key_text};
use crate::dps::ids::RegistrationId;

/// Sizes of the keys that the service makes. Others are taken as well: people bring their own.
const MADE_BY_AZURE: [usize; 2] = [64, 32];

/// The primary or secondary key of an enrollment group, or of a device's individual enrollment.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrollmentKey {
    kind: CredentialKind,
    bytes: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for EnrollmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnrollmentKey(…)")
    }
}

impl EnrollmentKey {
    /// Reads the base64 text that the portal shows, with white space anywhere. `kind`: of the enrollment.
    ///
    /// # Errors
    /// What is wrong with it, without quoting it.
    pub fn parse(kind: CredentialKind, text: &[u8]) -> Result<Self, KeyError> {
        key_text::read(text).map(|bytes| Self { kind, bytes })
    }

    /// What a device proves its identity with: for a group base64(HMAC-SHA256(group key, registration id)),
    /// as "Symmetric key attestation" defines it; an individual enrollment's key is the device's.
    pub fn for_device(&self, id: &RegistrationId) -> DeviceCredential {
        let key = match self.kind {
            CredentialKind::GroupKey => STANDARD.encode(hmac_sha256(&self.bytes, id.as_str().as_bytes())),
            CredentialKind::IndividualKey | CredentialKind::Certificate => STANDARD.encode(&*self.bytes),
        };
        DeviceCredential { issuer: self.id(), proof: Proof::SymmetricKey(DeviceKey(Zeroizing::new(key))) }
    }

    /// Its size in bytes, if Azure makes none of that size: 64 bytes today, 32 in earlier years.
    pub fn unusual_size(&self) -> Option<usize> {
        Some(self.bytes.len()).filter(|size| !MADE_BY_AZURE.contains(size))
    }

    /// The seal under which a statement can be believed later.
    pub fn seal(&self, statement: &Statement) -> Seal {
        Seal::new(&self.bytes, statement)
    }

    /// True if the statement was sealed with this key.
    pub fn has_sealed(&self, statement: &Statement, seal: &Seal) -> bool {
        seal.is_of(&self.bytes, statement)
    }

    /// The first 8 bytes of SHA-256("dps-operator/v1" 0x00 key).
    pub fn id(&self) -> CredentialId {
        let digest = Sha256::new_with_prefix(b"dps-operator/v1\0").chain_update(&*self.bytes).finalize();
        CredentialId::new(self.kind, &digest)
    }
}

/// A device's own key, base64. It authenticates the device to DPS and to its hub.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceKey(Zeroizing<String>);

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey(…)")
    }
}

impl DeviceKey {
    /// Reads what `reveal` shows: base64 of 32 bytes if it was derived, of any key's size otherwise.
    pub(super) fn read(kind: CredentialKind, text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(text).ok()?);
        let fits = match kind {
            CredentialKind::GroupKey => bytes.len() == 32,
            CredentialKind::IndividualKey => key_text::SIZES.contains(&bytes.len()),
            CredentialKind::Certificate => false,
        };
        fits.then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The base64 text, for the one place that has to show it: the device's Secret.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Signs a text with the decoded key; base64.
    pub(super) fn sign(&self, text: &[u8]) -> Zeroizing<String> {
        let bytes = Zeroizing::new(STANDARD.decode(self.0.as_bytes()).unwrap_or_default());
        Zeroizing::new(STANDARD.encode(hmac_sha256(&bytes, text)))
    }
}

#[cfg(test)]
impl DeviceKey {
    /// A key as published vectors give it.
    pub(crate) fn for_test(base64: &str) -> Self {
        Self(Zeroizing::new(base64.to_owned()))
    }
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    // HMAC takes keys of any length, so this cannot fail; an empty tag would only be refused by DPS.
    let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(key) else { return [0; 32] };
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHED_KEY: &str =
        "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==";

    #[test]
    fn the_published_derivation_vector_holds() {
        let id = RegistrationId::parse("sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6").unwrap();
        let key = EnrollmentKey::parse(CredentialKind::GroupKey, PUBLISHED_KEY.as_bytes()).unwrap();
        let Proof::SymmetricKey(device) = key.for_device(&id).proof else { panic!("it is a key") };
        assert_eq!(device.reveal(), "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=");
    }

    #[test]
    fn white_space_around_a_key_is_trimmed_and_changes_nothing() {
        let padded = format!(" {PUBLISHED_KEY}\r\n");
        assert_eq!(
            EnrollmentKey::parse(CredentialKind::GroupKey, padded.as_bytes()),
            EnrollmentKey::parse(CredentialKind::GroupKey, PUBLISHED_KEY.as_bytes())
        );
    }

    #[test]
    fn different_keys_have_different_ids() {
        let key = EnrollmentKey::parse(CredentialKind::GroupKey, PUBLISHED_KEY.as_bytes()).unwrap();
        let other =
            EnrollmentKey::parse(CredentialKind::GroupKey, STANDARD.encode([1; 32]).as_bytes()).unwrap();
        assert_ne!(key.id(), other.id());
        assert_eq!(key.id(), key.for_device(&RegistrationId::parse("a").unwrap()).issuer);
    }

    #[test]
    fn debug_shows_nothing_of_a_key() {
        let key = EnrollmentKey::parse(CredentialKind::GroupKey, PUBLISHED_KEY.as_bytes()).unwrap();
        let device = key.for_device(&RegistrationId::parse("a").unwrap());
        assert_eq!(format!("{key:?} {:?}", device.proof), "EnrollmentKey(…) SymmetricKey(DeviceKey(…))");
    }

    #[test]
    fn the_key_of_an_individual_enrollment_is_the_devices_as_it_is() {
        let key = EnrollmentKey::parse(CredentialKind::IndividualKey, PUBLISHED_KEY.as_bytes()).unwrap();
        for id in ["a", "b"] {
            let device = key.for_device(&RegistrationId::parse(id).unwrap());
            let Proof::SymmetricKey(own) = &device.proof else { panic!("it is a key") };
            assert_eq!((own.reveal(), device.issuer), (PUBLISHED_KEY, key.id()));
            assert_eq!(DeviceCredential::of_key(key.id(), own.reveal()), Some(device));
        }
        let group = EnrollmentKey::parse(CredentialKind::GroupKey, PUBLISHED_KEY.as_bytes()).unwrap();
        assert_ne!(key.id(), group.id(), "the same bytes prove something else");
        assert_eq!(DeviceCredential::of_key(group.id(), PUBLISHED_KEY), None, "no derived key has 64 bytes");
    }
}
