//! What is known of a device at this moment: from its status, from its Secret, or from what was
//! just done and is not written down yet.

use std::time::Duration;

use jiff::Timestamp;

pub use super::registered::{Located, Registered, ReturnedPayload};
use super::settings::annotation;
use crate::api::conditions::{self, ConditionType, Reason};
use crate::api::device::{LastError, ProvisionedDevice, ProvisionedDeviceStatus};
use crate::api::names::{RECONCILE_REQUESTED_AT, REPROVISION_REQUESTED_AT};
use crate::api::version;
use crate::dps::ids::HubHostname;
use crate::fleet::credential;
use crate::fleet::hash::Hash;
use crate::schedule::retry;

/// The Secret as we wrote or last checked it.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenSecret {
    pub name: String,
    pub version: u64,
    /// `None` when another version of the hash wrote it.
    pub rendered: Option<Hash>,
    /// It has the form that Service Binding expects.
    pub binding: bool,
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
    pub revision: Option<u64>,
    /// The device's own token when it failed.
    pub token: Option<String>,
}

/// What is recorded in a Secret that was written for a device.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedInSecret {
    pub registered: Registered,
    /// The Secret itself, if it holds a complete set with the present settings.
    pub secret: Option<WrittenSecret>,
    /// The Secret itself, if it was made from a key that is not at hand: it stays as it is.
    pub of_another_key: Option<WrittenSecret>,
}

/// Why DPS should be called for a registered device although neither it nor its integration has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Its period is over.
    Periodic,
    /// A lookup found no assignment.
    NotFound,
    /// It should only be looked up: a drift check is due.
    DriftCheck,
}

/// What users asked for by annotations and has been served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServedRequests {
    pub token: Option<String>,
    pub integration_token: Option<String>,
    pub reconcile_at: Option<String>,
}

impl ServedRequests {
    /// What is asked for now. What was asked for before stays on record where nothing is asked.
    pub fn now(device: &ProvisionedDevice, integration_token: Option<&String>, before: &Self) -> Self {
        let asked = |key| annotation(device, key).map(str::to_owned);
        Self {
            token: asked(REPROVISION_REQUESTED_AT).or_else(|| before.token.clone()),
            integration_token: integration_token.or(before.integration_token.as_ref()).cloned(),
            reconcile_at: asked(RECONCILE_REQUESTED_AT).or_else(|| before.reconcile_at.clone()),
        }
    }
}

/// Everything known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    pub registered: Option<Registered>,
    pub previous_hub: Option<String>,
    pub secret: Option<WrittenSecret>,
    pub failure: Option<Failure>,
    pub trigger: Option<Trigger>,
    pub served: ServedRequests,
    /// DPS itself has said where the device is since the operator knows of it: no Secret knows better.
    pub fresh: bool,
}

impl Facts {
    /// What the status says. `seed` spreads waits as `retry::wait` does.
    pub fn from_status(status: &ProvisionedDeviceStatus, generation: i64, seed: u64, now: Timestamp) -> Self {
        // Every field: one that is left out here is forgotten by the next write.
        let ProvisionedDeviceStatus {
            observed_generation: _,
            conditions: _,
            registration_id: _,
            id_scope: _,
            enrollment_group_id: _,
            assigned_hub: _,
            previous_hub,
            device_id: _,
            assignment: _,
            credential: _,
            registered_hash: _,
            secret,
            binding,
            returned_payload_hash: _,
            last_registration_time: _,
            attempts: _,
            last_error: _,
            last_handled_reprovision_token,
            last_handled_integration_token,
            last_handled_reconcile_at,
        } = status;
        Self {
            registered: registered(status),
            previous_hub: previous_hub.clone(),
            secret: secret.as_ref().map(|secret| WrittenSecret {
                name: secret.name.clone(),
                version: version::parse(secret.resource_version.as_deref()),
                rendered: secret.rendered_hash.as_deref().and_then(Hash::parse),
                binding: binding.is_some(),
            }),
            failure: failure(status, generation, seed, now),
            trigger: None,
            fresh: false,
            served: ServedRequests {
                token: last_handled_reprovision_token.clone(),
                integration_token: last_handled_integration_token.clone(),
                reconcile_at: last_handled_reconcile_at.clone(),
            },
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

    /// Takes in what is recorded in the Secret. A device whose status is rebuilt serves no request a
    /// second time: `now` counts as served.
    pub fn recall(&mut self, recorded: Option<RecordedInSecret>, now: ServedRequests) {
        let Some(RecordedInSecret { registered, secret, of_another_key }) = recorded else { return };
        let Some(known) = &mut self.registered else {
            self.registered = Some(registered);
            // One that can be rendered is compared first.
            self.secret = of_another_key;
            self.served = now;
            return;
        };
        if !self.fresh
            && let Some(secret) = secret.filter(|_| registered.is_newer_than(known))
        {
            // Written, and then the operator ended before it could write the status.
            let hub = registered.hub.clone();
            self.moved_to(&hub);
            self.registered = Some(registered);
            self.secret = Some(secret);
            return;
        }
        // The status keeps no more than the hash of a returned payload.
        let lost = known.returned_payload.as_mut().filter(|known| known.json.is_none());
        if let (Some(lost), Some(payload)) = (lost, registered.returned_payload)
            && lost.hash == payload.hash
        {
            *lost = payload;
        }
    }

    /// Takes in what DPS answered to a registration, or to the first lookup of a device.
    pub fn register(&mut self, registered: Registered, served: ServedRequests) {
        self.moved_to(&registered.hub);
        self.registered = Some(registered);
        self.failure = None;
        self.trigger = None;
        self.served = served;
        self.fresh = true;
    }

    /// Takes in what a lookup of a registered device found: where it is now. The key and the hash of
    /// what was registered stay. What was found of another registration changes nothing.
    pub fn look_up(&mut self, located: Located, reconcile_at: Option<String>) {
        let hub = located.assignment.hub.as_str().to_owned();
        let before = self.registered.as_ref().map(|before| before.hub.clone());
        if !self.registered.as_mut().is_some_and(|registered| registered.found(located)) {
            return;
        }
        self.previous_hub = before.filter(|before| *before != hub).or(self.previous_hub.take());
        self.failure = self.failure.take().filter(|failure| failure.work != FailedWork::Registration);
        self.served.reconcile_at = reconcile_at;
        self.fresh = true;
        self.trigger = self.trigger.filter(|trigger| *trigger != Trigger::DriftCheck);
    }

    fn moved_to(&mut self, hub: &str) {
        let before = self.registered.as_ref().map(|before| before.hub.as_str());
        if let Some(before) = before.filter(|before| *before != hub) {
            self.previous_hub = Some(before.to_owned());
        }
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
            revision: Some(failure.revision),
            token: failure.token,
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
    pub revision: u64,
    pub token: Option<String>,
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
        credential: status.credential.as_ref().and_then(credential::read),
        slot: status.credential.as_ref().and_then(|credential| credential.slot),
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
/// Only those that DPS answered: the others are decided upon once more, which calls nothing outside.
fn failure(status: &ProvisionedDeviceStatus, generation: i64, seed: u64, now: Timestamp) -> Option<Failure> {
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
        // A time that lies ahead is another clock's, or an edit.
        not_before: later(error.time.as_ref()?.0.min(now), wait),
        error: Some(error),
        generation: status.observed_generation.unwrap_or(generation),
        revision: None,
        token: status.last_handled_reprovision_token.clone(),
    })
}
