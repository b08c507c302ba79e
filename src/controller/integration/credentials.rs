//! What devices prove their identity with: the two keys of an enrollment group, or of one device's
//! individual enrollment. Slots, and which of them is in use, are known here and nowhere else. Pure.

use super::secret_versions::SecretVersions;
use super::unusable::Unusable;
use crate::api::attestation::{
    Attestation, CredentialStatus, CredentialsStatus, DeviceAttestation, KeySlot, KeyStatus, SymmetricKey,
};
use crate::api::conditions::Reason;
use crate::api::references::Referred;
use crate::dps::attestation::seal::{Seal, Statement};
use crate::dps::attestation::symmetric_key::EnrollmentKey;
use crate::dps::attestation::{CredentialId, CredentialKind, DeviceCredential};
use crate::dps::ids::RegistrationId;
use crate::fleet::credential;

/// A Secret that a device's own key was read from, and at which version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySource {
    pub secret: String,
    /// `None` where it is known by name only.
    pub version: Option<String>,
    /// Which key that was.
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

/// A key of the enrollment and where it came from.
#[derive(Clone, Debug, PartialEq)]
struct SlotKey {
    slot: KeySlot,
    id: CredentialId,
    key: EnrollmentKey,
    /// Of a device's own.
    source: Option<KeySource>,
}

/// Both keys, as far as they are declared.
#[derive(Clone, Debug, PartialEq)]
struct Keys {
    /// New registrations are made with this one.
    in_use: SlotKey,
    other: Option<SlotKey>,
}

/// What devices have to prove their identity with.
#[derive(Clone, Debug, PartialEq)]
pub struct Credentials {
    /// `None` where each device has some of its own.
    keys: Option<Keys>,
}

/// The slot that new registrations should use.
pub fn asked_for(attestation: &Attestation) -> Option<KeySlot> {
    attestation.symmetric_key.as_ref().map(|symmetric| symmetric.active)
}

impl Credentials {
    /// Those that an integration has for its devices. Takes the keys from their Secrets, which `find` gives
    /// by name. The key in the slot that was asked for is in use.
    ///
    /// # Errors
    /// The first thing that is wrong, without any of a key.
    pub fn resolve<'a>(
        attestation: &Attestation,
        find: impl Fn(&str) -> &'a Referred,
    ) -> Result<Self, Unusable> {
        match attestation {
            Attestation { symmetric_key: Some(symmetric), per_device: None } => {
                let keys = Keys::resolve(CredentialKind::GroupKey, symmetric, find)?;
                Ok(Self { keys: Some(keys) })
            }
            Attestation { symmetric_key: None, per_device: Some(_) } => Ok(Self { keys: None }),
            _ => {
                let message =
                    "spec.attestation: set either symmetricKey or perDevice; this version knows no other.";
                Err(Unusable::new(Reason::InvalidConfiguration, message))
            }
        }
    }

    /// A device's own, in the same way.
    ///
    /// # Errors
    /// As `resolve`.
    pub fn resolve_own<'a>(
        attestation: &DeviceAttestation,
        find: impl Fn(&str) -> &'a Referred,
    ) -> Result<Self, Unusable> {
        let DeviceAttestation { symmetric_key: Some(symmetric) } = attestation else {
            let message = "spec.attestation: set symmetricKey; this version knows no other.";
            return Err(Unusable::new(Reason::InvalidConfiguration, message));
        };
        let keys = Keys::resolve(CredentialKind::IndividualKey, symmetric, find)?;
        Ok(Self { keys: Some(keys) })
    }

    /// False where each device has to have some of its own.
    pub fn are_shared(&self) -> bool {
        self.keys.is_some()
    }

    /// The credential that new registrations are made with.
    pub fn in_use(&self) -> CredentialId {
        self.keys.as_ref().map_or(CredentialId::OF_EACH_DEVICE, |keys| keys.in_use.id)
    }

    pub fn other(&self) -> Option<CredentialId> {
        self.keys.as_ref()?.other.as_ref().map(|other| other.id)
    }

    /// True if both use the same credential, in the same slot.
    pub fn use_the_same(&self, other: &Self) -> bool {
        let in_use = |credentials: &Self| credentials.keys.as_ref().map(|keys| keys.in_use.clone());
        in_use(self) == in_use(other)
    }

    /// True if the credential is one of the present ones.
    pub fn has(&self, id: CredentialId) -> bool {
        self.find(id).is_some()
    }

    /// What a device proves its identity with in a new registration; `None` where that is its own affair.
    pub fn for_device(&self, id: &RegistrationId) -> Option<DeviceCredential> {
        Some(self.keys.as_ref()?.in_use.key.for_device(id))
    }

    /// What a device that was registered with this credential proves its identity with; `None` if the
    /// credential is none of the present ones.
    pub fn of_device(&self, id: &RegistrationId, used: CredentialId) -> Option<DeviceCredential> {
        Some(self.find(used)?.key.for_device(id))
    }

    /// Seals what is written down of a device, with the key of the credential that it has if that is
    /// at hand: what is written once more with nothing changed is the same.
    pub fn seal(&self, used: Option<CredentialId>, statement: &Statement) -> Option<Seal> {
        let in_use = self.keys.as_ref().map(|keys| &keys.in_use);
        Some(used.and_then(|used| self.find(used)).or(in_use)?.key.seal(statement))
    }

    /// True if the statement was sealed with one of the present keys.
    pub fn have_sealed(&self, statement: &Statement, seal: &Seal) -> bool {
        self.all().any(|slot| slot.key.has_sealed(statement, seal))
    }

    /// The slot of the credential in use.
    pub fn slot(&self) -> Option<KeySlot> {
        self.keys.as_ref().map(|keys| keys.in_use.slot)
    }

    /// Where a device's own credential was read.
    pub fn source(&self) -> Option<&KeySource> {
        self.keys.as_ref()?.in_use.source.as_ref()
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
        let Keys { in_use, other } = self.keys.as_ref()?;
        let other = other.as_ref()?;
        (other.key == in_use.key).then_some(other.id)
    }

    /// The other one in use, if there is another.
    pub fn swapped(&self) -> Option<Self> {
        let Keys { in_use, other } = self.keys.clone()?;
        Some(Self { keys: Some(Keys { in_use: other?, other: Some(in_use) }) })
    }

    fn all(&self) -> impl Iterator<Item = &SlotKey> {
        self.keys.iter().flat_map(|keys| std::iter::once(&keys.in_use).chain(&keys.other))
    }

    fn find(&self, id: CredentialId) -> Option<&SlotKey> {
        self.all().find(|key| key.id == id)
    }

    /// What the integration's status says of them, if it has any. `proven`: those that DPS has accepted; `accepted`: it
    /// accepts the one in use.
    pub fn status(
        &self,
        proven: &[CredentialId],
        accepted: bool,
        versions: &SecretVersions,
        before: Option<&CredentialsStatus>,
    ) -> Option<CredentialsStatus> {
        let in_use = &self.keys.as_ref()?.in_use;
        let of = |slot: KeySlot| self.all().find(|key| key.slot == slot);
        // What stands there already is public.
        let is_known = |key: &&SlotKey| proven.contains(&key.id) || before.is_some_and(|b| shows(b, key.id));
        let shown = |slot| of(slot).filter(is_known).map(|key| KeyStatus { fingerprint: key.id.to_string() });
        Some(CredentialsStatus {
            primary: shown(KeySlot::Primary),
            secondary: shown(KeySlot::Secondary),
            unproven: versions.shown(|slot| of(slot).is_some_and(|key| !is_known(&key))),
            in_use: Some(in_use.slot),
            working: if accepted { Some(in_use.slot) } else { before.and_then(|b| self.still_working(b)) },
        })
    }

    /// The slot that DPS accepted last, while its key is the same.
    fn still_working(&self, before: &CredentialsStatus) -> Option<KeySlot> {
        let key = self.all().find(|key| Some(key.slot) == before.working)?;
        (fingerprint(before, key) == Some(key.id)).then_some(key.slot)
    }

    /// True if the status knows the credential in use, where all share one.
    pub fn is_recorded(&self, versions: &SecretVersions, status: Option<&CredentialsStatus>) -> bool {
        let knows = |keys: &Keys| status.is_some_and(|status| is_recorded(status, versions, &keys.in_use));
        self.keys.as_ref().is_none_or(knows)
    }

    /// True if the status says that DPS accepted the credential in use, where all share one.
    pub fn is_recorded_as_accepted(&self, status: Option<&CredentialsStatus>) -> bool {
        let accepted = |Keys { in_use, .. }: &Keys| {
            let status = status.filter(|status| status.working == Some(in_use.slot));
            status.is_some_and(|status| fingerprint(status, in_use) == Some(in_use.id))
        };
        self.keys.as_ref().is_none_or(accepted)
    }

    /// True if the status says that the other one is used instead.
    pub fn is_recorded_as_replaced(&self, status: &CredentialsStatus) -> bool {
        let other = self.keys.as_ref().and_then(|keys| keys.other.as_ref());
        other.is_some_and(|other| status.in_use == Some(other.slot))
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

impl Keys {
    fn resolve<'a>(
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
            CredentialKind::IndividualKey => other.and_then(Result::ok),
        };
        Ok(Self { in_use: in_use?, other })
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
        CredentialKind::IndividualKey => {
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
