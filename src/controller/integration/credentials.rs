//! What devices prove their identity with: the two keys of an enrollment group, or of one device's
//! individual enrollment, or a certificate of the device. Slots, and which of them is in use, are known here and in
//! `keys`, and nowhere else. Pure.

use std::sync::Arc;

use super::key_source::KeySource;
use super::keys::{self, Keys, SlotKey};
use super::secret_versions::SecretVersions;
use super::unusable::Unusable;
use crate::api::attestation::{Attestation, CredentialsStatus, KeySlot, SymmetricKey};
use crate::api::conditions::Reason;
use crate::api::references::Referred;
use crate::dps::attestation::certificate::{CertificateFacts, DeviceCertificate};
use crate::dps::attestation::seal::{Seal, Statement};
use crate::dps::attestation::{CredentialId, CredentialKind, DeviceCredential};
use crate::dps::ids::RegistrationId;

/// What devices have to prove their identity with.
#[derive(Clone, Debug, PartialEq)]
pub struct Credentials(Held);

#[derive(Clone, Debug, PartialEq)]
enum Held {
    Keys(Keys),
    Certificate(Arc<DeviceCertificate>, KeySource),
    /// Each device has something of its own. `certificates`: how the Secrets with their certificates are
    /// named, where the devices do not say so.
    OfEachDevice {
        certificates: Option<String>,
    },
}

/// One of them, with its secret.
#[derive(Clone, Copy)]
enum One<'a> {
    Key(&'a SlotKey),
    Certificate(&'a Arc<DeviceCertificate>),
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
            Attestation { symmetric_key: Some(symmetric), x509: None, per_device: None } => {
                Keys::resolve(CredentialKind::GroupKey, symmetric, find).map(|keys| Self(Held::Keys(keys)))
            }
            Attestation { symmetric_key: None, x509: Some(x509), per_device: None } => {
                Ok(Self(Held::OfEachDevice { certificates: Some(x509.secret_name.clone()) }))
            }
            Attestation { symmetric_key: None, x509: None, per_device: Some(_) } => {
                Ok(Self(Held::OfEachDevice { certificates: None }))
            }
            _ => {
                let message = "spec.attestation: set one of symmetricKey, x509 and perDevice; this version knows no other.";
                Err(Unusable::new(Reason::InvalidConfiguration, message))
            }
        }
    }

    /// The keys of a device's own enrollment, in the same way.
    ///
    /// # Errors
    /// As `resolve`.
    pub fn resolve_own<'a>(
        symmetric: &SymmetricKey,
        find: impl Fn(&str) -> &'a Referred,
    ) -> Result<Self, Unusable> {
        Keys::resolve(CredentialKind::IndividualKey, symmetric, find).map(|keys| Self(Held::Keys(keys)))
    }

    /// A device's own certificate, and where it was read.
    pub fn of_certificate(certificate: DeviceCertificate, source: KeySource) -> Self {
        Self(Held::Certificate(Arc::new(certificate), source))
    }

    fn keys(&self) -> Option<&Keys> {
        match &self.0 {
            Held::Keys(keys) => Some(keys),
            Held::Certificate(..) | Held::OfEachDevice { .. } => None,
        }
    }

    /// False where each device has to have some of its own.
    pub fn are_shared(&self) -> bool {
        !matches!(self.0, Held::OfEachDevice { .. })
    }

    /// How the Secrets with the certificates of devices are named that say nothing else; `None` where such a
    /// device has none.
    pub fn certificates(&self) -> Option<&str> {
        match &self.0 {
            Held::OfEachDevice { certificates } => certificates.as_deref(),
            Held::Keys(_) | Held::Certificate(..) => None,
        }
    }

    /// The credential that new registrations are made with.
    pub fn in_use(&self) -> CredentialId {
        match &self.0 {
            Held::Keys(keys) => keys.in_use.id,
            Held::Certificate(certificate, _) => certificate.id(),
            Held::OfEachDevice { .. } => CredentialId::OF_EACH_DEVICE,
        }
    }

    pub fn other(&self) -> Option<CredentialId> {
        self.keys()?.other.as_ref().map(|other| other.id)
    }

    /// True if both use the same credential, in the same slot.
    pub fn use_the_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Held::Keys(own), Held::Keys(other)) => own.in_use == other.in_use,
            (own, other) => own == other,
        }
    }

    /// True if the credential is one of the present ones.
    pub fn has(&self, id: CredentialId) -> bool {
        self.find(id).is_some()
    }

    /// What a device proves its identity with in a new registration; `None` where that is its own affair.
    pub fn for_device(&self, id: &RegistrationId) -> Option<DeviceCredential> {
        self.in_use_now().map(|one| one.for_device(id))
    }

    /// What a device that was registered with this credential proves its identity with; `None` if the
    /// credential is none of the present ones.
    pub fn of_device(&self, id: &RegistrationId, used: CredentialId) -> Option<DeviceCredential> {
        self.find(used).map(|one| one.for_device(id))
    }

    /// Seals what is written down of a device, with the key of the credential that it has if that is
    /// at hand: what is written once more with nothing changed is the same.
    pub fn seal(&self, used: Option<CredentialId>, statement: &Statement) -> Option<Seal> {
        let one = used.and_then(|used| self.find(used)).or_else(|| self.in_use_now())?;
        Some(match one {
            One::Key(slot) => slot.key.seal(statement),
            One::Certificate(certificate) => certificate.seal(statement),
        })
    }

    /// True if the statement was sealed with one of the present keys.
    pub fn have_sealed(&self, statement: &Statement, seal: &Seal) -> bool {
        match &self.0 {
            Held::Keys(keys) => keys.all().any(|slot| slot.key.has_sealed(statement, seal)),
            Held::Certificate(certificate, _) => certificate.has_sealed(statement, seal),
            Held::OfEachDevice { .. } => false,
        }
    }

    /// The slot of the credential in use.
    pub fn slot(&self) -> Option<KeySlot> {
        self.keys().map(|keys| keys.in_use.slot)
    }

    /// Where a device's own credential was read.
    pub fn source(&self) -> Option<&KeySource> {
        match &self.0 {
            Held::Keys(keys) => keys.in_use.source.as_ref(),
            Held::Certificate(_, source) => Some(source),
            Held::OfEachDevice { .. } => None,
        }
    }

    /// What may be shown of a device's certificate.
    pub fn certificate(&self) -> Option<&CertificateFacts> {
        match &self.0 {
            Held::Certificate(certificate, _) => Some(certificate.facts()),
            Held::Keys(_) | Held::OfEachDevice { .. } => None,
        }
    }

    /// What is odd about keys that DPS refuses.
    pub fn oddities(&self) -> Option<String> {
        self.keys()?.oddities()
    }

    /// The one key that stands in both slots.
    pub fn twice(&self) -> Option<CredentialId> {
        self.keys()?.twice()
    }

    /// The other one in use, if there is another.
    pub fn swapped(&self) -> Option<Self> {
        self.keys()?.swapped().map(|keys| Self(Held::Keys(keys)))
    }

    fn in_use_now(&self) -> Option<One<'_>> {
        match &self.0 {
            Held::Keys(keys) => Some(One::Key(&keys.in_use)),
            Held::Certificate(certificate, _) => Some(One::Certificate(certificate)),
            Held::OfEachDevice { .. } => None,
        }
    }

    fn find(&self, id: CredentialId) -> Option<One<'_>> {
        match &self.0 {
            Held::Keys(keys) => keys.find(id).map(One::Key),
            Held::Certificate(certificate, _) => {
                Some(One::Certificate(certificate)).filter(|_| certificate.id() == id)
            }
            Held::OfEachDevice { .. } => None,
        }
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
        self.keys().map(|keys| keys.status(proven, accepted, versions, before))
    }

    /// True if the status knows the credential in use, where all share one.
    pub fn is_recorded(&self, versions: &SecretVersions, status: Option<&CredentialsStatus>) -> bool {
        let knows =
            |keys: &Keys| status.is_some_and(|status| keys::is_recorded(status, versions, &keys.in_use));
        self.keys().is_none_or(knows)
    }

    /// True if the status says that DPS accepted the credential in use, where all share one.
    pub fn is_recorded_as_accepted(&self, status: Option<&CredentialsStatus>) -> bool {
        self.keys().is_none_or(|keys| keys.is_recorded_as_accepted(status))
    }

    /// True if the status says that the other one is used instead.
    pub fn is_recorded_as_replaced(&self, status: &CredentialsStatus) -> bool {
        let other = self.keys().and_then(|keys| keys.other.as_ref());
        other.is_some_and(|other| status.in_use == Some(other.slot))
    }

    /// True if the status knows both.
    pub fn are_recorded(&self, versions: &SecretVersions, status: &CredentialsStatus) -> bool {
        let mut all = self.keys().into_iter().flat_map(Keys::all);
        all.all(|key| keys::is_recorded(status, versions, key))
    }
}

impl One<'_> {
    fn for_device(self, id: &RegistrationId) -> DeviceCredential {
        match self {
            Self::Key(slot) => slot.key.for_device(id),
            Self::Certificate(certificate) => certificate.credential(),
        }
    }
}
