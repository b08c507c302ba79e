//! Reads of devices whose object is not kept.

use std::collections::HashMap;

use super::room::Load;
use crate::fleet::DeviceId;

/// Devices that are being read, and what that takes up.
#[derive(Debug, Default)]
pub(in crate::engine) struct Reads(HashMap<DeviceId, Load>);

impl Reads {
    /// True if the device may be read now; otherwise it is being read.
    pub fn begin(&mut self, id: DeviceId, load: Load) -> bool {
        self.0.insert(id, load).is_none()
    }

    /// A read has ended; returns what it took up.
    pub fn ended(&mut self, id: DeviceId) -> Option<Load> {
        self.0.remove(&id)
    }

    pub fn contains(&self, id: DeviceId) -> bool {
        self.0.contains_key(&id)
    }
}
