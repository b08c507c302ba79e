//! Permits to call DPS: which device queues, which holds one, and what becomes of it.

use crate::clock::Now;
use crate::engine::devices::HeldPermit;
use crate::engine::{Engine, party};
use crate::fleet::DeviceId;
use crate::fleet::record::Record;
use crate::schedule::permits::{Lane, Permit};

impl Engine {
    /// A permit that is used from now on; without one the device queues. A permit that has been held
    /// for too long goes back, and the device is next.
    pub(super) fn use_permit_or_queue(&mut self, id: DeviceId, lane: Lane, now: Now) -> Option<Permit> {
        let Some(permit) = self.active.unused_permit(id) else {
            self.enqueue(id, lane, now);
            return None;
        };
        if self.permits.is_fresh(&permit, now.mono) {
            self.active.hold(id, HeldPermit { permit, used: true });
            return Some(permit);
        }
        self.active.release(id);
        self.permits.next_time(permit, now.mono);
        None
    }

    /// A permit served to begin something that is no call: its place in the rollout is used up.
    pub(super) fn spend_without_call(&mut self, id: DeviceId) {
        if let Some(permit) = self.active.unused_permit(id) {
            self.active.release(id);
            self.permits.no_call(permit);
        }
    }

    pub(super) fn enqueue(&mut self, id: DeviceId, lane: Lane, now: Now) {
        let Some(record) = self.fleet.get(id) else { return };
        let (sym, party) = (record.integration, party(&self.fleet, id));
        let is_canary = self.registry.retry_at(sym, record.uid, now.mono).is_some();
        let is_asked = record.settled.is_some() && self.active.due_work(id).is_some();
        if record.has_own_credential() {
            // What becomes of it says nothing of others: it goes before none of them.
            self.permits.enqueue_alone(party, id, lane, now.mono);
        } else if is_canary || (is_asked && self.registry.asks(sym, now.mono)) {
            self.permits.enqueue_first(party, id, lane, now.mono);
        } else {
            self.permits.enqueue(party, id, lane, now.mono);
        }
    }

    /// A device that no longer wants to register gives its permit back. One that is being read, whose
    /// effect is in flight or that is about to be reconciled keeps it.
    pub(super) fn return_unused(&mut self, id: DeviceId) {
        let Some(permit) = self.active.unused_permit(id) else { return };
        let awaits = |record: &Record| self.endings.awaits(record.namespace, id);
        let busy = self.active.is_being_read(id)
            || self.fleet.get(id).is_some_and(awaits)
            || self.ready.is_ready(id)
            || self.active.work(id).is_some_and(|work| work.task.is_some());
        if !busy {
            self.active.release(id);
            self.permits.unused(permit);
        }
    }
}
