//! Which versions of their Secrets the keys were read from. A key that DPS has not accepted is known
//! again by that after a restart: a fingerprint would let people try guesses on any Secret that they
//! name as a key and may not read. Pure.

use crate::api::attestation::{Attestation, KeySlot, SymmetricKey, UnprovenKeys};
use crate::api::references::Referred;

/// The versions, by slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretVersions {
    primary: Option<String>,
    secondary: Option<String>,
}

impl SecretVersions {
    /// Of the Secrets that `find` gives by name.
    pub fn of<'a>(attestation: &Attestation, find: impl Fn(&str) -> &'a Referred) -> Self {
        let Attestation {
            symmetric_key: Some(SymmetricKey { primary_key_ref, secondary_key_ref, active: _ }),
            x509: _,
            per_device: _,
        } = attestation
        else {
            return Self::default();
        };
        let version = |name: &str| match find(name) {
            Referred::Present { version, .. } => Some(version.clone()).filter(|version| !version.is_empty()),
            Referred::Unread | Referred::Missing | Referred::Forbidden | Referred::TooMuch => None,
        };
        Self {
            primary: version(&primary_key_ref.name),
            secondary: secondary_key_ref.as_ref().and_then(|key| version(&key.name)),
        }
    }

    /// What the status says of the slots that are not proven.
    pub fn shown(&self, is_unproven: impl Fn(KeySlot) -> bool) -> Option<UnprovenKeys> {
        let Self { primary, secondary } = self;
        let unproven = UnprovenKeys {
            primary_version: primary.clone().filter(|_| is_unproven(KeySlot::Primary)),
            secondary_version: secondary.clone().filter(|_| is_unproven(KeySlot::Secondary)),
        };
        (unproven != UnprovenKeys::default()).then_some(unproven)
    }

    /// True if the status names this very version for the slot.
    pub fn is_recorded(&self, slot: KeySlot, recorded: Option<&UnprovenKeys>) -> bool {
        let (present, recorded) = match slot {
            KeySlot::Primary => (&self.primary, recorded.and_then(|keys| keys.primary_version.as_ref())),
            KeySlot::Secondary => {
                (&self.secondary, recorded.and_then(|keys| keys.secondary_version.as_ref()))
            }
        };
        present.is_some() && present.as_ref() == recorded
    }
}
