//! What the API server shows is handed to the owners of that knowledge; what follows is applied.

mod doubts;
pub(super) mod sync;
mod watches;

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use tracing::{info, warn};

use self::sync::{Phase, WatchId, WatchedKind};
pub(super) use self::watches::Watches;
use super::integrations::ReferenceChanges;
use super::{Engine, party};
use crate::api::device::ProvisionedDevice;
use crate::api::integration::DpsIntegration;
use crate::api::references::{Reference, Referred, ReferredKind};
use crate::api::version;
use crate::clock::Now;
use crate::fleet::record::Record;
use crate::fleet::uid::Uid;
use crate::fleet::{DeviceChange, DeviceId};
use crate::kube_io::refs::WatchNumber;
use crate::kube_io::watch::Observed;

/// Devices that name one Secret and are reconciled at once when it changes,
const AT_ONCE: usize = 64;
/// and as many of the others each time this has passed.
const OTHERS_EVERY: Duration = Duration::from_secs(1);

impl Engine {
    fn namespace_of(&self, watch: WatchId) -> Option<String> {
        self.context.config.namespaces().get(watch.0).cloned().flatten()
    }

    /// A watch has been read, or is not allowed.
    fn watch_read(&mut self, kind: WatchedKind, watch: WatchId, allowed: bool, now: Now) {
        self.sync.read(kind, watch, allowed);
        self.context.telemetry.metrics.set_synced(kind.as_str(), self.sync.is_synced(kind));
        self.context.telemetry.health.set_ready(self.sync.is_ready());
        self.advance(now);
    }

    /// Starts what comes next when everything before it has been read.
    fn advance(&mut self, now: Now) {
        while let Some(phase) = self.sync.advance(self.registry.references_are_read()) {
            match phase {
                Phase::Integrations => {}
                Phase::References => self.watch_references(now),
                Phase::Devices => self.watches.start_devices(&self.context),
                Phase::Secrets => self.watches.start_secrets(&self.context),
                Phase::Complete => {
                    let (devices, integrations) = (self.fleet.len(), self.registry.declared().count());
                    let refused = self.sync.refused();
                    self.doubt_namespaces_without_secrets();
                    if refused.is_empty() {
                        info!(devices, integrations, "every watch has been read");
                    } else {
                        warn!(
                            devices,
                            integrations,
                            refused = refused.join(", "),
                            "what may be read has been read; the API server refuses the other watches"
                        );
                    }
                    self.context.telemetry.health.set_ready(self.sync.is_ready());
                    self.reconcile_all(now);
                }
            }
        }
    }

    pub(super) fn integration_observed(
        &mut self,
        watch: WatchId,
        observed: Observed<DpsIntegration>,
        now: Now,
    ) {
        match observed {
            Observed::Listing(truth) => {
                self.sync.list_begins(WatchedKind::Integrations, watch, truth);
                self.sync.integration_list_begins(watch);
            }
            Observed::Present(integration) => {
                let key = key_of(&integration);
                self.sync.integration_listed(watch, &key);
                let sym = self.fleet.names.intern(&key);
                let known = self.registry.object(sym).map_or(0, |held| version::of(&held.metadata));
                let shown = version::of(&integration.metadata);
                if self.sync.gives_way(WatchedKind::Integrations, watch, known, shown) {
                    self.registry.forget_version(sym);
                }
                let change = self.registry.observed(sym, integration, now.mono);
                let namespaces = self.context.config.namespaces();
                if self.registry.begins_to_need_labels(namespaces.len()) {
                    self.watches.start_namespaces(&self.context);
                }
                self.apply(sym, &change, now);
            }
            Observed::Gone(integration) => {
                let sym = self.fleet.names.intern(&key_of(&integration));
                let change = self.registry.gone(sym, now.mono);
                self.apply(sym, &change, now);
            }
            Observed::Listed => {
                self.sync.list_ends(WatchedKind::Integrations, watch);
                let listed = self.sync.integration_list_ends(watch);
                let only = self.namespace_of(watch);
                for sym in self.registry.unlisted(&listed, only.as_deref(), &self.fleet.names) {
                    let change = self.registry.gone(sym, now.mono);
                    self.apply(sym, &change, now);
                }
                self.watch_read(WatchedKind::Integrations, watch, true, now);
            }
            Observed::Forbidden => self.watch_read(WatchedKind::Integrations, watch, false, now),
        }
        if self.sync.phase() != Phase::Integrations {
            self.watch_references(now);
        }
    }

    /// Watches exactly the Secrets and ConfigMaps that integrations refer to now.
    fn watch_references(&mut self, now: Now) {
        let ReferenceChanges { begin, end } = self.registry.take_reference_changes();
        for reference in &end {
            self.watches.unwatch(reference);
            self.sync.reference_seen(reference);
        }
        // A Secret with a group's key is never the output for a device.
        for Reference { kind, namespace, name } in begin.keys().chain(&end) {
            if *kind == ReferredKind::Secret {
                let devices = self.fleet.devices_of_secret(namespace, name).collect();
                self.wake_users(devices, now);
            }
        }
        begin.into_iter().for_each(|(reference, keys)| self.watches.watch(reference, keys));
    }

    /// `number`: of the watch that has shown it.
    pub(super) fn referred_observed(
        &mut self,
        reference: &Reference,
        number: WatchNumber,
        observed: Observed<Referred>,
        now: Now,
    ) {
        // A watch that was ended may have shown it with other keys.
        if !self.registry.is_referred_to(reference) || !self.watches.is_current(reference, number) {
            return;
        }
        let referred = match observed {
            Observed::Listing(_) => return self.sync.reference_list_begins(reference.clone()),
            Observed::Present(referred) => referred,
            Observed::Gone(_) => Referred::Missing,
            Observed::Forbidden => Referred::Forbidden,
            // A list that ends without the object says that there is none.
            Observed::Listed if self.sync.reference_seen(reference) => Referred::Missing,
            Observed::Listed => return,
        };
        self.sync.reference_seen(reference);
        for sym in self.registry.referred_observed(reference, referred) {
            let change = self.registry.evaluate(sym, now.mono);
            self.apply(sym, &change, now);
        }
        if self.sync.phase() == Phase::References {
            self.advance(now);
        }
    }

    pub(super) fn device_observed(
        &mut self,
        watch: WatchId,
        observed: Observed<ProvisionedDevice>,
        now: Now,
    ) {
        match observed {
            Observed::Listing(truth) => {
                self.sync.list_begins(WatchedKind::Devices, watch, truth);
                self.sync.device_list_begins(watch);
            }
            Observed::Present(device) => {
                let known = self.fleet.find(&device.namespace().unwrap_or_default(), &device.name_any());
                let shown = version::of(&device.metadata);
                if let Some(id) = known
                    && let Some(record) = self.fleet.get(id)
                    && self.sync.gives_way(WatchedKind::Devices, watch, record.resource_version, shown)
                {
                    self.fleet.forget_version(id);
                }
                let list = Some(self.sync.list());
                self.device_changed(device, list, now);
            }
            Observed::Gone(device) => {
                let id = self.fleet.find(&device.namespace().unwrap_or_default(), &device.name_any());
                let uid = Uid::of(&device);
                if let Some(id) = id.filter(|id| self.fleet.get(*id).is_some_and(|record| record.uid == uid))
                {
                    self.device_gone(id, now);
                }
            }
            Observed::Listed => {
                self.sync.list_ends(WatchedKind::Devices, watch);
                let only = self.namespace_of(watch);
                let unseen = self.fleet.unseen(self.sync.device_list(watch), only.as_deref());
                unseen.into_iter().for_each(|id| self.device_gone(id, now));
                self.watch_read(WatchedKind::Devices, watch, true, now);
            }
            Observed::Forbidden => self.watch_read(WatchedKind::Devices, watch, false, now),
        }
    }

    /// `list`: the one that shows it, or after which the watch does; `None` if it was read by itself.
    pub(super) fn device_changed(&mut self, device: ProvisionedDevice, list: Option<u32>, now: Now) {
        let known = self.fleet.find(&device.namespace().unwrap_or_default(), &device.name_any());
        if let Some(id) = known {
            self.note_former_id(id, &device);
        }
        let before = known.and_then(|id| self.fleet.get(id));
        let referred = before.map(|record| record.integration);
        let asked = before.map(|record| (record.generation, record.requests));
        let stated = before.map(|record| (record.generation, record.stated()));
        let has_work = known.is_some_and(|id| self.active.work(id).is_some());
        let rival = known.and_then(|id| self.next_claimant(id));
        let (id, change) = self.fleet.upsert(&device, list);
        match change {
            DeviceChange::Known => return,
            DeviceChange::Replaced => self.drop_work(id, now),
            DeviceChange::New | DeviceChange::Changed => {}
        }
        if matches!(change, DeviceChange::New | DeviceChange::Replaced)
            && let Some(record) = self.fleet.get(id)
        {
            self.endings.has_a_new_device(record.namespace);
        }
        if self.fleet.get(id).map(|record| (record.generation, record.requests)) != asked {
            self.active.asked(id);
            self.issuance.rouse(party(&self.fleet, id), id);
        }
        let settled = self.fleet.get(id).is_some_and(|record| record.settled.is_some());
        if !self.role.leads() {
            return self.active.stand_by(id, device, settled, now);
        }
        self.registry.recount(now.mono);
        rival.into_iter().chain(self.next_claimant(id)).for_each(|other| self.ready.wake(other));
        if self.fleet.get(id).map(|record| record.integration) != referred {
            let held = self.active.release(id);
            self.leave_line(id, held, now);
        }
        self.active.observed(id, device, settled, now);
        if let Some((generation, stated)) = stated.filter(|_| change == DeviceChange::Changed && !has_work) {
            self.doubt_edited_status(id, generation, stated);
        }
        let asks = |record: &Record| record.asks && asked.is_some_and(|(_, asked)| asked != record.requests);
        if self.fleet.get(id).is_some_and(asks) {
            self.open_gate(id, now);
        }
        self.ready.wake(id);
    }

    fn device_gone(&mut self, id: DeviceId, now: Now) {
        self.note_former(id);
        self.drop_work(id, now);
        self.ready.forget(id);
        self.registry.recount(now.mono);
        // The best of those that lost against it is the rightful holder of the id now.
        let heir = self.next_claimant(id);
        self.wake_heir_of_certificate(id);
        if let Some(record) = self.fleet.remove(id) {
            self.endings.doubt(record.namespace);
        }
        heir.into_iter().for_each(|other| self.ready.wake(other));
    }

    pub(super) fn secret_observed(
        &mut self,
        watch: WatchId,
        observed: Observed<PartialObjectMeta<Secret>>,
        now: Now,
    ) {
        let only = self.namespace_of(watch);
        let changed = match observed {
            Observed::Listing(truth) => {
                self.sync.list_begins(WatchedKind::Secrets, watch, truth);
                return self.fleet.begin_secret_list(only.as_deref());
            }
            Observed::Present(secret) => {
                let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
                let shown = version::of(&secret.metadata);
                let gives_way = |record: &Record| {
                    self.sync.gives_way(WatchedKind::Secrets, watch, record.secret_seen, shown)
                };
                let devices = self.fleet.devices_of_secret(&namespace, &name);
                let outdated: Vec<_> =
                    devices.filter(|id| self.fleet.get(*id).is_some_and(gives_way)).collect();
                outdated.into_iter().for_each(|id| self.fleet.secret_forgotten(id));
                let changed = self.fleet.secret_seen(&namespace, &name, shown);
                self.doubt_status_beside(&secret, shown);
                self.vouch_for_registration(&secret);
                return self.wake_users(changed, now);
            }
            Observed::Gone(secret) => {
                let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
                let version = version::of(&secret.metadata);
                for id in self.fleet.devices_of_secret(&namespace, &name) {
                    if let Some(work) = self.active.work_mut(id) {
                        work.secret_gone_at = work.secret_gone_at.max(version);
                    }
                }
                if let Some(namespace) = self.fleet.names.get(&namespace) {
                    self.endings.doubt(namespace);
                }
                let lost = self.fleet.secret_gone(&namespace, &name, version);
                return self.wake_users(lost, now);
            }
            Observed::Listed => {
                self.sync.list_ends(WatchedKind::Secrets, watch);
                let unlisted = self.fleet.end_secret_list(only.as_deref());
                self.watch_read(WatchedKind::Secrets, watch, true, now);
                self.doubt_namespaces_of(&unlisted);
                unlisted
            }
            // Without the watch the Secret of every new device is read.
            Observed::Forbidden => {
                self.fleet.mark_secret_watch_incomplete(only.as_deref());
                return self.watch_read(WatchedKind::Secrets, watch, false, now);
            }
        };
        for id in changed {
            self.active.secret_changed(id);
            self.ready.wake(id);
        }
    }

    /// Has the devices that name one Secret reconciled, of which something has changed. Any number may
    /// name it, and one can have it: the first few at once, the others some at a time.
    fn wake_users(&mut self, devices: Vec<DeviceId>, now: Now) {
        let mut at = now.mono;
        for some in devices.chunks(AT_ONCE) {
            for id in some {
                self.active.secret_changed(*id);
                if at == now.mono {
                    self.ready.wake(*id);
                } else {
                    self.ready.wake_by(*id, at);
                }
            }
            at += OTHERS_EVERY;
        }
    }

    pub(super) fn namespace_observed(&mut self, observed: Observed<PartialObjectMeta<Namespace>>, now: Now) {
        match observed {
            Observed::Listing(_) => {}
            Observed::Present(namespace) => {
                let name = namespace.name_any();
                if self.registry.labels_observed(&name, namespace.labels()) {
                    self.registry.recount(now.mono);
                    self.wake_foreign_devices(&name);
                }
            }
            Observed::Gone(namespace) => self.registry.labels_gone(&namespace.name_any()),
            Observed::Listed | Observed::Forbidden => {
                self.registry.labels_read();
                self.advance(now);
            }
        }
    }

    /// Devices of a namespace that refer to another one's integration. All devices are looked at: labels
    /// change rarely, and only by those who administer namespaces.
    fn wake_foreign_devices(&mut self, namespace: &str) {
        let names = &self.fleet.names;
        let Some(sym) = names.get(namespace) else { return };
        let is_foreign = |integration| {
            let key: &str = names.text(integration);
            key.split_once('/').is_some_and(|(other, _)| other != namespace)
        };
        let of_it = |record: &Record| record.namespace == sym && is_foreign(record.integration);
        let foreign: Vec<_> =
            self.fleet.iter().filter(|(_, record)| of_it(record)).map(|(id, _)| id).collect();
        // They may claim their registration ids now, or no longer.
        let leading = foreign.iter().filter(|id| self.fleet.leads_rivals(**id));
        let rivals: Vec<_> = leading.flat_map(|id| self.best_claims(*id, |other| !of_it(other))).collect();
        for id in foreign {
            self.active.restart_grace(id);
            self.ready.wake_later(id);
        }
        rivals.into_iter().for_each(|id| self.ready.wake(id));
    }
}

fn key_of(integration: &DpsIntegration) -> String {
    format!("{}/{}", integration.namespace().unwrap_or_default(), integration.name_any())
}
