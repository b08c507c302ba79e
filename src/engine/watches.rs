//! What watches tell, and the order in which they are started: integrations, then what they refer
//! to, then devices and Secrets. Nothing is decided and nothing counted before all are in.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use tracing::info;

use super::progress::{DEVICES, INTEGRATIONS, Phase, SECRETS};
use super::work::Work;
use super::{Engine, Message};
use crate::api::device::ProvisionedDevice;
use crate::api::integration::DpsIntegration;
use crate::api::names;
use crate::api::references::{Reference, Referred, ReferredKind};
use crate::api::version;
use crate::controller::integration::decide::references;
use crate::fleet::uid::Uid;
use crate::fleet::{Change, DeviceId};
use crate::kube_io::watch::{self, Scope, Seen};

impl Engine {
    pub(super) fn start(&self) {
        for (watch, namespace) in self.config.namespaces().into_iter().enumerate() {
            let scope = Scope { namespace, ..Scope::default() };
            let wrap = move |seen| Message::Integration(watch, seen);
            tokio::spawn(watch::run::<DpsIntegration, _>(
                self.client.clone(),
                scope,
                self.sender.clone(),
                wrap,
            ));
        }
    }

    fn start_devices(&self) {
        for (watch, namespace) in self.config.namespaces().into_iter().enumerate() {
            let scope = Scope { namespace: namespace.clone(), ..Scope::default() };
            let wrap = move |seen| Message::Device(watch, seen);
            tokio::spawn(watch::run::<ProvisionedDevice, _>(
                self.client.clone(),
                scope,
                self.sender.clone(),
                wrap,
            ));
            let labels = Some(format!("{}={}", names::MANAGED_BY_LABEL, names::MANAGED_BY));
            let scope = Scope { namespace, labels, ..Scope::default() };
            let wrap = move |seen| Message::Secret(watch, seen);
            tokio::spawn(watch::run_metadata::<Secret, _>(
                self.client.clone(),
                scope,
                self.sender.clone(),
                wrap,
            ));
        }
    }

    /// A watch has been read, or is not allowed.
    fn watch_read(&mut self, kind: &'static str, watch: usize, allowed: bool) {
        let progress = &mut self.progress;
        if allowed {
            progress.refused.remove(&(kind, watch));
        } else {
            progress.refused.insert((kind, watch));
        }
        match kind {
            INTEGRATIONS => progress.integrations.insert(watch),
            DEVICES => progress.devices.insert(watch),
            _ => progress.secrets.insert(watch),
        };
        self.telemetry.metrics.synced(kind, progress.has_read(kind));
        self.telemetry.health.set_ready(progress.running() && progress.refused.is_empty());
        self.advance();
    }

    /// Goes on to the next phase when the present one is complete.
    pub(super) fn advance(&mut self) {
        let progress = &mut self.progress;
        let done = match progress.phase {
            Phase::Integrations => progress.integrations.len() == progress.watches,
            Phase::References => {
                self.namespaces.are_read()
                    && !self.referred.values().any(|referred| matches!(referred, Referred::Unread))
            }
            Phase::Devices => {
                progress.devices.len() == progress.watches && progress.secrets.len() == progress.watches
            }
            Phase::Running => false,
        };
        if !done {
            return;
        }
        progress.phase = match progress.phase {
            Phase::Integrations => Phase::References,
            Phase::References => Phase::Devices,
            Phase::Devices | Phase::Running => Phase::Running,
        };
        match progress.phase {
            Phase::References => {
                self.watch_references();
                self.advance();
            }
            Phase::Devices => self.start_devices(),
            Phase::Running => {
                info!(
                    devices = self.fleet.len(),
                    integrations = self.integrations.len(),
                    "every watch has been read"
                );
                self.telemetry.health.set_ready(self.progress.refused.is_empty());
                self.begin_to_run();
            }
            Phase::Integrations => {}
        }
    }

    pub(super) fn integration_seen(&mut self, watch: usize, seen: Seen<DpsIntegration>) {
        match seen {
            Seen::Listing => self.progress.listed_integrations[watch].clear(),
            Seen::Present(integration) => {
                let key = key_of(&integration);
                self.progress.listed_integrations[watch].insert(key.clone());
                self.integration_changed(&key, Some(integration));
            }
            Seen::Gone(integration) => self.integration_changed(&key_of(&integration), None),
            Seen::Listed => {
                self.forget_unlisted_integrations(watch);
                self.watch_read(INTEGRATIONS, watch, true);
            }
            Seen::Forbidden => self.watch_read(INTEGRATIONS, watch, false),
        }
        if self.progress.phase != Phase::Integrations {
            self.watch_references();
        }
    }

    fn forget_unlisted_integrations(&mut self, watch: usize) {
        let namespace = self.config.namespaces().get(watch).cloned().flatten();
        let listed = std::mem::take(&mut self.progress.listed_integrations[watch]);
        let gone: Vec<String> = self
            .integrations
            .iter()
            .filter(|(_, integration)| integration.object.is_some())
            .map(|(sym, _)| self.fleet.names.text(*sym).to_owned())
            .filter(|key| namespace.as_deref().is_none_or(|only| key.split('/').next() == Some(only)))
            .filter(|key| !listed.contains(key))
            .collect();
        gone.iter().for_each(|key| self.integration_changed(key, None));
    }

    /// Watches exactly the Secrets and ConfigMaps that integrations refer to now.
    fn watch_references(&mut self) {
        let mut wanted = BTreeSet::new();
        for integration in self.integrations.values().filter_map(|integration| integration.object.as_ref()) {
            wanted.extend(references(&integration.namespace().unwrap_or_default(), &integration.spec));
        }
        let mut changed = Vec::new();
        for reference in &wanted {
            self.referred.entry(reference.clone()).or_insert_with(|| {
                changed.push(reference.clone());
                Referred::Unread
            });
        }
        for unwanted in self.refs.watch_exactly(&wanted) {
            self.referred.remove(&unwanted);
            changed.push(unwanted);
        }
        // A Secret with a group's key is nobody's output.
        for Reference { kind, namespace, name } in changed {
            if kind == ReferredKind::Secret {
                let devices = self.fleet.devices_of_secret(&namespace, &name);
                devices.into_iter().for_each(|id| self.runner.wake(id));
            }
        }
    }

    pub(super) fn referred_seen(&mut self, reference: Reference, seen: Seen<Referred>) {
        let Some(known) = self.referred.get_mut(&reference) else { return };
        match seen {
            Seen::Listing => {
                self.progress.relisted.insert(reference);
                return;
            }
            Seen::Present(referred) => *known = referred,
            Seen::Gone(_) => *known = Referred::Missing,
            Seen::Forbidden => *known = Referred::Forbidden,
            // A list that ends without the object says that there is none.
            Seen::Listed if self.progress.relisted.contains(&reference) => *known = Referred::Missing,
            Seen::Listed => return,
        }
        self.progress.relisted.remove(&reference);
        self.evaluate_users_of(&reference);
        if self.progress.phase == Phase::References {
            self.advance();
        }
    }

    pub(super) fn device_seen(&mut self, watch: usize, seen: Seen<ProvisionedDevice>) {
        match seen {
            Seen::Listing => {
                self.progress.epoch += 1;
                self.progress.listing[watch] = self.progress.epoch;
            }
            Seen::Present(device) => self.device_changed(device),
            Seen::Gone(device) => {
                let (namespace, name) = (device.namespace().unwrap_or_default(), device.name_any());
                let id = self.fleet.find(&namespace, &name);
                let uid = Uid::of(&device);
                if let Some(id) = id.filter(|id| self.fleet.get(*id).is_some_and(|record| record.uid == uid))
                {
                    self.device_gone(id);
                }
            }
            Seen::Listed => {
                let namespace = self.config.namespaces().get(watch).cloned().flatten();
                let unseen = self.fleet.unseen(self.progress.listing[watch], namespace.as_deref());
                unseen.into_iter().for_each(|id| self.device_gone(id));
                self.watch_read(DEVICES, watch, true);
            }
            Seen::Forbidden => self.watch_read(DEVICES, watch, false),
        }
    }

    fn device_changed(&mut self, device: ProvisionedDevice) {
        let known = self.fleet.find(&device.namespace().unwrap_or_default(), &device.name_any());
        let referred = known.and_then(|id| self.fleet.get(id)).map(|record| record.integration);
        let (id, change) = self.fleet.upsert(&device, Some(self.progress.epoch));
        match change {
            Change::Known => return,
            Change::Replaced => self.drop_work(id),
            Change::New | Change::Changed => {}
        }
        if !self.acting {
            return self.keep_for_later(id, device);
        }
        self.counters.touch();
        self.wake_rivals(id);
        if self.fleet.get(id).map(|record| record.integration) != referred {
            self.leave_line(id);
        }
        self.parked.remove(&id);
        let unsettled = self.fleet.get(id).is_some_and(|record| record.settled.is_none());
        match self.work.get_mut(&id) {
            Some(work) if work.revived => work.wake_up(device, &self.config.allowed_hub_suffixes),
            // What we know goes further than what the status says.
            Some(work) => {
                if work.device.metadata.generation != device.metadata.generation {
                    (work.found, work.secret_read, work.for_fleet) = (None, false, false);
                }
                work.device = Arc::new(device);
                work.stale = false;
            }
            None if unsettled => {
                self.work.insert(id, Box::new(Work::new(device, &self.config.allowed_hub_suffixes)));
                self.park(id);
            }
            None => {}
        }
        self.runner.wake(id);
    }

    /// A change of one holder of a registration id may give it to another.
    pub(super) fn wake_rivals(&mut self, id: DeviceId) {
        let Some(record) = self.fleet.get(id) else { return };
        let holders = self.fleet.holders(record.registration_id());
        holders.filter(|other| *other != id).for_each(|other| self.runner.wake(other));
    }

    pub(super) fn device_gone(&mut self, id: DeviceId) {
        self.drop_work(id);
        self.runner.forget(id);
        self.unread.remove(&id);
        self.verify_at.remove(&id);
        self.fights.remove(&id);
        self.counters.touch();
        if let Some(record) = self.fleet.remove(id) {
            // Whoever lost against it may be the rightful holder of the id now.
            let others = self.fleet.holders(record.registration_id());
            others.for_each(|other| self.runner.wake(other));
        }
    }

    /// Ends what goes on for a device that is gone or has been replaced.
    pub(super) fn drop_work(&mut self, id: DeviceId) {
        self.tell_at.remove(&id);
        self.checks.remove(&id);
        self.parked.remove(&id);
        if let Some(task) = self.work.remove(&id).and_then(|work| work.task) {
            task.abort();
            self.tasks -= 1;
        }
        self.leave_line(id);
    }

    pub(super) fn secret_seen(&mut self, watch: usize, seen: Seen<PartialObjectMeta<Secret>>) {
        let only = self.config.namespaces().get(watch).cloned().flatten();
        let changed = match seen {
            Seen::Listing => {
                self.fleet.begin_secret_list(only.as_deref());
                Vec::new()
            }
            Seen::Present(secret) => {
                let (namespace, name, version) = secret_parts(&secret);
                self.fleet.secret_seen(&namespace, &name, version)
            }
            Seen::Gone(secret) => {
                let (namespace, name, version) = secret_parts(&secret);
                for id in self.fleet.devices_of_secret(&namespace, &name) {
                    if let Some(work) = self.work.get_mut(&id) {
                        work.secret_gone_at = work.secret_gone_at.max(version);
                    }
                }
                self.fleet.secret_gone(&namespace, &name, version)
            }
            Seen::Listed => {
                let unlisted = self.fleet.end_secret_list(only.as_deref());
                self.watch_read(SECRETS, watch, true);
                unlisted
            }
            // Without the watch every new device looks for its Secret itself.
            Seen::Forbidden => {
                self.fleet.distrust_secret_watch();
                self.watch_read(SECRETS, watch, false);
                Vec::new()
            }
        };
        for id in changed {
            self.unpark(id);
            if let Some(work) = self.work.get_mut(&id) {
                work.found = None;
                work.secret_read = false;
            }
            self.runner.wake(id);
        }
    }
}

fn key_of(integration: &DpsIntegration) -> String {
    format!("{}/{}", integration.namespace().unwrap_or_default(), integration.name_any())
}

/// Namespace, name, version.
fn secret_parts(secret: &PartialObjectMeta<Secret>) -> (String, String, u64) {
    let version = version::of(&secret.metadata);
    (secret.namespace().unwrap_or_default(), secret.name_any(), version)
}
