//! What is kept of a device of which there are thousands, and how they are grouped.

use std::collections::BTreeMap;

use dps_operator_api::device::ProvisionedDevice;
use serde::Serialize;

use super::{State, state};

/// One device in a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brief {
    pub namespace: String,
    pub name: String,
    /// `namespace/name` of its integration.
    pub integration: String,
    pub state: State,
    pub reason: String,
}

impl Brief {
    pub fn of(device: &ProvisionedDevice) -> Self {
        let conditions = device.status.as_ref().map_or(&[][..], |status| status.conditions.as_slice());
        let (state, reason) = state(conditions, device.spec.suspend);
        Self {
            namespace: device.metadata.namespace.clone().unwrap_or_default(),
            name: device.metadata.name.clone().unwrap_or_default(),
            integration: device.integration_key(),
            state,
            reason: reason.to_owned(),
        }
    }
}

/// Devices with one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    pub reason: String,
    pub devices: usize,
    /// Their names, with the namespace where that is another one than the integration's.
    pub names: Vec<String>,
}

/// Devices in one state by reason, the largest group first; `namespace` is not named again.
pub fn groups(devices: &[Brief], state: State, namespace: &str) -> Vec<Group> {
    let mut by_reason: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for device in devices.iter().filter(|device| device.state == state) {
        let Brief { namespace: own, name, .. } = device;
        let name = if own == namespace { name.clone() } else { format!("{own}/{name}") };
        by_reason.entry(&device.reason).or_default().push(name);
    }
    let mut groups: Vec<Group> = by_reason
        .into_iter()
        .map(|(reason, mut names)| {
            names.sort();
            Group { reason: reason.to_owned(), devices: names.len(), names }
        })
        .collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.devices));
    groups
}
