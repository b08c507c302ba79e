//! What is remembered of every device, settled or not: about 200 bytes. Whole objects are kept
//! only while there is work to do (`controller::device::Work`).

use kube::ResourceExt;

use super::hash::{self, Hash};
use super::intern::{Interner, Sym};
use crate::api::conditions::{self, ConditionType, Reason};
use crate::api::device::ProvisionedDevice;
use crate::api::payload::Payload;
use crate::dps::key::Fingerprint;

/// A device's uid. Not every API server hands out RFC 4122 text, so anything else is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(u128);

impl Uid {
    pub fn parse(text: &str) -> Self {
        let hex: String = text.chars().filter(|c| *c != '-').collect();
        let parsed = (hex.len() == 32).then(|| u128::from_str_radix(&hex, 16).ok()).flatten();
        let hashed = || u128::from(u64::from_be_bytes(Hash::of("uid", [text.as_bytes()]).bytes()));
        Self(parsed.unwrap_or_else(hashed))
    }
}

impl Uid {
    /// Spreads what all devices do, the same after a restart.
    pub fn seed(self) -> u64 {
        let bytes = self.0.to_be_bytes();
        Hash::of("seed", [bytes.as_slice()]).number()
    }
}

/// `resourceVersion` as a number. Comparable since Kubernetes 1.35 by contract, before by practice.
pub fn version(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The facts of a device that stand in its status and decide whether it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// `status.registeredHash`; `None` when another version of the hash wrote it.
    pub registered: Option<Hash>,
    pub fingerprint: Option<Fingerprint>,
    /// `status.secret.resourceVersion`.
    pub secret_version: u64,
}

/// One device.
#[derive(Debug)]
pub struct Record {
    pub name: Box<str>,
    pub namespace: Sym,
    pub uid: Uid,
    pub resource_version: u64,
    pub generation: i64,
    pub created: i64,
    /// `namespace/name` of the integration.
    pub integration: Sym,
    /// Only when it is not the name.
    registration_id: Option<Box<str>>,
    /// Only when it is not `<name>-hub`.
    secret_name: Option<Box<str>>,
    /// Of the device's own payload.
    pub payload: Option<Hash>,
    pub hub: Option<Sym>,
    /// Reason of Ready.
    pub reason: Option<Reason>,
    pub ready: bool,
    pub stalled: bool,
    pub suspended: bool,
    pub deleting: bool,
    /// Present when the status speaks of this generation, is Ready=True/Provisioned and the Secret
    /// was rendered from the present settings.
    pub settled: Option<Settled>,
    /// Has an assignment in status.
    pub registered: bool,
    /// resourceVersion of the generated Secret as the watch last showed it; 0 while it shows none.
    pub secret_seen: u64,
    /// The re-list in which the device was seen last.
    pub epoch: u32,
}

impl Record {
    pub fn registration_id(&self) -> &str {
        self.registration_id.as_deref().unwrap_or(&self.name)
    }

    pub fn names_its_secret(&self) -> bool {
        self.secret_name.is_some()
    }

    pub fn is_secret_name(&self, name: &str) -> bool {
        match &self.secret_name {
            Some(own) => &**own == name,
            None => name.strip_suffix("-hub") == Some(&*self.name),
        }
    }

    pub fn secret_name(&self) -> String {
        secret_name(self.secret_name.as_deref(), &self.name)
    }

    /// Reads an object. `rendered_hash` is what its Secret should have been rendered from.
    pub fn from_device(
        device: &ProvisionedDevice,
        rendered_hash: Option<Hash>,
        names: &mut Interner,
        epoch: u32,
    ) -> Self {
        let name = device.metadata.name.as_deref().unwrap_or_default();
        let namespace = device.metadata.namespace.as_deref().unwrap_or_default();
        let own_secret = device.spec.secret.as_ref().and_then(|secret| secret.name.as_deref());
        let status = device.status.as_ref();
        let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
        let reason = conditions::reason_of(conditions, ConditionType::Ready);
        let hub = status.and_then(|status| status.assigned_hub.as_deref()).map(|hub| names.intern(hub));
        Self {
            name: name.into(),
            namespace: names.intern(namespace),
            uid: Uid::parse(&device.uid().unwrap_or_default()),
            resource_version: version(device.metadata.resource_version.as_deref()),
            generation: device.metadata.generation.unwrap_or(0),
            created: device.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
            integration: names.intern(&integration_key(device)),
            registration_id: device.spec.registration_id.as_deref().filter(|id| *id != name).map(Into::into),
            secret_name: own_secret.filter(|own| own.strip_suffix("-hub") != Some(name)).map(Into::into),
            payload: device.spec.payload.as_ref().and_then(Payload::object).map(hash::payload),
            registered: hub.is_some(),
            hub,
            reason,
            ready: conditions::is_true(conditions, ConditionType::Ready),
            stalled: conditions::is_true(conditions, ConditionType::Stalled),
            suspended: device.spec.suspend,
            deleting: device.metadata.deletion_timestamp.is_some(),
            settled: settled(device, rendered_hash),
            secret_seen: 0,
            epoch,
        }
    }
}

/// `namespace/name` of the integration that a device refers to.
pub fn integration_key(device: &ProvisionedDevice) -> String {
    let reference = &device.spec.integration_ref;
    let own = device.metadata.namespace.as_deref().unwrap_or_default();
    format!("{}/{}", reference.namespace.as_deref().unwrap_or(own), reference.name)
}

/// Name of the generated Secret.
pub fn secret_name(own: Option<&str>, device: &str) -> String {
    own.map_or_else(|| format!("{device}-hub"), str::to_owned)
}

fn settled(device: &ProvisionedDevice, rendered_hash: Option<Hash>) -> Option<Settled> {
    let status = device.status.as_ref()?;
    let secret = status.secret.as_ref()?;
    let current = status.observed_generation == device.metadata.generation
        && conditions::is_true(&status.conditions, ConditionType::Ready)
        && conditions::reason_of(&status.conditions, ConditionType::Ready) == Some(Reason::Provisioned)
        && !device.spec.suspend;
    let written = secret.rendered_hash.as_deref().and_then(Hash::parse);
    let rendered = rendered_hash.is_some() && written.is_none_or(|written| Some(written) == rendered_hash);
    (current && rendered).then(|| Settled {
        registered: status.registered_hash.as_deref().and_then(Hash::parse),
        fingerprint: status.credential.as_ref().and_then(|c| Fingerprint::parse(&c.fingerprint)),
        secret_version: version(secret.resource_version.as_deref()),
    })
}
