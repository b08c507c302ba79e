//! A device's status is written within its budget. While something else keeps changing it, nothing is
//! begun for the device that would end in the next write of it.

use tracing::{debug, warn};

use crate::clock::Now;
use crate::controller::events::{CONTESTED, EventNote, EventReason};
use crate::engine::Engine;
use crate::fleet::DeviceId;
use crate::schedule::writes::Found;

impl Engine {
    /// What is in the place of the status that we wrote last.
    fn found(&self, id: DeviceId) -> Found {
        let record = self.fleet.get(id);
        record.map_or(Found::AsWritten, |record| Found::of(record.written.as_ref(), record.status.as_ref()))
    }

    /// True if the device's status may not be written yet; then the device is reconciled when it may.
    pub(super) fn waits_to_write_status(&mut self, id: DeviceId, now: Now) -> bool {
        let at = self.active.may_write_status(id, self.found(id), now.mono);
        let waits = at > now.mono;
        if waits {
            self.ready.wake_by(id, at);
        }
        waits
    }

    /// True if somebody else has changed the status, and it is too early to write over that.
    pub(super) fn waits_for_other_writer(&mut self, id: DeviceId, now: Now) -> bool {
        self.found(id) == Found::Changed && self.waits_to_write_status(id, now)
    }

    /// The status that is there is as we would write it, whoever wrote it.
    pub(super) fn status_agreed(&mut self, id: DeviceId) {
        self.fleet.status_agreed(id);
        self.active.status_agreed(id);
    }

    /// The status is written. Returns the event that this is worth: something else keeps changing it.
    pub(super) fn spend_status_write(&mut self, id: DeviceId, now: Now) -> Option<EventNote> {
        let contested = self.active.status_written(id, self.found(id), now.mono);
        let device = self.active.work(id).filter(|_| contested).map(|work| &work.device.metadata)?;
        let (namespace, name) = (&device.namespace, &device.name);
        // A second operator changes all of them: one line, and the metric counts.
        if self.active.contested_objects().statuses == 1 {
            warn!(namespace, device = name, "{CONTESTED}");
        } else {
            debug!(namespace, device = name, "{CONTESTED}");
        }
        Some(EventNote::new(EventReason::StatusContested, CONTESTED))
    }
}
