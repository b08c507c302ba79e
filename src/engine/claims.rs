//! Which device has a registration id that several claim. A claim counts in an id scope if DPS has accepted
//! the device's integration there, and that admits the device under this id. The best one that counts has
//! the id; however many others claim it, nothing changes for more than two of them at once.
//!
//! What status and marks say of a registration or an acceptance others can write, too. So no device gives
//! way to them before its own Secret was read and its own integration has called DPS; and a device that is
//! not registered holds nothing against another integration's before its integration has.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;

use super::Engine;
use crate::api::names::{DEVICE, REGISTRATION};
use crate::controller::device::decide::IdStanding;
use crate::controller::device::facts::Unresolved;
use crate::fleet::intern::Sym;
use crate::fleet::record::Record;
use crate::fleet::registration::Registration;
use crate::fleet::{DeviceId, Fleet};

impl Engine {
    /// The id scope in which a device's claim counts. Its letters count in either case: DPS may take one as
    /// the other.
    fn scope_of_claim(&self, record: &Record) -> Option<String> {
        self.scope_of(record).filter(|_| record.may_have_its_id())
    }

    /// The id scope of its integration, if DPS has accepted that there, or the device's own credential.
    fn scope_of(&self, record: &Record) -> Option<String> {
        let is_its_own = record.has_own_credential() && record.registration() != Registration::None;
        let declared = || Some(self.registry.object(record.integration)?.spec.id_scope.as_str());
        let own = is_its_own.then(declared).flatten();
        own.or(self.registry.accepted_scope(record.integration)).map(str::to_ascii_lowercase)
    }

    /// Whether the device may use its registration id.
    pub(super) fn standing(&self, id: DeviceId) -> IdStanding {
        let Some(record) = self.fleet.get(id) else { return IdStanding::Free };
        let Some(own) = self.scope_of(record) else { return IdStanding::Free };
        let is_taken = self.fleet.rivals(id).any(|(_, other)| {
            self.scope_of_claim(other).as_ref() == Some(&own)
                && other.has_better_claim_than(record)
                && (other.integration == record.integration || other.holds_against_others())
                && self.registry.may_claim(other, &self.fleet.names)
        });
        let read = self.active.work(id).is_some_and(|work| work.secret_read);
        match is_taken {
            false => IdStanding::Free,
            true if record.may_be_verified(read) => IdStanding::Unverified,
            true => IdStanding::Taken,
        }
    }

    /// Takes in that another device has this one's registration id, or that one had it when the process before
    /// ended.
    pub(super) fn take_displaced(&mut self, id: DeviceId) {
        let standing = self.standing(id);
        let Some(work) = self.active.work_mut(id) else { return };
        let (facts, status) = (&mut work.facts, work.device.status.as_ref());
        let displaced = match (standing, status) {
            (IdStanding::Taken, _) => Unresolved::Displaced,
            (IdStanding::Free, Some(status)) if !facts.fresh => {
                Unresolved::stated(status, facts.registered.as_ref())
            }
            (IdStanding::Free | IdStanding::Unverified, _) => Unresolved::Nothing,
        };
        facts.unresolved = facts.unresolved.max(displaced);
    }

    /// The device that has this one's registration id if this one has not: the one for which it matters
    /// that this one changes, before and after.
    pub(super) fn next_claimant(&self, id: DeviceId) -> Option<DeviceId> {
        let record = self.fleet.get(id).filter(|_| self.fleet.leads_rivals(id))?;
        let scope = self.scope_of_claim(record)?;
        if !self.registry.may_claim(record, &self.fleet.names) {
            return None;
        }
        let is_of_scope = |other: &Record| self.scope_of_claim(other).as_ref() == Some(&scope);
        self.best_claims(id, is_of_scope).pop()
    }

    /// Takes in whether DPS has registered a device.
    pub(super) fn set_registered(&mut self, id: DeviceId, registration: Registration) {
        if self.fleet.get(id).is_some_and(|record| !record.is_said(registration)) {
            self.change_claim(id, |fleet| fleet.set_registered(id, registration));
        }
    }

    /// Changes what a device's claim is worth. Those for which it matters are woken.
    fn change_claim(&mut self, id: DeviceId, change: impl FnOnce(&mut Fleet)) {
        let before = self.next_claimant(id);
        change(&mut self.fleet);
        let after = self.next_claimant(id);
        before.into_iter().chain(after).for_each(|other| self.ready.wake(other));
    }

    /// A device's Secret was read, and this is what is known since.
    pub(super) fn secret_has_told(&mut self, id: DeviceId, told: Registration) {
        let before = self.fleet.get(id).map_or(Registration::None, Record::registration);
        // DPS may have said more.
        if told != Registration::Said || before != Registration::Known {
            self.set_registered(id, told);
        }
    }

    /// The watch shows the Secret that was written for a device: what its status says of a registration is
    /// known then.
    pub(super) fn vouch_for_registration(&mut self, secret: &PartialObjectMeta<Secret>) {
        let namespace = secret.namespace().unwrap_or_default();
        let mark = |key: &str| secret.annotations().get(key).map_or("", String::as_str);
        let device = mark(DEVICE).split_once('/').filter(|(of, _)| *of == namespace).map(|(_, name)| name);
        let Some(id) = device.and_then(|name| self.fleet.find(&namespace, name)) else { return };
        let Some(record) = self.fleet.get(id) else { return };
        let Some((scope, of)) = mark(REGISTRATION).split_once('/') else { return };
        let is_its = of == record.registration_id() && secret.name_any() == record.secret_name();
        let shown = record.secret_scope().map(|scope| self.fleet.names.text(scope));
        if is_its && !shown.is_some_and(|shown| shown.eq_ignore_ascii_case(scope)) {
            self.change_claim(id, |fleet| fleet.set_has_its_secret(id, scope));
        }
    }

    /// The claims of all devices of an integration may count from now on, or no longer. The devices that
    /// have the better claims beside them are woken, theirs and others'.
    pub(super) fn wake_claimants_of(&mut self, integration: Sym) {
        for id in self.fleet.of_integration(integration).to_vec() {
            if self.fleet.stands_for_integration(id) {
                let best = self.best_claims(id, |other| other.integration != integration);
                best.into_iter().for_each(|other| self.ready.wake(other));
            }
            let leads = self.fleet.get(id).filter(|_| self.fleet.leads_rivals(id));
            if leads.is_some_and(|record| self.registry.may_claim(record, &self.fleet.names)) {
                self.ready.wake_later(id);
            }
        }
    }

    /// Who else claims the registration id of a device: in each id scope the one whose claim is the best
    /// that counts, of those that are looked at. If the claims of all others change, these are the ones for
    /// which it matters.
    pub(super) fn best_claims(&self, id: DeviceId, is_looked_at: impl Fn(&Record) -> bool) -> Vec<DeviceId> {
        let mut best: HashMap<String, (DeviceId, &Record)> = HashMap::new();
        for (other, record) in self.fleet.rivals(id).filter(|(_, record)| is_looked_at(record)) {
            let Some(scope) = self.scope_of_claim(record) else { continue };
            match best.entry(scope) {
                Entry::Occupied(known) if !record.has_better_claim_than(known.get().1) => {}
                entry if self.registry.may_claim(record, &self.fleet.names) => {
                    entry.insert_entry((other, record));
                }
                Entry::Occupied(_) | Entry::Vacant(_) => {}
            }
        }
        best.into_values().map(|(other, _)| other).collect()
    }
}
