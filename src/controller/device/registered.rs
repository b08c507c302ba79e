//! A registration that DPS has accepted, and what is kept of it.

use std::cmp::Ordering;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value};

use super::issued::Issued;
use super::served::ServedRequests;
use crate::api::attestation::{CredentialStatus, KeySlot};
use crate::api::device::{AssignmentStatus, ProvisionedDeviceStatus};
use crate::controller::integration::credentials::Credentials;
use crate::controller::integration::key_source::KeySource;
use crate::dps::answer::Assignment;
use crate::dps::attestation::CredentialId;
use crate::dps::attestation::certificate::{CaId, Kept};
use crate::dps::ids::{HubHostname, IdScope, RegistrationId, is_device_id};
use crate::dps::scrub::Shown;
use crate::fleet::credential;
use crate::fleet::hash::{self, Hash};

/// A registration that DPS has accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Registered {
    pub scope: String,
    pub registration_id: String,
    pub hub: String,
    pub device_id: String,
    pub assignment: AssignmentStatus,
    pub enrollment_group: Option<String>,
    /// The credential that it was registered with, and the slot that this was in.
    pub credential: Option<CredentialId>,
    pub slot: Option<KeySlot>,
    /// Name of the Secret that the device's own key or certificate was read from; `None` for a key that others
    /// share.
    pub key_secret: Option<String>,
    /// The certificate that it was registered with.
    pub certificate: Option<Kept>,
    /// The certificate that DPS has issued in this registration.
    pub issued: Option<Issued>,
    /// `None` when another version of the hash wrote it: then it is recomputed, never a reason to register.
    pub hash: Option<Hash>,
    pub returned_payload: Option<ReturnedPayload>,
    /// When it was made; `None` for an existing one that was taken over.
    pub time: Option<Timestamp>,
}

/// How a registration was made.
#[derive(Clone, Debug)]
pub struct Made<'a> {
    pub scope: &'a str,
    pub registration_id: &'a str,
    pub credential: CredentialId,
    pub slot: Option<KeySlot>,
    pub key_secret: Option<String>,
    pub certificate: Option<Kept>,
    /// Of what was registered.
    pub hash: Hash,
}

/// What custom allocation returned. Status keeps only the hash.
#[derive(Clone, Debug, PartialEq)]
pub struct ReturnedPayload {
    pub hash: Hash,
    pub json: Option<String>,
}

impl Registered {
    /// What a status says of it.
    pub(super) fn stated(status: &ProvisionedDeviceStatus) -> Option<Self> {
        let registered = Self {
            scope: status.id_scope.clone()?,
            registration_id: status.registration_id.clone()?,
            hub: status.assigned_hub.clone()?,
            device_id: status.device_id.clone()?,
            assignment: status.assignment.clone().unwrap_or_default(),
            enrollment_group: status.enrollment_group_id.clone(),
            credential: status.credential.as_ref().and_then(credential::read),
            slot: status.credential.as_ref().and_then(|credential| credential.slot),
            key_secret: status.credential.as_ref().and_then(|credential| credential.secret_name.clone()),
            certificate: status.credential.as_ref().and_then(kept),
            issued: status.issued_certificate.as_ref().and_then(Issued::stated),
            hash: status.registered_hash.as_deref().and_then(Hash::parse),
            returned_payload: status
                .returned_payload_hash
                .as_deref()
                .and_then(Hash::parse)
                .map(|hash| ReturnedPayload { hash, json: None }),
            time: status.last_registration_time.as_ref().and_then(|time| whole_seconds(time.0)),
        };
        registered.plausible()
    }

    /// Status and annotations can be edited by others: only what could have come from us is used.
    pub fn plausible(self) -> Option<Self> {
        let id_ok = RegistrationId::parse(&self.registration_id).is_ok();
        let same_id = self.device_id.eq_ignore_ascii_case(&self.registration_id);
        let may_differ = self.credential.is_some_and(|used| !used.kind().device_id_is_registration_id());
        let device_ok = same_id || (may_differ && is_device_id(&self.device_id));
        (id_ok && device_ok && IdScope::parse(&self.scope).is_ok() && HubHostname::is_plain(&self.hub))
            .then_some(self)
    }

    /// Greater if DPS said this after it had said the other.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let at = |registered: &Self| (registered.time, registered.assignment.last_updated_time.clone());
        at(self).cmp(&at(other))
    }

    /// The status keeps no more than hashes of a returned payload and of an issued certificate; the Secret may have the
    /// whole.
    pub(super) fn recover(&mut self, found: &Self) {
        self.recover_payload(found.returned_payload.as_ref());
        let is_there = self.hub == found.hub && self.device_id == found.device_id;
        if let Some(issued) = self.issued.as_mut().filter(|_| is_there) {
            issued.recover(found.issued.as_ref());
        }
    }

    fn recover_payload(&mut self, found: Option<&ReturnedPayload>) {
        let lost = self.returned_payload.as_mut().filter(|known| known.json.is_none());
        if let (Some(lost), Some(found)) = (lost, found)
            && lost.hash == found.hash
        {
            lost.clone_from(found);
        }
    }

    /// What the status says of the credential that it was registered with. `looked_at`: where the device's own
    /// was since; `refused`: DPS has refused what was found there.
    pub(super) fn credential_status(
        &self,
        looked_at: Option<&KeySource>,
        refused: bool,
    ) -> Option<CredentialStatus> {
        let shown = credential::show(self.credential?);
        let of_its_own = shown.secret_name.is_some();
        let looked_at = looked_at.filter(|_| of_its_own);
        let secret_name = looked_at.map(|source| source.secret.clone()).or_else(|| self.key_secret.clone());
        // A settled device reads its key again only if it finds another version.
        let counts = |source: &&KeySource| refused || source.key == self.credential;
        Some(CredentialStatus {
            slot: self.slot,
            not_before: self.certificate.and_then(|kept| kept.not_before).map(Time),
            not_after: self.certificate.map(|kept| Time(kept.not_after)),
            issuer: self.certificate.and_then(|kept| kept.ca).map(|ca| ca.to_string()),
            secret_name: secret_name.filter(|_| of_its_own).or(shown.secret_name),
            secret_resource_version: looked_at.filter(counts).and_then(|source| source.version.clone()),
            ..shown
        })
    }

    /// Takes in where the device's own credential was read, if it is the one that it was registered with.
    pub(super) fn read_from(&mut self, own: &Credentials) {
        if self.credential == Some(own.in_use()) {
            self.slot = own.slot();
            self.key_secret = own.source().map(|source| source.secret.clone());
        }
    }

    /// The certificate that it connects to its hub with.
    fn of_hub(&self) -> Option<Kept> {
        self.issued.as_ref().map(|issued| issued.kept).or(self.certificate)
    }

    /// The time of that one is over: its hub refuses the device.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.of_hub().is_some_and(|kept| kept.not_after <= now)
    }

    /// The certificate was issued to it, and only its Secret could have it.
    pub fn lacks_issued(&self) -> bool {
        self.issued.as_ref().is_some_and(|issued| issued.certificate.is_none())
    }

    /// Where DPS keeps it.
    pub fn place(&self) -> Hash {
        hash::place(&self.scope, &self.registration_id)
    }

    /// Hash of what the Secret records of it and of the requests that it served, beside its content.
    pub fn record(&self, served: &ServedRequests) -> Hash {
        let ServedRequests { token, integration_token, reconcile_at: _ } = served;
        let hash = self.hash.map(Hash::shown);
        let parts = [hash.as_ref(), token.as_ref(), integration_token.as_ref()];
        Hash::of("record", parts.map(|part| part.map_or(&b""[..], |text| text.as_bytes())))
    }

    /// Hash of what stands in the Secret.
    pub fn assigned_hash(&self) -> Hash {
        let credential = self.credential.map(|used| used.to_string()).unwrap_or_default();
        let payload = self.returned_payload.as_ref().map(|payload| payload.hash.shown()).unwrap_or_default();
        let issued = self.issued.as_ref().map(|issued| issued.id.to_string()).unwrap_or_default();
        let assigned = hash::Assigned {
            scope: &self.scope,
            registration_id: &self.registration_id,
            hub: &self.hub,
            device_id: &self.device_id,
            credential: &credential,
            issued: &issued,
            returned_payload: &payload,
        };
        assigned.hash()
    }

    /// What an assignment means for a device that was registered like this.
    pub fn new(assignment: Assignment, made: Made<'_>) -> Self {
        let Made { scope, registration_id, credential, slot, key_secret, certificate, hash } = made;
        Self {
            scope: scope.to_owned(),
            registration_id: registration_id.to_owned(),
            hub: assignment.hub.as_str().to_owned(),
            device_id: assignment.device_id.clone(),
            assignment: assignment_status(&assignment),
            enrollment_group: assignment.enrollment_group.map(String::from),
            credential: Some(credential),
            slot,
            key_secret,
            certificate,
            issued: assignment.issued.map(Issued::new),
            hash: Some(hash),
            returned_payload: assignment.payload.as_ref().map(ReturnedPayload::new),
            time: None,
        }
    }

    /// It was made at this time, and not taken over.
    #[must_use]
    pub fn made_at(self, time: Timestamp) -> Self {
        Self { time: whole_seconds(time), ..self }
    }

    /// Takes in where a lookup found the device; false if it asked for another registration.
    pub(super) fn found(&mut self, located: Located) -> bool {
        let Located { scope, registration_id, assignment } = located;
        if self.scope != scope.as_str() || self.registration_id != registration_id.as_str() {
            return false;
        }
        let is_there = self.hub == assignment.hub.as_str() && self.device_id == assignment.device_id;
        if let Some(issued) = self.issued.as_mut().filter(|_| !is_there) {
            // It was issued in a registration for another hub.
            issued.certificate = None;
        }
        assignment.hub.as_str().clone_into(&mut self.hub);
        self.assignment = assignment_status(&assignment);
        self.device_id = assignment.device_id;
        self.enrollment_group =
            assignment.enrollment_group.map(String::from).or(self.enrollment_group.take());
        let payload = assignment.payload.as_ref().map(ReturnedPayload::new);
        // A lookup need not repeat the payload, and one that does may say nothing new.
        let known = self.returned_payload.as_ref().map(|known| known.hash);
        if payload.as_ref().is_some_and(|payload| Some(payload.hash) != known) {
            self.returned_payload = payload;
        }
        true
    }
}

/// What a lookup found, and for which registration: no other one may be taken to be there.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    pub scope: IdScope,
    pub registration_id: RegistrationId,
    pub assignment: Assignment,
}

impl Located {
    /// Hash of what was found, to compare with what the status says.
    pub fn looked_up_hash(&self) -> Hash {
        looked_up_hash(&self.assignment)
    }
}

/// What a status says of a certificate.
fn kept(credential: &CredentialStatus) -> Option<Kept> {
    let seconds = |time: &Time| whole_seconds(time.0);
    Some(Kept {
        not_before: credential.not_before.as_ref().and_then(seconds),
        not_after: credential.not_after.as_ref().and_then(seconds)?,
        ca: credential.issuer.as_deref().and_then(CaId::parse),
    })
}

/// As status shows a time, also one that others have written there: what is read back has to equal what was
/// written.
fn whole_seconds(time: Timestamp) -> Option<Timestamp> {
    Timestamp::from_second(time.as_second()).ok()
}

fn assignment_status(assignment: &Assignment) -> AssignmentStatus {
    let text = |shown: &Option<Shown>| shown.clone().map(String::from);
    AssignmentStatus {
        status: Some("assigned".to_owned()),
        substatus: text(&assignment.substatus),
        etag: text(&assignment.etag),
        created_time: text(&assignment.created_time),
        last_updated_time: text(&assignment.last_updated_time),
    }
}

fn looked_up_hash(assignment: &Assignment) -> Hash {
    let text = |part: &Option<Shown>| part.clone().map(String::from).unwrap_or_default();
    let looked_up = hash::LookedUp {
        hub: assignment.hub.as_str(),
        device_id: &assignment.device_id,
        substatus: &text(&assignment.substatus),
        etag: &text(&assignment.etag),
        created_time: &text(&assignment.created_time),
        last_updated_time: &text(&assignment.last_updated_time),
    };
    looked_up.hash()
}

impl ReturnedPayload {
    pub fn new(payload: &Map<String, Value>) -> Self {
        Self { hash: hash::payload(payload), json: serde_json::to_string(payload).ok() }
    }
}
