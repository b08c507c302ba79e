//! A device that has to wait for its first registration is kept as text: a tenth of what the object
//! and all that may become known of it take. A fleet that is declared at once waits for hours.

use super::Engine;
use super::work::Work;
use crate::api::device::ProvisionedDevice;
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
        let as_new = work.facts == Facts::default() && work.device.status.as_ref().is_none_or(says_nothing);
        let idle = work.task.is_none() && work.found.is_none() && work.unanswered == 0;
        if !as_new || !idle || work.stale || work.revived || work.for_fleet {
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

    fn restored(&self) -> Option<ProvisionedDevice> {
        serde_json::from_str(&self.object).ok()
    }
}

/// The schema's default for the status.
fn says_nothing(status: &crate::api::device::ProvisionedDeviceStatus) -> bool {
    status.conditions.is_empty() && status.registration_id.is_none()
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
        // What cannot be read back is read from the API server.
        let Some(device) = parked.restored() else { return };
        let mut work = Work::new(device, &self.config.allowed_hub_suffixes);
        work.secret_read = parked.secret_read;
        self.work.insert(id, Box::new(work));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
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
        let back = parked.restored().unwrap();
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
        let annotations = back.metadata.annotations.unwrap();
        assert_eq!(annotations.keys().collect::<Vec<_>>(), ["dps-operator.io/reprovision-requested-at"]);
    }

    #[test]
    fn a_device_of_which_more_is_known_is_not_put_away() {
        let mut asked = work();
        asked.facts.asked = Some(Asked::NotFound);
        let mut stale = work();
        stale.stale = true;
        let mut told = work();
        let mut device = device();
        device.status.get_or_insert_default().registration_id = Some("truck-1".to_owned());
        told.device = std::sync::Arc::new(device);
        for work in [asked, stale, told] {
            assert!(Parked::of(&work).is_none());
        }
    }
}
