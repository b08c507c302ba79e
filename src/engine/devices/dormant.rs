//! A device that has to wait for its first registration is kept as text: a tenth of what the object
//! and all that may become known of it take. A fleet that is declared at once waits for hours.

use super::entry::Timers;
use super::work::{Freshness, Work};
use crate::api::names::{RECONCILE_REQUESTED_AT, REPROVISION_REQUESTED_AT};
use crate::clock::Now;
use crate::controller::device::facts::Facts;
use crate::schedule::Share;

/// Such a device.
pub(super) struct Dormant {
    object: Box<str>,
    /// Its Secret has been read.
    secret_read: bool,
    pub(super) timers: Timers,
}

impl Dormant {
    /// `None` if more is known of the device than what its object says.
    pub(super) fn of(work: &Work, timers: Timers) -> Option<Self> {
        let is_new = work.facts == Facts::default();
        let idle = work.task.is_none() && work.found.is_none();
        // A payload that could not be read would come back as none.
        let readable = work.device.spec.payload.as_ref().is_none_or(|payload| payload.object().is_some());
        if !is_new
            || !idle
            || !readable
            || work.freshness != Freshness::Current
            || work.share != Share::Device
        {
            return None;
        }
        let mut device = (*work.device).clone();
        device.metadata.labels = None;
        device.metadata.annotations.iter_mut().for_each(|annotations| {
            annotations
                .retain(|key, _| [RECONCILE_REQUESTED_AT, REPROVISION_REQUESTED_AT].contains(&key.as_str()));
        });
        let object = serde_json::to_string(&device).ok()?.into_boxed_str();
        Some(Self { object, secret_read: work.secret_read, timers })
    }

    /// `None` if it does not come back as it was.
    pub(super) fn restored(&self, hub_suffixes: &[String], now: Now) -> Option<Work> {
        let device = serde_json::from_str(&self.object).ok()?;
        let work = Work { secret_read: self.secret_read, ..Work::new(device, hub_suffixes, now) };
        (work.facts == Facts::default()).then_some(work)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::device::ProvisionedDevice;
    use crate::clock;
    use crate::controller::device::facts::Trigger;

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

    #[test]
    fn a_new_device_comes_back_as_it_was_without_what_is_never_read() {
        let mut work = work();
        work.secret_read = true;
        let dormant = Dormant::of(&work, Timers::default()).unwrap();
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
        let back = Dormant::of(&work, Timers::default()).unwrap().restored(&[], clock::now()).unwrap();
        assert_eq!(back.device.status, work.device.status);
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
            assert!(Dormant::of(&work, Timers::default()).is_none());
        }
    }
}
