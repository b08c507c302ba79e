//! What a device has to wait for, and what is planned for one that can do nothing but wait: when that is reported.

use std::time::Duration;

use crate::clock::Now;
use crate::engine::endings::Standing;
use crate::engine::integrations::is_of_namespace;
use crate::engine::{Engine, party};
use crate::fleet::DeviceId;
use crate::fleet::intern::Sym;
use crate::fleet::record::Record;
use crate::kube_io::error::ApiError;

/// A namespace that could not be looked at is looked at again after this time, and so is a registration under
/// way.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Engine {
    /// True while another device is being registered under the same id in the same id scope: which of two
    /// registrations DPS holds in the end could not be known. One that holds nothing against others' has to be
    /// waited for by none of them.
    pub(super) fn waits_for_another_registration(&mut self, id: DeviceId, now: Now) -> bool {
        let Some(record) = self.fleet.get(id) else { return false };
        let others = self.fleet.claimants(id).filter(|other| self.active.is_registering(*other));
        let waits = others.filter_map(|other| self.fleet.get(other)).any(|other| {
            (other.integration == record.integration || other.holds_against_others())
                && self.place_of(other) == self.place_of(record)
        });
        if waits {
            self.ready.sleep_until(id, now.mono + LOOK_AGAIN);
        }
        waits
    }

    /// A Secret that could not be written is looked at again and again, some of a namespace at a time.
    pub(super) fn waits_for_look(&mut self, id: DeviceId, now: Now) -> bool {
        let failed = self.active.work(id).is_some_and(|work| work.facts.secret_failed());
        failed && !self.active.take_look(id, party(&self.fleet, id), now.mono)
    }

    /// True if the device has a permit and must not use it yet.
    pub(super) fn waits_for_namespace(&mut self, id: DeviceId) -> bool {
        self.active.unused_permit(id).is_some() && self.may_be_ending(id)
    }

    /// True if the device's namespace is going away, or whether it is has to be found out first; the device
    /// is reconciled once that is known.
    pub(super) fn may_be_ending(&mut self, id: DeviceId) -> bool {
        let Some(namespace) = self.fleet.get(id).map(|record| record.namespace) else { return false };
        match self.endings.standing(namespace) {
            Standing::Stays => false,
            Standing::Ends => true,
            Standing::Doubted => {
                if self.endings.wait(namespace, id) {
                    self.start_namespace_read(namespace);
                }
                true
            }
        }
    }

    /// Whether a namespace ends is known, or could not be found out.
    pub(in crate::engine) fn namespace_read(
        &mut self,
        namespace: Sym,
        ends: Result<bool, ApiError>,
        now: Now,
    ) {
        let known = match ends {
            Ok(ends) => Some(ends),
            // Without the right it is never known.
            Err(ApiError::Forbidden(_)) => Some(false),
            Err(_) => None,
        };
        for id in self.endings.answered(namespace, known) {
            match known {
                Some(_) => self.ready.go_on(id),
                None => self.ready.sleep_until(id, now.mono + LOOK_AGAIN),
            }
            self.return_unused(id);
        }
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
