//! What a device has that was declared as it is and never changed.

use std::collections::BTreeMap;

use super::course::{Course, Wanted};
use super::moves::Device;
use crate::engine::tests::vouching::text;

/// What the end of a device depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Likeness {
    pub device: Device,
    pub wanted: Wanted,
    pub secondary: bool,
}

impl Likeness {
    pub(super) fn of(course: &Course, device: Device) -> Self {
        Self { device, wanted: course.wanted[device].clone(), secondary: course.secondary }
    }
}

/// What a device has in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fresh {
    registered_hash: String,
    slot: String,
    labels: String,
    data: BTreeMap<String, String>,
}

impl Fresh {
    pub(super) fn of(course: &Course, device: Device) -> Self {
        let (status, secret) = (course.status(device), course.secret(device).unwrap_or_default());
        let keys = secret["data"].as_object().into_iter().flatten().map(|(key, _)| key.clone());
        Self {
            registered_hash: status["registeredHash"].to_string(),
            slot: status["credential"]["slot"].to_string(),
            labels: secret["metadata"]["labels"].to_string(),
            data: keys.map(|key| (key.clone(), text(&secret, &key))).collect(),
        }
    }

    /// The same, where only the hub is another one.
    pub(super) fn at_the_hub_of(mut self, other: &Self) -> Self {
        let hub = |of: &Self| of.data.get("iotHubHostname").cloned().unwrap_or_default();
        let (from, to) = (hub(&self), hub(other));
        for value in self.data.values_mut() {
            *value = value.replace(&from, &to);
        }
        self
    }
}
