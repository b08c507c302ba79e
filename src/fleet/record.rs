//! What is remembered of every device, settled or not: about 350 bytes with all indexes. Whole
//! objects are kept only while there is work to do (`engine::devices`).

use kube::ResourceExt;

use super::certificate::{Age, Certificate};
use super::credential;
use super::hash::{self, Hash};
use super::inherit::{Inherited, Mask, OwnSchedule, Policy, own_hash};
use super::intern::{Interner, Sym};
use super::plain::plain_since;
use super::registration::{Claim, Registration, Registrations};
use super::uid::Uid;
use crate::api::conditions::{self, ConditionType, Reason};
use crate::api::device::{AssignmentStatus, ProvisionedDevice, ProvisionedDeviceStatus};
use crate::api::digest::Digest;
use crate::api::names::{self, RECONCILE_REQUESTED_AT, REPROVISION_REQUESTED_AT};
use crate::api::payload::Payload;
use crate::api::state::State;
use crate::api::version;
use crate::dps::attestation::CredentialId;

/// The facts of a device that stand in its status and decide whether it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// `status.registeredHash`; `None` when another version of the hash wrote it.
    pub registered: Option<Hash>,
    /// `status.secret.renderedHash`; likewise.
    pub rendered: Option<Hash>,
    /// `status.secret.resourceVersion`.
    pub secret_version: u64,
}

/// What a status says that something is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stated {
    base: Hash,
    /// Where the device is.
    pub looked_up: Hash,
    token: Option<Hash>,
    credential: Option<CredentialId>,
    settled: Option<Settled>,
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
    /// `None` when it is the name.
    registration_id: Option<Box<str>>,
    /// `None` when it is `<name>-hub`.
    secret_name: Option<Box<str>>,
    /// Hash of the device's own payload.
    pub payload: Option<Hash>,
    /// Which inherited settings do not reach it.
    pub mask: Mask,
    pub schedule: OwnSchedule,
    /// Hash of its own settings and its assignment. Its Secret is rendered from these and from what it
    /// inherits.
    pub base: Hash,
    /// Hash of the registration record as the status shows it.
    pub looked_up: Hash,
    /// The credential that it was registered with.
    pub credential: Option<CredentialId>,
    /// Hash of the integration's token that it has served.
    pub token: Option<Hash>,
    /// An annotation asks for something that the status has not answered.
    pub asks: bool,
    pub hub: Option<Sym>,
    pub previous_hub: Option<Sym>,
    /// Since when its conditions are as they are, if `plain::plain_since` applies to it.
    pub plain_since: Option<u32>,
    /// The one that it was registered with, if its credential is one. Most fleets have none.
    pub certificate: Option<Box<Certificate>>,
    /// Reason of Ready.
    pub reason: Option<Reason>,
    pub ready: bool,
    pub stalled: bool,
    pub suspended: bool,
    pub deleting: bool,
    /// Present when the status describes this generation and is Ready=True/Provisioned.
    pub settled: Option<Settled>,
    pub(super) registrations: Registrations,
    /// resourceVersion of the generated Secret as the watch last showed it; 0 while it shows none.
    pub secret_seen: u64,
    /// Number of the latest list when a watch last showed the device.
    pub list: u32,
    /// Of the status that is there,
    pub status: Option<Digest>,
    /// and of the one that we wrote last.
    pub written: Option<Digest>,
    /// Of the annotations that ask for something.
    pub requests: Option<Digest>,
    /// Its place among the devices of its integration.
    pub(super) member: u32,
}

/// What a settled device needs, as far as the index knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Nothing,
    /// Its Secret was touched, or a user asks for something: the object has to be read.
    Fetch,
    /// Its Secret is there with another version than the one we wrote.
    Verify,
    /// Its Secret would be rendered otherwise by now.
    Rewrite,
    /// What was registered no longer matches.
    Register,
}

/// What an integration wants of its devices.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub scope: &'a str,
    /// The credential that devices should be registered with that have none of their own.
    pub credential: CredentialId,
    pub inherited: &'a Inherited,
    /// The kind of key of the certificates that DPS is asked for.
    pub issued: Option<&'a str>,
}

impl Record {
    /// Compares what was settled with what is wanted now.
    pub fn need(&self, settled: &Settled, wanted: Wanted<'_>) -> Need {
        let Wanted { scope, credential, inherited, issued } = wanted;
        if self.asks || self.secret_seen == 0 {
            return Need::Fetch;
        }
        if self.secret_seen != settled.secret_version {
            return Need::Verify;
        }
        let payload = self.payload.or(inherited.payload);
        let registered = hash::registered(scope, self.registration_id(), payload, issued);
        let same_credential = match self.has_own_credential() {
            // Which of its own it should be its source shows.
            true => self.credential.is_none_or(|used| !used.kind().is_shared()),
            false => self.credential == Some(credential),
        };
        let same_registration = settled.registered.is_none_or(|settled| settled == registered)
            && same_credential
            && inherited.token.is_none_or(|token| self.token == Some(token));
        let rendered = hash::rendered(self.base, inherited.secret(self.mask));
        match (same_registration, settled.rendered.is_none_or(|settled| settled == rendered)) {
            // A device that registers once says what it leaves out.
            (false, _) if self.schedule.or(inherited.schedule).policy == Policy::Never => Need::Fetch,
            (false, _) => Need::Register,
            (true, false) => Need::Rewrite,
            (true, true) => Need::Nothing,
        }
    }

    /// True if this device, and not the other one, may use a registration id that both claim.
    pub fn has_better_claim_than(&self, other: &Self) -> bool {
        self.claim() < other.claim()
    }

    /// Its status names a hub.
    pub fn is_registered(&self) -> bool {
        self.hub.is_some()
    }

    /// In the id scope of its integration.
    pub fn registration(&self) -> Registration {
        self.registrations.registration()
    }

    /// True if its claim counts beside those of other integrations. A new device's does once DPS has accepted
    /// its integration: what a status says of that others can write.
    pub fn holds_against_others(&self) -> bool {
        self.is_proven() || self.registration() != Registration::None
    }

    /// It has a credential of its own, and none of its integration's.
    pub fn has_own_credential(&self) -> bool {
        self.registrations.is_alone()
    }

    /// False for a device with a credential of its own that is not registered: before DPS has accepted that,
    /// anybody could have made it up.
    pub fn may_have_its_id(&self) -> bool {
        !self.has_own_credential() || self.registration() != Registration::None
    }

    /// It is Ready with a certificate whose time is over at `now`, in seconds since 1970.
    pub fn has_expired(&self, now: i64) -> bool {
        self.ready && self.certificate_age(now) == Some(Age::Expired)
    }

    /// How the certificate that it was registered with stands at `now`, in seconds since 1970.
    pub fn certificate_age(&self, now: i64) -> Option<Age> {
        self.certificate.as_ref().map(|certificate| certificate.age(now))
    }

    /// True if this says nothing new of it.
    pub fn is_said(&self, registration: Registration) -> bool {
        let mut next = self.registrations;
        next.set(registration);
        next == self.registrations
    }

    /// DPS has registered it since this process began, or its Secret was read and has its seal.
    pub fn is_vouched(&self) -> bool {
        self.registrations.is_known()
    }

    /// What of its status something is made of.
    pub fn stated(&self) -> Stated {
        let Self { base, looked_up, token, credential, settled, .. } = *self;
        Stated { base, looked_up, token, credential, settled }
    }

    /// A look at its Secret, unless that was `read`, or a lookup may show that it is registered.
    pub fn may_be_verified(&self, read: bool) -> bool {
        let unread = !self.registrations.is_known() && !read && self.secret_seen > 0;
        self.registration() == Registration::Shown && (unread || !self.is_proven())
    }

    /// DPS has accepted its integration, or its own credential, since this process leads.
    pub fn is_proven(&self) -> bool {
        self.registrations.is_proven()
    }

    /// The id scope for which the Secret was written that the watch has shown.
    pub fn secret_scope(&self) -> Option<Sym> {
        self.registrations.shown
    }

    pub(super) fn claim(&self) -> Claim {
        Claim {
            registration: self.registration(),
            is_unproven: !self.is_proven(),
            created: if self.may_have_its_id() { self.created } else { i64::MAX },
            uid: self.uid,
        }
    }

    pub fn registration_id(&self) -> &str {
        self.registration_id.as_deref().unwrap_or(&self.name)
    }

    pub(super) fn names_its_secret(&self) -> bool {
        self.secret_name.is_some()
    }

    pub(super) fn own_secret_name(&self) -> Option<&str> {
        self.secret_name.as_deref()
    }

    pub(super) fn is_secret_name(&self, name: &str) -> bool {
        match &self.secret_name {
            Some(own) => &**own == name,
            None => name.strip_suffix("-hub") == Some(&*self.name),
        }
    }

    pub fn secret_name(&self) -> String {
        names::generated_secret(self.secret_name.as_deref(), &self.name)
    }

    /// The record of an object that list number `list` or its watch has shown.
    pub(super) fn from_device(device: &ProvisionedDevice, names: &mut Interner, list: u32) -> Self {
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
            resource_version: version::of(&device.metadata),
            generation: device.metadata.generation.unwrap_or(0),
            created: device.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
            integration: names.intern(&device.integration_key()),
            registration_id: device.spec.registration_id.as_deref().filter(|id| *id != name).map(Into::into),
            secret_name: own_secret.filter(|own| own.strip_suffix("-hub") != Some(name)).map(Into::into),
            payload: device.spec.payload.as_ref().and_then(Payload::object).map(hash::payload),
            mask: Mask::of(device),
            schedule: OwnSchedule::of(device.spec.reprovision.as_ref(), device.spec.drift_check.as_ref()),
            base: hash::base(
                own_hash(device),
                status.map_or_else(|| hash::Assigned::default().hash(), assigned_hash),
            ),
            looked_up: status.map_or_else(|| hash::LookedUp::default().hash(), looked_up_hash),
            credential: status.and_then(|status| status.credential.as_ref()).and_then(credential::read),
            token: status.and_then(|s| s.last_handled_integration_token.as_deref()).map(hash::token),
            asks: asks(device),
            registrations: Registrations::of(device, names),
            previous_hub: status.and_then(|s| s.previous_hub.as_deref()).map(|hub| names.intern(hub)),
            plain_since: plain_since(device),
            hub,
            certificate: status.and_then(|status| Certificate::of(status, names)).map(Box::new),
            reason,
            ready: conditions::is_true(conditions, ConditionType::Ready),
            stalled: conditions::is_true(conditions, ConditionType::Stalled),
            suspended: device.spec.suspend,
            deleting: device.metadata.deletion_timestamp.is_some(),
            settled: settled(device),
            secret_seen: 0,
            list,
            status: status.and_then(Digest::of),
            written: None,
            requests: requests(device),
            member: 0,
        }
    }
}

/// What users ask for by annotations, served or not.
fn requests(device: &ProvisionedDevice) -> Option<Digest> {
    let asked = [REPROVISION_REQUESTED_AT, RECONCILE_REQUESTED_AT].map(|key| device.annotations().get(key));
    asked.iter().any(Option::is_some).then(|| Digest::of(&asked)).flatten()
}

/// True if a user's annotation asks for something that the status does not echo. A token that was
/// removed asks for nothing.
fn asks(device: &ProvisionedDevice) -> bool {
    let status = device.status.as_ref();
    let asked = |key, echo: Option<&String>| {
        let token = device.annotations().get(key).filter(|token| !token.is_empty());
        token.is_some() && token != echo
    };
    asked(REPROVISION_REQUESTED_AT, status.and_then(|s| s.last_handled_reprovision_token.as_ref()))
        || asked(RECONCILE_REQUESTED_AT, status.and_then(|s| s.last_handled_reconcile_at.as_ref()))
}

fn text(part: &Option<String>) -> &str {
    part.as_deref().unwrap_or_default()
}

/// What `Registered::assigned_hash` comes to when it is read back from this status.
fn assigned_hash(status: &ProvisionedDeviceStatus) -> Hash {
    let assigned = hash::Assigned {
        scope: text(&status.id_scope),
        registration_id: text(&status.registration_id),
        hub: text(&status.assigned_hub),
        device_id: text(&status.device_id),
        credential: status.credential.as_ref().map_or("", |credential| text(&credential.fingerprint)),
        issued: status.issued_certificate.as_ref().map_or("", |issued| issued.fingerprint.as_str()),
        returned_payload: text(&status.returned_payload_hash),
    };
    assigned.hash()
}

fn looked_up_hash(status: &ProvisionedDeviceStatus) -> Hash {
    let none = AssignmentStatus::default();
    let AssignmentStatus { status: _, substatus, etag, created_time, last_updated_time } =
        status.assignment.as_ref().unwrap_or(&none);
    let looked_up = hash::LookedUp {
        hub: text(&status.assigned_hub),
        device_id: text(&status.device_id),
        substatus: text(substatus),
        etag: text(etag),
        created_time: text(created_time),
        last_updated_time: text(last_updated_time),
    };
    looked_up.hash()
}

fn settled(device: &ProvisionedDevice) -> Option<Settled> {
    let status = device.status.as_ref()?;
    let secret = status.secret.as_ref()?;
    let current = status.observed_generation == device.metadata.generation
        && conditions::is_true(&status.conditions, ConditionType::Ready)
        && conditions::reason_of(&status.conditions, ConditionType::Ready) == Some(Reason::Provisioned)
        && matches!(status.state, None | Some(State::Ready))
        && secret.name == device.secret_name()
        && !device.spec.suspend;
    current.then(|| Settled {
        registered: status.registered_hash.as_deref().and_then(Hash::parse),
        rendered: secret.rendered_hash.as_deref().and_then(Hash::parse),
        secret_version: version::parse(secret.resource_version.as_deref()),
    })
}

#[cfg(test)]
const _: () = assert!(size_of::<Record>() == 304);
