//! Who was registered last under the ids of devices that have gone or have another id since. A Secret that was
//! retained from before that tells of a registration that DPS holds no longer.

use std::collections::{HashMap, VecDeque};

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::Engine;
use crate::api::device::ProvisionedDevice;
use crate::api::names::DEVICE;
use crate::controller::device::facts::Registered;
use crate::fleet::DeviceId;
use crate::fleet::hash::Hash;
use crate::fleet::record::Record;

/// So many are remembered, the latest ones.
const MOST: usize = 4096;

/// The devices, by where DPS keeps the registration.
#[derive(Debug, Default)]
pub(super) struct Former {
    registrants: HashMap<Hash, Hash>,
    order: VecDeque<Hash>,
}

impl Former {
    fn note(&mut self, place: Hash, device: Hash) {
        if self.registrants.insert(place, device).is_some() {
            return;
        }
        if self.order.len() == MOST
            && let Some(first) = self.order.pop_front()
        {
            self.registrants.remove(&first);
        }
        self.order.push_back(place);
    }

    /// Since a device's Secret was written, which records this registration, another device has been registered
    /// under the same id.
    pub fn displaces(&self, device: &ProvisionedDevice, secret: &Secret, registered: &Registered) -> bool {
        let own = (device.namespace().unwrap_or_default(), device.name_any());
        let written_for = secret.annotations().get(DEVICE).and_then(|device| device.split_once('/'));
        self.is_another(registered.place(), (&own.0, &own.1), written_for)
    }

    /// The last one is neither this device nor the one that its Secret was written for: a namespace may have
    /// been restored under another name.
    fn is_another(&self, place: Hash, own: (&str, &str), written_for: Option<(&str, &str)>) -> bool {
        let is_one_of_them = |last: &Hash| {
            [Some(own), written_for]
                .into_iter()
                .flatten()
                .any(|(namespace, name)| *last == device_hash(namespace, name))
        };
        self.registrants.get(&place).is_some_and(|last| !is_one_of_them(last))
    }

    fn forget(&mut self, place: Hash) {
        if self.registrants.remove(&place).is_some() {
            self.order.retain(|noted| *noted != place);
        }
    }
}

fn device_hash(namespace: &str, name: &str) -> Hash {
    Hash::of("device", [namespace.as_bytes(), name.as_bytes()])
}

impl Engine {
    /// A registered device goes.
    pub(super) fn note_former(&mut self, id: DeviceId) {
        let Some(record) = self.fleet.get(id).filter(|record| record.is_registered()) else { return };
        let Some(place) = self.place_of(record) else { return };
        let device = device_hash(self.fleet.names.text(record.namespace), &record.name);
        self.former.note(place, device);
    }

    /// The same where it is known under another id from now on.
    pub(super) fn note_former_id(&mut self, id: DeviceId, device: &ProvisionedDevice) {
        let is_the_same = |record: &Record| {
            device.metadata.generation == Some(record.generation)
                || (record.registration_id() == device.registration_id()
                    && self.fleet.names.text(record.integration) == device.integration_key())
        };
        if self.fleet.get(id).is_some_and(|record| !is_the_same(record)) {
            self.note_former(id);
        }
    }

    /// DPS has said where a device is: who was registered before it is no longer of interest.
    pub(super) fn forget_former(&mut self, id: DeviceId) {
        if self.former.registrants.is_empty() {
            return;
        }
        if let Some(place) = self.fleet.get(id).and_then(|record| self.place_of(record)) {
            self.former.forget(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::hash;

    fn place(number: usize) -> Hash {
        hash::place("0ne1", &number.to_string())
    }

    #[test]
    fn the_latest_ones_are_remembered_each_until_a_device_is_registered() {
        let (a, b) = (device_hash("fleet", "a"), device_hash("fleet", "b"));
        let mut former = Former::default();
        for number in (0..=MOST).chain([MOST]) {
            former.note(place(number), a);
        }
        former.note(place(1), b);
        let known = |former: &Former, number| former.registrants.get(&place(number)).copied();
        assert_eq!((former.registrants.len(), former.order.len()), (MOST, MOST));
        assert_eq!([0, 1, 2].map(|number| known(&former, number)), [None, Some(b), Some(a)]);
        former.forget(place(1));
        assert_eq!(known(&former, 1), None);
        assert_eq!(former.registrants.len(), former.order.len());
    }

    #[test]
    fn only_another_device_than_the_one_that_the_secret_was_written_for_displaces_it() {
        let mut former = Former::default();
        former.note(place(0), device_hash("fleet", "truck"));
        let displaces = |number, own, written_for| former.is_another(place(number), own, written_for);
        let (truck, rival) = (("fleet", "truck"), ("fleet", "rival"));
        assert!(!displaces(0, truck, Some(truck)), "it is back");
        assert!(displaces(0, rival, Some(rival)) && displaces(0, rival, None));
        assert!(
            !displaces(0, ("depot", "truck"), Some(truck)),
            "its namespace was restored under another name"
        );
        assert!(!displaces(0, truck, Some(("depot", "truck"))), "and back");
        assert!(!displaces(1, rival, Some(rival)), "no device was there");
    }
}
