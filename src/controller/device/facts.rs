//! What is known of a device at this moment: from its status, from its Secret, or from what was
//! just done and is not written down yet.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::api::conditions::{self, ConditionType, Reason};
use crate::api::device::{AssignmentStatus, LastError, ProvisionedDeviceStatus};
use crate::api::integration::KeySlot;
use crate::dps::answer::Assignment;
use crate::dps::ids::{HubHostname, IdScope, RegistrationId};
use crate::dps::key::Fingerprint;
use crate::fleet::hash::{self, Hash};
use crate::fleet::{record, retry};

/// A registration that DPS has accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Registered {
    pub scope: String,
    pub registration_id: String,
    pub hub: String,
    pub device_id: String,
    pub assignment: AssignmentStatus,
    pub enrollment_group: Option<String>,
    pub slot: Option<KeySlot>,
    pub fingerprint: Option<Fingerprint>,
    /// `None` when another version of the hash wrote it: then it is recomputed, never a reason to register.
    pub hash: Option<Hash>,
    pub returned_payload: Option<ReturnedPayload>,
    pub time: Option<Timestamp>,
}

/// What custom allocation returned. Status keeps only the hash.
#[derive(Clone, Debug, PartialEq)]
pub struct ReturnedPayload {
    pub hash: Hash,
    pub json: Option<String>,
}

/// The Secret as we wrote or last checked it.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenSecret {
    pub name: String,
    pub version: u64,
    /// `None` when another version of the hash wrote it.
    pub rendered: Option<Hash>,
}

/// Which kind of work failed; each has its own wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedWork {
    Registration,
    Secret,
}

/// The last thing that went wrong and is not mended.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub work: FailedWork,
    pub reason: Reason,
    pub message: String,
    /// What DPS answered.
    pub error: Option<LastError>,
    pub attempts: u32,
    pub not_before: Timestamp,
    /// Of the device; a change is a reason to try at once.
    pub generation: i64,
    /// Of the integration; `None` when read back from status.
    pub epoch: Option<u64>,
}

/// Everything known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    pub registered: Option<Registered>,
    pub previous_hub: Option<String>,
    pub secret: Option<WrittenSecret>,
    pub failure: Option<Failure>,
}

impl Facts {
    /// What the status tells. `seed` spreads waits as `retry::wait` does.
    pub fn from_status(status: &ProvisionedDeviceStatus, generation: i64, seed: u64) -> Self {
        Self {
            registered: registered(status),
            previous_hub: status.previous_hub.clone(),
            secret: status.secret.as_ref().map(|secret| WrittenSecret {
                name: secret.name.clone(),
                version: record::version(secret.resource_version.as_deref()),
                rendered: secret.rendered_hash.as_deref().and_then(Hash::parse),
            }),
            failure: failure(status, generation, seed),
        }
    }

    /// Status and Secret can be edited by others: a hub that this operator would not accept from DPS
    /// is not taken from them either.
    pub fn without_foreign_hub(mut self, hub_suffixes: &[String]) -> Self {
        self.registered =
            self.registered.filter(|registered| HubHostname::parse(&registered.hub, hub_suffixes).is_ok());
        self
    }

    /// True once the device had a registration and a Secret: from then on most trouble leaves it Ready.
    pub fn provisioned(&self) -> bool {
        self.registered.is_some() && self.secret.is_some()
    }

    /// Takes in what the Secret tells: everything, or only the returned payload, of which the status
    /// keeps no more than the hash.
    pub fn recall(&mut self, told: Option<Registered>) {
        match &mut self.registered {
            None => self.registered = told,
            Some(registered) => {
                let payload = told.and_then(|told| told.returned_payload);
                let lost = registered.returned_payload.as_mut().filter(|known| known.json.is_none());
                if let (Some(lost), Some(payload)) = (lost, payload)
                    && lost.hash == payload.hash
                {
                    *lost = payload;
                }
            }
        }
    }

    /// Takes in what DPS answered.
    pub fn register(&mut self, registered: Registered) {
        let before = self.registered.take();
        if let Some(before) = before.filter(|before| before.hub != registered.hub) {
            self.previous_hub = Some(before.hub);
        }
        self.registered = Some(registered);
        self.failure = None;
    }

    /// Takes in a failure: counts it and says until when to wait. DPS's own word is a minimum.
    pub fn fail(&mut self, failure: NewFailure, seed: u64, now: Timestamp) {
        let before = self
            .failure
            .take()
            .filter(|before| before.work == failure.work && before.reason == failure.reason);
        let attempts = before.map_or(0, |before| before.attempts).saturating_add(1);
        let wait = retry::wait(retry::class_of(failure.reason), attempts, seed)
            .max(failure.at_least.unwrap_or_default());
        self.failure = Some(Failure {
            work: failure.work,
            reason: failure.reason,
            message: failure.message,
            error: failure.error,
            attempts,
            not_before: later(now, wait),
            generation: failure.generation,
            epoch: Some(failure.epoch),
        });
    }
}

/// A failure that has just happened.
#[derive(Debug)]
pub struct NewFailure {
    pub work: FailedWork,
    pub reason: Reason,
    pub message: String,
    pub error: Option<LastError>,
    pub at_least: Option<Duration>,
    pub generation: i64,
    pub epoch: u64,
}

impl Registered {
    /// Status and annotations can be edited by others: only what could have come from us is used.
    pub fn plausible(self) -> Option<Self> {
        let id_ok = RegistrationId::parse(&self.registration_id).is_ok();
        let device_ok = self.device_id.eq_ignore_ascii_case(&self.registration_id);
        (id_ok && device_ok && IdScope::parse(&self.scope).is_ok() && HubHostname::is_plain(&self.hub))
            .then_some(self)
    }

    /// What an assignment means for a device that was registered with this key and hash.
    pub fn new(
        assignment: Assignment,
        (scope, registration_id): (&str, &str),
        (slot, fingerprint): (KeySlot, Fingerprint),
        hash: Hash,
        now: Timestamp,
    ) -> Self {
        Self {
            scope: scope.to_owned(),
            registration_id: registration_id.to_owned(),
            hub: assignment.hub.as_str().to_owned(),
            device_id: assignment.device_id,
            assignment: AssignmentStatus {
                status: Some("assigned".to_owned()),
                substatus: assignment.substatus,
                etag: assignment.etag,
                created_time: assignment.created_time,
                last_updated_time: assignment.last_updated_time,
            },
            enrollment_group: assignment.enrollment_group,
            slot: Some(slot),
            fingerprint: Some(fingerprint),
            hash: Some(hash),
            returned_payload: assignment.payload.as_ref().map(ReturnedPayload::new),
            // Whole seconds, as status shows it: what is read back has to equal what was written.
            time: Timestamp::from_second(now.as_second()).ok(),
        }
    }
}

impl ReturnedPayload {
    pub fn new(payload: &Map<String, Value>) -> Self {
        Self { hash: hash::payload(payload), json: serde_json::to_string(payload).ok() }
    }
}

/// `now` and a wait.
pub fn later(now: Timestamp, wait: Duration) -> Timestamp {
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}

fn registered(status: &ProvisionedDeviceStatus) -> Option<Registered> {
    let registered = Registered {
        scope: status.id_scope.clone()?,
        registration_id: status.registration_id.clone()?,
        hub: status.assigned_hub.clone()?,
        device_id: status.device_id.clone()?,
        assignment: status.assignment.clone().unwrap_or_default(),
        enrollment_group: status.enrollment_group_id.clone(),
        slot: status.credential.as_ref().and_then(|credential| credential.slot),
        fingerprint: status
            .credential
            .as_ref()
            .and_then(|credential| Fingerprint::parse(&credential.fingerprint)),
        hash: status.registered_hash.as_deref().and_then(Hash::parse),
        returned_payload: status
            .returned_payload_hash
            .as_deref()
            .and_then(Hash::parse)
            .map(|hash| ReturnedPayload { hash, json: None }),
        time: status.last_registration_time.as_ref().map(|time| time.0),
    };
    registered.plausible()
}

/// A failure as the status recorded it, so that a restart does not forget how long to wait.
/// Only those that DPS answered: the others are looked at again, which asks nobody outside.
fn failure(status: &ProvisionedDeviceStatus, generation: i64, seed: u64) -> Option<Failure> {
    let error = status.last_error.clone()?;
    let reason = conditions::reason_of(&status.conditions, ConditionType::Ready)?;
    let message = conditions::find(&status.conditions, ConditionType::Ready)?.message.clone();
    let attempts = status.attempts.and_then(|attempts| u32::try_from(attempts).ok()).filter(|n| *n > 0)?;
    let wait = retry::wait(retry::class_of(reason), attempts, seed);
    Some(Failure {
        work: FailedWork::Registration,
        reason,
        message,
        attempts,
        not_before: later(error.time.as_ref()?.0, wait),
        error: Some(error),
        generation: status.observed_generation.unwrap_or(generation),
        epoch: None,
    })
}
