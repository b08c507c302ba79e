//! What is planned for a device that can do nothing but wait: when that is reported.

use crate::clock::Now;
use crate::engine::integrations::is_of_namespace;
use crate::engine::{Engine, party};
use crate::fleet::DeviceId;
use crate::fleet::record::Record;

impl Engine {
    /// A Secret that could not be written is looked at again and again, some of a namespace at a time.
    pub(super) fn waits_for_look(&mut self, id: DeviceId, now: Now) -> bool {
        let failed = self.active.work(id).is_some_and(|work| work.facts.secret_failed());
        failed && !self.active.take_look(id, party(&self.fleet, id), now.mono)
    }

    /// Plans the report that the device's integration cannot be used, unless it is due already.
    pub(super) fn plan_report(&mut self, id: DeviceId, now: Now) {
        if self.active.grace(id).is_over() {
            return;
        }
        // Of an integration that is not for it a device learns nothing, also not since when it is in trouble.
        let knows = |record: &&Record| {
            let (integration, namespace, names) = (record.integration, record.namespace, &self.fleet.names);
            is_of_namespace(integration, namespace, names)
                || self.registry.serves(integration, namespace, names)
        };
        let record = self.fleet.get(id).filter(knows);
        let since = record.and_then(|record| self.registry.unusable_since(record.integration));
        if let Some(at) = self.active.plan_report(id, party(&self.fleet, id), since, now.mono) {
            self.ready.wake_by(id, at);
        }
    }

    /// Sets the time at which a new device is reported as queued.
    pub(super) fn plan_queued_report(&mut self, id: DeviceId, now: Now) {
        let Some(since) = self.permits.waiting_since(id) else { return };
        if let Some(at) = self.active.plan_queued_report(id, party(&self.fleet, id), since, now.mono) {
            self.ready.wake_by(id, at);
        }
    }
}
