//! Reads of devices whose object is not kept.

use std::collections::HashMap;

use crate::fleet::DeviceId;
use crate::schedule::Share;

/// Devices that are being read, and whose work that is.
#[derive(Debug, Default)]
pub(in crate::engine) struct Reads(HashMap<DeviceId, Share>);

impl Reads {
    /// True if the device may be read now; otherwise it is being read.
    pub fn begin(&mut self, id: DeviceId, share: Share) -> bool {
        self.0.insert(id, share).is_none()
    }

    /// A read has ended; returns whose work it was.
    pub fn ended(&mut self, id: DeviceId) -> Option<Share> {
        self.0.remove(&id)
    }

    pub fn contains(&self, id: DeviceId) -> bool {
        self.0.contains_key(&id)
    }
}
