//! The credentials of an integration: the two keys of an enrollment group. Slots, and which of them
//! is in use, are known here and nowhere else. Pure.

use super::secret_versions::SecretVersions;
use super::unusable::Unusable;
use crate::api::attestation::{
    Attestation, CredentialStatus, CredentialsStatus, KeySlot, KeyStatus, SymmetricKey,
};
use crate::api::conditions::Reason;
use crate::api::references::Referred;
use crate::dps::attestation::seal::{Seal, Statement};
use crate::dps::attestation::symmetric_key::GroupKey;
use crate::dps::attestation::{CredentialId, DeviceCredential};
use crate::dps::ids::RegistrationId;
use crate::fleet::credential;

/// A key of the enrollment group and where it came from.
#[derive(Clone, Debug, PartialEq)]
struct SlotKey {
    slot: KeySlot,
    id: CredentialId,
    key: GroupKey,
}

/// Both keys, as far as they are declared.
#[derive(Clone, Debug, PartialEq)]
pub struct Credentials {
    /// New registrations are made with this one.
    in_use: SlotKey,
    other: Option<SlotKey>,
}

/// Names of the Secrets that an attestation refers to, and the key in each.
pub fn secret_keys(attestation: &Attestation) -> impl Iterator<Item = (&str, &str)> {
    let Attestation { symmetric_key } = attestation;
    symmetric_key.iter().flat_map(|symmetric| {
        let SymmetricKey { primary_key_ref, secondary_key_ref, active: _ } = symmetric;
        let secondary = secondary_key_ref.as_ref().map(|key| (key.name.as_str(), key.key.as_str()));
        [Some((primary_key_ref.name.as_str(), primary_key_ref.key.as_str())), secondary].into_iter().flatten()
    })
}

/// The slot that new registrations should use.
pub fn asked_for(attestation: &Attestation) -> Option<KeySlot> {
    attestation.symmetric_key.as_ref().map(|symmetric| symmetric.active)
}

impl Credentials {
    /// Takes the keys from their Secrets, which `find` gives by name. The key in the slot that was
    /// asked for is in use.
    ///
    /// # Errors
    /// The first thing that is wrong, without any of a key.
    pub fn resolve<'a>(
        attestation: &Attestation,
        find: impl Fn(&str) -> &'a Referred,
    ) -> Result<Self, Unusable> {
        let Attestation { symmetric_key } = attestation;
        let Some(SymmetricKey { primary_key_ref: primary, secondary_key_ref: secondary, active }) =
            symmetric_key
        else {
            let message = "spec.attestation: this version knows symmetricKey only.";
            return Err(Unusable::new(Reason::InvalidConfiguration, message));
        };
        let key = |slot, name: &str, key: &str| group_key(slot, name, key, find(name));
        let primary = key(KeySlot::Primary, &primary.name, &primary.key)?;
        let secondary = secondary.as_ref().map(|r| key(KeySlot::Secondary, &r.name, &r.key)).transpose()?;
        let (in_use, other) = match (active, secondary) {
            (KeySlot::Primary, secondary) => (primary, secondary),
            (KeySlot::Secondary, Some(secondary)) => (secondary, Some(primary)),
            (KeySlot::Secondary, None) => {
                let message =
                    "spec.attestation.symmetricKey.active is Secondary, but there is no secondaryKeyRef.";
                return Err(Unusable::new(Reason::InvalidConfiguration, message));
            }
        };
        Ok(Self { in_use, other })
    }

    /// The credential that new registrations are made with.
    pub fn in_use(&self) -> CredentialId {
        self.in_use.id
    }

    pub fn other(&self) -> Option<CredentialId> {
        self.other.as_ref().map(|other| other.id)
    }

    /// True if both use the same credential, in the same slot.
    pub fn use_the_same(&self, other: &Self) -> bool {
        self.in_use == other.in_use
    }

    /// True if the credential is one of the present ones.
    pub fn has(&self, id: CredentialId) -> bool {
        self.find(id).is_some()
    }

    /// What a device proves its identity with in a new registration.
    pub fn for_device(&self, id: &RegistrationId) -> DeviceCredential {
        self.in_use.key.derive(id)
    }

    /// What a device that was registered with this credential proves its identity with; `None` if the
    /// credential is none of the present ones.
    pub fn of_device(&self, id: &RegistrationId, used: CredentialId) -> Option<DeviceCredential> {
        Some(self.find(used)?.key.derive(id))
    }

    /// Seals what is written down of a device, with the key of the credential that it has if that is
    /// at hand: what is written once more with nothing changed is the same.
    pub fn seal(&self, used: Option<CredentialId>, statement: &Statement) -> Seal {
        used.and_then(|used| self.find(used)).unwrap_or(&self.in_use).key.seal(statement)
    }

    /// True if the statement was sealed with one of the present keys.
    pub fn have_sealed(&self, statement: &Statement, seal: &Seal) -> bool {
        self.all().any(|slot| slot.key.has_sealed(statement, seal))
    }

    /// What a device's status says of the credential in use.
    pub fn shown(&self) -> CredentialStatus {
        CredentialStatus { slot: Some(self.in_use.slot), ..credential::show(self.in_use.id) }
    }

    /// What is odd about keys that DPS refuses: any base64 text passes for a key, a password for instance.
    pub fn oddities(&self) -> Option<String> {
        let size = |key: &SlotKey| {
            let size = key.key.unusual_size()?;
            let slot = match key.slot {
                KeySlot::Primary => "primary",
                KeySlot::Secondary => "secondary",
            };
            Some(format!("the {slot} key decodes to {size} bytes"))
        };
        let sizes: Vec<String> = self.all().filter_map(size).collect();
        (!sizes.is_empty()).then(|| {
            format!(
                "Look whether it is the group's key at all: {}, and keys that Azure makes have 64 (88 characters of \
                 base64), older ones 32.",
                sizes.join(", ")
            )
        })
    }

    /// The one key that stands in both slots.
    pub fn twice(&self) -> Option<CredentialId> {
        let other = self.other.as_ref()?;
        (other.key == self.in_use.key).then_some(other.id)
    }

    /// The other one in use, if there is another.
    pub fn swapped(&self) -> Option<Self> {
        let other = self.other.clone()?;
        Some(Self { in_use: other, other: Some(self.in_use.clone()) })
    }

    fn all(&self) -> impl Iterator<Item = &SlotKey> {
        [Some(&self.in_use), self.other.as_ref()].into_iter().flatten()
    }

    fn find(&self, id: CredentialId) -> Option<&SlotKey> {
        self.all().find(|key| key.id == id)
    }

    /// What the integration's status says of them. `proven`: those that DPS has accepted; `accepted`: it
    /// accepts the one in use.
    pub fn status(
        &self,
        proven: &[CredentialId],
        accepted: bool,
        versions: &SecretVersions,
        before: Option<&CredentialsStatus>,
    ) -> CredentialsStatus {
        let of = |slot: KeySlot| self.all().find(|key| key.slot == slot);
        // What stands there already is public.
        let is_known = |key: &&SlotKey| proven.contains(&key.id) || before.is_some_and(|b| shows(b, key.id));
        let shown = |slot| of(slot).filter(is_known).map(|key| KeyStatus { fingerprint: key.id.to_string() });
        CredentialsStatus {
            primary: shown(KeySlot::Primary),
            secondary: shown(KeySlot::Secondary),
            unproven: versions.shown(|slot| of(slot).is_some_and(|key| !is_known(&key))),
            in_use: Some(self.in_use.slot),
            working: if accepted {
                Some(self.in_use.slot)
            } else {
                before.and_then(|b| self.still_working(b))
            },
        }
    }

    /// The slot that DPS accepted last, while its key is the same.
    fn still_working(&self, before: &CredentialsStatus) -> Option<KeySlot> {
        let key = self.all().find(|key| Some(key.slot) == before.working)?;
        (fingerprint(before, key) == Some(key.id)).then_some(key.slot)
    }

    /// True if the status knows the credential in use.
    pub fn is_recorded(&self, versions: &SecretVersions, status: &CredentialsStatus) -> bool {
        is_recorded(status, versions, &self.in_use)
    }

    /// True if the status says that DPS accepted the credential in use.
    pub fn is_recorded_as_accepted(&self, status: &CredentialsStatus) -> bool {
        status.working == Some(self.in_use.slot) && fingerprint(status, &self.in_use) == Some(self.in_use.id)
    }

    /// True if the status says that the other one is used instead.
    pub fn is_recorded_as_replaced(&self, status: &CredentialsStatus) -> bool {
        self.other.as_ref().is_some_and(|other| status.in_use == Some(other.slot))
    }

    /// True if the status knows both.
    pub fn are_recorded(&self, versions: &SecretVersions, status: &CredentialsStatus) -> bool {
        self.all().all(|key| is_recorded(status, versions, key))
    }
}

/// What the status says of the key in the slot of this one.
fn fingerprint(status: &CredentialsStatus, key: &SlotKey) -> Option<CredentialId> {
    let recorded = match key.slot {
        KeySlot::Primary => status.primary.as_ref(),
        KeySlot::Secondary => status.secondary.as_ref(),
    };
    recorded.and_then(|recorded| CredentialId::parse(key.id.kind(), &recorded.fingerprint))
}

/// True if the status shows the fingerprint, in either slot.
fn shows(status: &CredentialsStatus, id: CredentialId) -> bool {
    let mut shown = [&status.primary, &status.secondary].into_iter().flatten();
    shown.any(|key| CredentialId::parse(id.kind(), &key.fingerprint) == Some(id))
}

fn is_recorded(status: &CredentialsStatus, versions: &SecretVersions, key: &SlotKey) -> bool {
    match fingerprint(status, key) {
        Some(recorded) => recorded == key.id,
        None => versions.is_recorded(key.slot, status.unproven.as_ref()),
    }
}

fn group_key(slot: KeySlot, name: &str, key: &str, referred: &Referred) -> Result<SlotKey, Unusable> {
    let not_found = |message: String| Unusable::new(Reason::KeySecretNotFound, message);
    let (data, generated) = match referred {
        Referred::Present { data, generated, version: _ } => (data, *generated),
        Referred::Forbidden => {
            return Err(not_found(format!(
                "Secret {name:?} may not be read by the operator; check its RBAC."
            )));
        }
        Referred::Missing | Referred::Unread | Referred::TooMuch => {
            let message = format!(
                "Secret {name:?} does not exist. Create it with the enrollment group's key under {key:?}."
            );
            return Err(not_found(message));
        }
    };
    if generated {
        let message = format!(
            "Secret {name:?} was written by this operator for a device; name the Secret with the group's key."
        );
        return Err(Unusable::new(Reason::KeyInvalid, message));
    }
    let Some(bytes) = data.get(key) else {
        let message =
            format!("Secret {name:?} has no key {key:?}. Add it, or name the right one in the reference.");
        return Err(not_found(message));
    };
    let key = GroupKey::parse(bytes).map_err(|error| {
        let message = format!("Key {key:?} of Secret {name:?} is not an enrollment group key: {error}.");
        Unusable::new(Reason::KeyInvalid, message)
    })?;
    Ok(SlotKey { slot, id: key.id(), key })
}
