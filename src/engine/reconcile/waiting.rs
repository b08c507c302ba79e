//! What is planned for a device that can do nothing but wait: when that is reported.

use crate::clock::Now;
use crate::engine::Engine;
use crate::fleet::DeviceId;

impl Engine {
    /// Plans the report that the device's integration cannot be used, unless it is due already.
    pub(super) fn plan_report(&mut self, id: DeviceId, now: Now) {
        if self.active.grace(id, now.mono).is_over() {
            return;
        }
        let since = self.fleet.get(id).and_then(|record| self.registry.unusable_since(record.integration));
        let at = self.active.plan_report(id, since, now.mono);
        self.ready.wake_by(id, at);
    }

    /// Sets the time at which a new device is reported as queued.
    pub(super) fn plan_queued_report(&mut self, id: DeviceId, now: Now) {
        let Some(since) = self.permits.waiting_since(id) else { return };
        if let Some(at) = self.active.plan_queued_report(id, since, now.mono) {
            self.ready.wake_by(id, at);
        }
    }
}
