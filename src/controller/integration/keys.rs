//! The two keys of an enrollment group, or of one device's individual enrollment, and which of them is in use.
//! Pure.

use super::key_source::KeySource;
use super::secret_versions::SecretVersions;
use super::unusable::Unusable;
use crate::api::attestation::{CredentialsStatus, KeySlot, KeyStatus, SymmetricKey};
use crate::api::conditions::Reason;
use crate::api::references::Referred;
use crate::dps::attestation::symmetric_key::EnrollmentKey;
use crate::dps::attestation::{CredentialId, CredentialKind};

/// A key of the enrollment and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SlotKey {
    pub slot: KeySlot,
    pub id: CredentialId,
    pub key: EnrollmentKey,
    /// Of a device's own.
    pub source: Option<KeySource>,
}

/// Both keys, as far as they are declared.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Keys {
    /// New registrations are made with this one.
    pub in_use: SlotKey,
    pub other: Option<SlotKey>,
}

impl Keys {
    /// The one key that stands in both slots.
    pub fn twice(&self) -> Option<CredentialId> {
        let other = self.other.as_ref()?;
        (other.key == self.in_use.key).then_some(other.id)
    }

    /// The other one in use, if there is another.
    pub fn swapped(&self) -> Option<Self> {
        let Self { in_use, other } = self.clone();
        Some(Self { in_use: other?, other: Some(in_use) })
    }

    pub fn all(&self) -> impl Iterator<Item = &SlotKey> {
        std::iter::once(&self.in_use).chain(&self.other)
    }

    pub fn find(&self, id: CredentialId) -> Option<&SlotKey> {
        self.all().find(|key| key.id == id)
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

    /// What the integration's status says of them. `proven`: those that DPS has accepted; `accepted`: it accepts
    /// the one in use.
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

    /// True if the status says that DPS accepted the one in use.
    pub fn is_recorded_as_accepted(&self, status: Option<&CredentialsStatus>) -> bool {
        let status = status.filter(|status| status.working == Some(self.in_use.slot));
        status.is_some_and(|status| fingerprint(status, &self.in_use) == Some(self.in_use.id))
    }

    /// Takes the keys from their Secrets, which `find` gives by name. `kind`: of the enrollment.
    ///
    /// # Errors
    /// The first thing that is wrong, without any of a key.
    pub fn resolve<'a>(
        kind: CredentialKind,
        symmetric: &SymmetricKey,
        find: impl Fn(&str) -> &'a Referred,
    ) -> Result<Self, Unusable> {
        let SymmetricKey { primary_key_ref: primary, secondary_key_ref: secondary, active } = symmetric;
        let key = |slot, name: &str, key: &str| slot_key(kind, slot, (name, key), find(name));
        let primary = key(KeySlot::Primary, &primary.name, &primary.key);
        let secondary = secondary.as_ref().map(|r| key(KeySlot::Secondary, &r.name, &r.key));
        let (in_use, other) = match (active, secondary) {
            (KeySlot::Primary, secondary) => (primary, secondary),
            (KeySlot::Secondary, Some(secondary)) => (secondary, Some(primary)),
            (KeySlot::Secondary, None) => {
                let message =
                    "spec.attestation.symmetricKey.active is Secondary, but there is no secondaryKeyRef.";
                return Err(Unusable::new(Reason::InvalidConfiguration, message));
            }
        };
        let other = match kind {
            // A rotation tells devices of both keys apart, so both have to be known.
            CredentialKind::GroupKey => other.transpose()?,
            // What was registered with it is registered once more with the one in use.
            CredentialKind::IndividualKey | CredentialKind::Certificate => other.and_then(Result::ok),
        };
        Ok(Self { in_use: in_use?, other })
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

pub(super) fn is_recorded(status: &CredentialsStatus, versions: &SecretVersions, key: &SlotKey) -> bool {
    match fingerprint(status, key) {
        Some(recorded) => recorded == key.id,
        None => versions.is_recorded(key.slot, status.unproven.as_ref()),
    }
}

/// Reads a key from what is known of its Secret. `named`: the Secret and the key in it.
fn slot_key(
    kind: CredentialKind,
    slot: KeySlot,
    (name, key): (&str, &str),
    referred: &Referred,
) -> Result<SlotKey, Unusable> {
    let (whose, what) = match kind {
        CredentialKind::GroupKey => ("the enrollment group's key", "an enrollment group key"),
        CredentialKind::IndividualKey | CredentialKind::Certificate => {
            ("the key of the device's individual enrollment", "the key of an individual enrollment")
        }
    };
    let not_found = |message: String| Unusable::new(Reason::KeySecretNotFound, message);
    let (data, generated, version) = match referred {
        Referred::Present { data, generated, version } => (data, *generated, version),
        Referred::Forbidden => {
            return Err(not_found(format!(
                "Secret {name:?} may not be read by the operator; check its RBAC."
            )));
        }
        Referred::Missing | Referred::Unread | Referred::TooMuch => {
            return Err(not_found(format!(
                "Secret {name:?} does not exist. Create it with {whose} under {key:?}."
            )));
        }
    };
    if generated {
        let message = format!(
            "Secret {name:?} was written by this operator for a device; name the Secret with {whose}."
        );
        return Err(Unusable::new(Reason::KeyInvalid, message));
    }
    let Some(bytes) = data.get(key) else {
        let message =
            format!("Secret {name:?} has no key {key:?}. Add it, or name the right one in the reference.");
        return Err(not_found(message));
    };
    let key = EnrollmentKey::parse(kind, bytes).map_err(|error| {
        let message = format!("Key {key:?} of Secret {name:?} is not {what}: {error}.");
        Unusable::new(Reason::KeyInvalid, message)
    })?;
    let source = || {
        let version = Some(version.clone());
        KeySource { secret: name.to_owned(), version, key: Some(key.id()) }
    };
    let source = (kind == CredentialKind::IndividualKey).then(source);
    Ok(SlotKey { slot, id: key.id(), key, source })
}
