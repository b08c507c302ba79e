//! What follows from a change that one owner has reported, applied to the others.

use super::Engine;
use super::devices::HeldPermit;
use super::integrations::{Change, PermitChange, RecordedPause, is_of_namespace};
use crate::clock::Now;
use crate::fleet::DeviceId;
use crate::fleet::intern::Sym;
use crate::schedule::permits::Ended;

impl Engine {
    /// Applies what follows from a change of an integration, but for lookups: those are calls.
    pub(super) fn apply(&mut self, sym: Sym, change: &Change, now: Now) {
        let spec = self.registry.object(sym).map(|object| &object.spec);
        let scope = spec.map(|spec| spec.id_scope.as_str());
        let certificates = spec.and_then(|spec| spec.attestation.x509.as_ref());
        let certificates = certificates.map(|x509| x509.secret_name.as_str());
        self.fleet.set_scope(sym, scope, self.registry.is_proven(sym), certificates);
        match &change.permits {
            Some(PermitChange::Admit { group, scope, gate, limits }) => {
                self.permits.admit(sym.index(), *group, scope, *gate, now.mono);
                self.permits.limit(sym.index(), *limits, now.mono);
            }
            Some(PermitChange::Limit(limits)) => self.permits.limit(sym.index(), *limits, now.mono),
            Some(PermitChange::Gate(gate)) => self.permits.set_gate(sym.index(), *gate),
            Some(PermitChange::Dismiss) => drop(self.permits.dismiss(sym.index())),
            None => {}
        }
        if matches!(change.permits, Some(PermitChange::Admit { .. } | PermitChange::Limit(_))) {
            self.issuance.leave_rollout(sym).into_iter().for_each(|id| self.ready.wake_later(id));
        }
        if let Some(pause) = change.recall_pause {
            self.recall_pause(sym, pause, now);
        }
        if change.wake_waiting {
            for id in self.permits.waiters(sym.index()) {
                self.active.restart_grace(id);
                self.ready.wake_later(id);
            }
        }
        if change.wake_devices {
            for id in self.fleet.of_integration(sym).to_vec() {
                if self.sees_change(id, change) {
                    self.active.restart_grace(id);
                    self.ready.wake_later(id);
                }
            }
        }
        if change.wake_devices || change.claims {
            self.wake_claimants_of(sym);
        }
    }

    /// DPS asked to wait before this process began to act. Others can write that, too: it binds the
    /// integration alone, and each one of the id scope has it in its own status.
    fn recall_pause(&mut self, sym: Sym, pause: RecordedPause, now: Now) {
        let left = pause.left(now.wall);
        if left.is_zero() {
            return;
        }
        let until = now.mono + left;
        if let Some(gate) = self.registry.recall_pause(sym, until) {
            self.permits.set_gate(sym.index(), gate);
        }
    }

    /// A user asks for a device: its integration's gate opens for a try.
    pub(super) fn open_gate(&mut self, id: DeviceId, now: Now) {
        let Some(record) = self.fleet.get(id) else { return };
        let (sym, namespace) = (record.integration, record.namespace);
        if !self.registry.serves(sym, namespace, &self.fleet.names) {
            return;
        }
        if let Some(gate) = self.registry.try_now(sym, namespace, now.mono) {
            self.permits.set_gate(sym.index(), gate);
        }
    }

    /// False for a device of another namespace that the integration admits neither now nor before: to
    /// that one it must look as if there were none, also in time.
    fn sees_change(&self, id: DeviceId, change: &Change) -> bool {
        let Some(record) = self.fleet.get(id) else { return false };
        let (integration, namespace, names) = (record.integration, record.namespace, &self.fleet.names);
        is_of_namespace(integration, namespace, names)
            || self.registry.serves(integration, namespace, names)
            || change.before.as_ref().is_some_and(|before| self.registry.consents(before, namespace, names))
    }

    /// Drops work, timers and permit of a device that is gone or whose name another object has. Its
    /// record stays, and reads in flight: their results are dropped by uid.
    pub(super) fn drop_work(&mut self, id: DeviceId, now: Now) {
        self.note_superseded(id, now);
        self.issuance.remove(id);
        let held = self.active.remove(id);
        self.leave_line(id, held, now);
    }

    /// Gives up a device's place in line and its permit.
    pub(super) fn leave_line(&mut self, id: DeviceId, held: Option<HeldPermit>, now: Now) {
        self.permits.leave(id);
        self.active.left_line(id);
        match held {
            // A call that has begun may have reached DPS, so it counts.
            Some(HeldPermit { permit, used: true }) => {
                self.permits.finished(permit, Ended::Unanswered, now.mono);
            }
            Some(HeldPermit { permit, used: false }) => self.permits.unused(permit),
            None => {}
        }
    }
}
