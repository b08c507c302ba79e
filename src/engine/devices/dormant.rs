//! A device that has to wait is kept as a packed text: a fraction of what the object and all that may
//! become known of it take. A fleet that is declared at once waits for hours, and one that is suspended or whose
//! integration cannot be used for as long as that lasts.

use std::sync::Arc;

use super::entry::Timers;
use super::own::OwnCredentials;
use super::packed::{Packed, Packer};
use super::work::{Freshness, Work};
use crate::api::conditions::{self, ConditionType};
use crate::api::device::{LastError, ProvisionedDevice};
use crate::api::names::{RECONCILE_REQUESTED_AT, REPROVISION_REQUESTED_AT};
use crate::clock::Now;
use crate::controller::device::facts::{Facts, Failure, Trust, Unresolved};
use crate::controller::device::open_registration::OpenRegistration;
use crate::schedule::Share;

/// Such a device.
pub(super) struct Dormant {
    object: Packed,
    failure: Option<Box<Failed>>,
    pub(super) open: Option<Arc<OpenRegistration>>,
    pub(super) unresolved: Unresolved,
    /// Its Secret has been read.
    secret_read: bool,
    /// DPS itself has said where it is.
    fresh: bool,
    share: Share,
    pub(super) timers: Timers,
    /// Its own credentials, if they have been read: it is about to need them.
    pub(super) own: Option<Box<OwnCredentials>>,
}

impl Dormant {
    /// `None` if more is known of the device than what can be kept.
    pub(super) fn of(
        work: &Work,
        timers: Timers,
        packer: &mut Packer,
        hub_suffixes: &[String],
        now: Now,
    ) -> Option<Self> {
        let idle = work.task.is_none() && !work.answered;
        // A payload that could not be read would come back as none.
        let readable = work.device.spec.payload.as_ref().is_none_or(|payload| payload.object().is_some());
        if !idle || !readable || work.facts.trust == Trust::ToCompare || work.freshness != Freshness::Current
        {
            return None;
        }
        let mut device = (*work.device).clone();
        device.metadata.labels = None;
        device.metadata.annotations.iter_mut().for_each(|annotations| {
            annotations
                .retain(|key, _| [RECONCILE_REQUESTED_AT, REPROVISION_REQUESTED_AT].contains(&key.as_str()));
        });
        let dormant = Self {
            object: packer.pack(&serde_json::to_vec(&device).ok()?),
            failure: work.facts.failure.clone().map(|failure| Box::new(Failed::of(failure, &device))),
            open: work.facts.open.clone(),
            unresolved: work.facts.unresolved,
            // What was found in it and raises doubts is found once more.
            secret_read: work.secret_read && work.found.is_none() && work.facts.doubt.is_none(),
            fresh: work.facts.fresh,
            share: work.share,
            timers,
            own: None,
        };
        dormant.restored(hub_suffixes, now).filter(|back| comes_to_the_same(&back.facts, &work.facts))?;
        Some(dormant)
    }

    pub(super) fn secret_changed(&mut self) {
        self.secret_read = false;
    }

    /// `None` if it does not come back as it was.
    pub(super) fn restored(&self, hub_suffixes: &[String], now: Now) -> Option<Work> {
        let device: ProvisionedDevice = serde_json::from_slice(&self.object.text()?).ok()?;
        let failure = self.failure.as_ref().map(|failed| failed.restored(&device));
        let mut work = Work::new(device, hub_suffixes, now);
        work.unreported = failure.is_some();
        work.facts.failure = failure;
        work.facts.open.clone_from(&self.open);
        work.facts.unresolved = self.unresolved;
        work.facts.fresh = self.fresh;
        Some(Work { secret_read: self.secret_read, share: self.share, ..work })
    }
}

/// True if nothing is lost. What a returned payload said is read from the Secret again.
fn comes_to_the_same(back: &Facts, facts: &Facts) -> bool {
    // Every field: one that is left out here is forgotten by the device that wakes.
    let Facts {
        registered,
        previous_hub,
        // It goes with the device's own credentials.
        source: _,
        secret,
        failure: _,
        open,
        unresolved: _,
        trigger,
        served,
        fresh: _,
        doubt: _,
        trust: _,
    } = facts;
    let mut registered = registered.clone();
    if secret.is_some()
        && let Some(payload) = registered.as_mut().and_then(|registered| registered.returned_payload.as_mut())
    {
        payload.json = None;
    }
    back.registered == registered
        && back.previous_hub == *previous_hub
        && back.secret == *secret
        && back.open == *open
        && back.trigger == *trigger
        && back.served == *served
}

/// What failed last, without what the status says of it.
struct Failed {
    failure: Failure,
    message_is_said: bool,
    error_is_said: bool,
}

impl Failed {
    fn of(mut failure: Failure, device: &ProvisionedDevice) -> Self {
        let (message, error) = said(&failure, device);
        let message_is_said = message == Some(failure.message.as_str());
        let timeless = |error: &LastError| LastError { time: None, tracking_id: None, ..error.clone() };
        let error_is_said = failure.error.as_ref().map(timeless) == error.map(timeless);
        if message_is_said {
            failure.message = String::new();
        }
        if error_is_said {
            failure.error = None;
        }
        Self { failure, message_is_said, error_is_said }
    }

    fn restored(&self, device: &ProvisionedDevice) -> Failure {
        let mut failure = self.failure.clone();
        let (message, error) = said(&failure, device);
        if self.message_is_said {
            failure.message = message.unwrap_or_default().to_owned();
        }
        if self.error_is_said {
            failure.error = error.cloned();
        }
        failure
    }
}

/// What the status says of Ready, if that is why, and of DPS's last answer.
fn said<'a>(failure: &Failure, device: &'a ProvisionedDevice) -> (Option<&'a str>, Option<&'a LastError>) {
    let Some(status) = &device.status else { return (None, None) };
    let ready = conditions::find(&status.conditions, ConditionType::Ready);
    let message = ready.filter(|ready| ready.reason == failure.reason.as_str()).map(|ready| &*ready.message);
    (message, status.last_error.as_ref())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::conditions::Reason;
    use crate::clock;
    use crate::controller::device::facts::{FailedWork, ReturnedPayload, Trigger};

    fn device() -> ProvisionedDevice {
        serde_json::from_value(json!({
            "apiVersion": "dps-operator.io/v1alpha1", "kind": "ProvisionedDevice",
            "metadata": {
                "name": "truck-1", "namespace": "fleet", "uid": "u-1", "resourceVersion": "7", "generation": 2,
                "creationTimestamp": "2026-11-23T10:00:00Z", "labels": {"a": "b"},
                "annotations": {"dps-operator.io/reprovision-requested-at": "now", "other": "x".repeat(1000)},
            },
            "spec": {"integrationRef": {"name": "factory"}, "payload": {"site": {"line": [1, 2.5, null]}}},
            "status": {"observedGeneration": -1},
        }))
        .unwrap()
    }

    fn work() -> Work {
        Work::new(device(), &[], clock::now())
    }

    fn asleep(work: &Work) -> Option<Dormant> {
        let suffixes = [".azure-devices.net".to_owned()];
        Dormant::of(work, Timers::default(), &mut Packer::default(), &suffixes, clock::now())
    }

    #[test]
    fn a_new_device_comes_back_as_it_was_without_what_is_never_read() {
        let mut work = work();
        work.secret_read = true;
        let dormant = asleep(&work).unwrap();
        let back = dormant.restored(&[], clock::now()).unwrap();
        assert!(back.secret_read);
        let back = back.device;
        assert!(dormant.secret_read && dormant.object.len() < 500, "{}", dormant.object.len());
        assert_eq!(
            serde_json::to_value(&back.spec).unwrap(),
            serde_json::to_value(&work.device.spec).unwrap()
        );
        let kept = |device: &ProvisionedDevice| {
            let meta = device.metadata.clone();
            (
                meta.name,
                meta.namespace,
                meta.uid,
                meta.resource_version,
                meta.generation,
                meta.creation_timestamp,
            )
        };
        assert_eq!(kept(&back), kept(&work.device));
        let annotations = back.metadata.annotations.as_ref().unwrap();
        assert_eq!(annotations.keys().collect::<Vec<_>>(), ["dps-operator.io/reprovision-requested-at"]);
    }

    #[test]
    fn a_device_that_is_reported_as_queued_becomes_dormant_with_its_status() {
        let mut device = device();
        let condition = json!({
            "type": "Ready", "status": "False", "reason": "Queued", "message": "m",
            "lastTransitionTime": "2026-11-23T10:05:00Z",
        });
        device.status =
            serde_json::from_value(json!({"observedGeneration": 2, "conditions": [condition]})).unwrap();
        let work = Work::new(device, &[], clock::now());
        let back = asleep(&work).unwrap().restored(&[], clock::now()).unwrap();
        assert_eq!(back.device.status, work.device.status);
    }

    /// Registered, and then something failed.
    fn failed() -> Work {
        let mut device = device();
        let condition = json!({
            "type": "Ready", "status": "False", "reason": "SecretConflict", "message": "m",
            "lastTransitionTime": "2026-11-23T10:05:00Z",
        });
        device.status = serde_json::from_value(json!({
            "observedGeneration": 2, "conditions": [condition], "registrationId": "truck-1", "idScope": "0ne1",
            "assignedHub": "hub-a.azure-devices.net", "deviceId": "truck-1",
            "secret": {"name": "truck-1-hub", "resourceVersion": "7", "renderedHash": "v1:0000000000000001"},
        }))
        .unwrap();
        let suffixes = [".azure-devices.net".to_owned()];
        let mut work = Work::new(device, &suffixes, clock::now());
        work.facts.failure = Some(Failure {
            work: FailedWork::Secret,
            reason: Reason::SecretConflict,
            message: "m".to_owned(),
            error: None,
            attempts: 3,
            not_before: clock::now().mono,
            lasts: true,
            generation: 2,
            revision: Some(7),
            token: Some("1".to_owned()),
            reconcile_at: None,
        });
        work.facts.fresh = true;
        work
    }

    #[test]
    fn a_device_that_failed_comes_back_with_its_wait_and_without_what_its_status_says_twice() {
        let suffixes = [".azure-devices.net".to_owned()];
        let mut work = failed();
        for message in ["m", "not said yet"] {
            work.facts.failure.as_mut().unwrap().message = message.to_owned();
            let dormant = asleep(&work).unwrap();
            assert_eq!(dormant.failure.as_ref().unwrap().failure.message.is_empty(), message == "m");
            let back = dormant.restored(&suffixes, clock::now()).unwrap();
            assert_eq!((back.facts, back.unreported), (work.facts.clone(), true));
        }
    }

    #[test]
    fn a_payload_that_is_in_the_secret_is_not_kept_and_one_that_is_nowhere_else_keeps_the_device_awake() {
        let mut work = failed();
        let payload = ReturnedPayload::new(json!({"a": 1}).as_object().unwrap());
        let hash = payload.hash.shown();
        work.facts.registered.as_mut().unwrap().returned_payload = Some(payload);
        let mut device = (*work.device).clone();
        device.status.as_mut().unwrap().returned_payload_hash = Some(hash.to_string());
        work.device = device.into();
        assert!(asleep(&work).is_some());
        work.facts.secret = None;
        assert!(asleep(&work).is_none());
    }

    #[test]
    fn a_device_of_which_more_is_known_does_not_become_dormant() {
        let mut asked = work();
        asked.facts.trigger = Some(Trigger::NotFound);
        let mut stale = work();
        stale.freshness = Freshness::Stale;
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let mut unreadable = device();
        let payload = serde_json::from_str(&format!("{{\"a\": {deep}}}"));
        unreadable.spec.payload = Some(payload.unwrap());
        for work in [asked, stale, Work::new(unreadable, &[], clock::now())] {
            assert!(asleep(&work).is_none());
        }
    }
}
