//! How often a device's status and Secret were written lately, and whether something else changes them.

use tokio::time::Instant;

use super::Active;
use super::contested::Restores;
use crate::controller::device::decide::Contested;
use crate::fleet::DeviceId;
use crate::schedule::writes::Found;

/// Objects that something else keeps changing after we have written them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct ContestedObjects {
    pub statuses: usize,
    pub secrets: usize,
}

impl Active {
    /// When the device's status may be written, if `found` is in its place.
    pub fn may_write_status(&mut self, id: DeviceId, found: Found, now: Instant) -> Instant {
        self.entry(id).writes.get_or_insert_default().next(found, now)
    }

    /// The device's status is written over what was `found`. True if it is from now on known to have
    /// another writer.
    pub fn status_written(&mut self, id: DeviceId, found: Found, now: Instant) -> bool {
        let contested = self.entry(id).writes.get_or_insert_default().spend(found, now);
        self.contested.statuses += usize::from(contested);
        contested
    }

    /// Objects that were known to have another writer when that was looked at last.
    pub fn contested_objects(&self) -> ContestedObjects {
        self.contested
    }

    /// The status that is there is as we would write it.
    pub fn status_agreed(&mut self, id: DeviceId) {
        let writes = self.entries.get_mut(&id).and_then(|entry| entry.writes.as_mut());
        if let Some(writes) = writes {
            writes.agreed();
        }
    }

    /// A person has changed the device or asks for something.
    pub fn asked(&mut self, id: DeviceId) {
        let writes = self.entries.get_mut(&id).and_then(|entry| entry.writes.as_mut());
        if let Some(writes) = writes {
            writes.asked();
        }
    }

    /// The device's Secret, which had been deleted or edited, was written again.
    pub fn restored(&mut self, id: DeviceId, now: Instant) {
        let entry = self.entry(id);
        let before = entry.restores.as_deref().copied();
        entry.restores = Some(Box::new(Restores::after(before, now)));
    }

    /// Whether something else keeps changing the device's Secret.
    pub fn contested(&self, id: DeviceId, now: Instant) -> Option<Contested> {
        self.entries.get(&id)?.restores.as_ref()?.contested(now)
    }

    /// Forgets writes that are long past, and counts what has another writer.
    pub fn forget_calm(&mut self, now: Instant) {
        let mut contested = ContestedObjects::default();
        self.entries.retain(|_, entry| {
            entry.restores = entry.restores.take().filter(|restores| !restores.is_over(now));
            entry.writes = entry.writes.take().filter(|writes| !writes.is_over(now));
            contested.secrets += usize::from(entry.restores.as_ref().is_some_and(|r| r.is_reported()));
            contested.statuses += usize::from(entry.writes.as_ref().is_some_and(|w| w.is_contested(now)));
            !entry.is_empty()
        });
        self.contested = contested;
    }
}
