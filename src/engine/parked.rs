//! A device that has to wait for its first registration is kept as text: a tenth of what the object
//! and all that may become known of it take. A fleet that is declared at once waits for hours.

use super::Engine;
use super::work::Work;
use crate::api::names::{RECONCILE_REQUESTED_AT, REPROVISION_REQUESTED_AT};
use crate::controller::device::facts::Facts;
use crate::fleet::DeviceId;

/// So many are kept as they are: few wait for long.
const CROWD: usize = 500;

/// Such a device.
pub(super) struct Parked {
    object: Box<str>,
    /// Its Secret has been looked at.
    secret_read: bool,
}

impl Parked {
    /// `None` if more is known of the device than what its object says.
    fn of(work: &Work) -> Option<Self> {
        let is_new = work.facts == Facts::default();
        let idle = work.task.is_none() && work.found.is_none() && work.unanswered == 0;
        // A payload that could not be read would come back as none.
        let readable = work.device.spec.payload.as_ref().is_none_or(|payload| payload.object().is_some());
        if !is_new || !idle || !readable || work.stale || work.revived || work.for_fleet {
            return None;
        }
        let mut device = (*work.device).clone();
        device.metadata.labels = None;
        device.metadata.annotations.iter_mut().for_each(|annotations| {
            annotations
                .retain(|key, _| [RECONCILE_REQUESTED_AT, REPROVISION_REQUESTED_AT].contains(&key.as_str()));
        });
        let object = serde_json::to_string(&device).ok()?.into_boxed_str();
        Some(Self { object, secret_read: work.secret_read })
    }

    /// `None` if it does not come back as it was.
    fn restored(&self, hub_suffixes: &[String]) -> Option<Work> {
        let device = serde_json::from_str(&self.object).ok()?;
        let work = Work { secret_read: self.secret_read, ..Work::new(device, hub_suffixes) };
        (work.facts == Facts::default()).then_some(work)
    }
}

impl Engine {
    /// Puts a new device away that waits among many, to be looked at or for leave to call.
    pub(super) fn park(&mut self, id: DeviceId) {
        if self.work.len() > CROWD {
            self.put_away(id);
        }
    }

    pub(super) fn put_away(&mut self, id: DeviceId) {
        if let Some(parked) = self.work.get(&id).and_then(|work| Parked::of(work)) {
            self.work.remove(&id);
            self.parked.insert(id, parked);
        }
    }

    /// Takes a device up again that was put away.
    pub(super) fn unpark(&mut self, id: DeviceId) {
        let Some(parked) = self.parked.remove(&id).filter(|_| !self.work.contains_key(&id)) else { return };
        // What does not come back is read from the API server.
        if let Some(work) = parked.restored(&self.config.allowed_hub_suffixes) {
            self.work.insert(id, Box::new(work));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::device::ProvisionedDevice;
    use crate::controller::device::facts::Asked;

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
        Work::new(device(), &[])
    }

    #[test]
    fn a_new_device_comes_back_as_it_was_without_what_nobody_reads() {
        let mut work = work();
        work.secret_read = true;
        let parked = Parked::of(&work).unwrap();
        let back = parked.restored(&[]).unwrap();
        assert!(back.secret_read);
        let back = back.device;
        assert!(parked.secret_read && parked.object.len() < 500, "{}", parked.object.len());
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
    fn a_device_that_says_that_it_is_queued_is_put_away_with_its_status() {
        let mut device = device();
        let condition = json!({
            "type": "Ready", "status": "False", "reason": "Queued", "message": "m",
            "lastTransitionTime": "2026-11-23T10:05:00Z",
        });
        device.status =
            serde_json::from_value(json!({"observedGeneration": 2, "conditions": [condition]})).unwrap();
        let work = Work::new(device, &[]);
        let back = Parked::of(&work).unwrap().restored(&[]).unwrap();
        assert_eq!(back.device.status, work.device.status);
    }

    #[test]
    fn a_device_of_which_more_is_known_is_not_put_away() {
        let mut asked = work();
        asked.facts.asked = Some(Asked::NotFound);
        let mut stale = work();
        stale.stale = true;
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let mut unreadable = device();
        let payload = serde_json::from_str(&format!("{{\"a\": {deep}}}"));
        unreadable.spec.payload = Some(payload.unwrap());
        for work in [asked, stale, Work::new(unreadable, &[])] {
            assert!(Parked::of(&work).is_none());
        }
    }
}
