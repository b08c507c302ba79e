//! Secrets that devices' own keys are read from: at which version each key was looked at last, and which
//! version is there as far as anything has shown.

use std::collections::{HashMap, HashSet};

use super::intern::Sym;
use super::record::Record;
use super::{DeviceId, Fleet};
use crate::api::attestation::{CredentialStatus, DeviceAttestation, SymmetricKey};
use crate::api::device::ProvisionedDevice;
use crate::api::version;

/// Namespace and name of such a Secret.
pub type SourceKey = (Sym, Box<str>);

/// What is known of a device's own key.
#[derive(Debug)]
struct Source {
    key: SourceKey,
    /// resourceVersion at which the key was looked at and from which nothing follows any more; 0 if there is
    /// none.
    judged: u64,
}

/// A Secret that devices name.
#[derive(Debug, Default)]
struct Named {
    devices: Vec<DeviceId>,
    /// resourceVersion as it was last shown or read; 0 if it never was, or is not there.
    seen: u64,
    /// The watch by label shows it.
    labelled: bool,
}

/// Which Secrets are to be followed from now on, and which no longer: those that a device names and that the
/// watch by label does not show.
#[derive(Debug, Default, PartialEq)]
pub struct SourceChanges {
    pub begin: HashSet<SourceKey>,
    pub end: HashSet<SourceKey>,
    /// Those that no device names any more.
    pub unnamed: Vec<SourceKey>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Sources {
    of: HashMap<DeviceId, Source>,
    named: HashMap<SourceKey, Named>,
    changes: SourceChanges,
    /// What lists that are being read have shown, by the namespace that each is limited to.
    listed: HashMap<Option<Sym>, HashSet<SourceKey>>,
    /// Lists that may not be read: the label of a Secret says nothing there.
    forbidden: HashSet<Option<Sym>>,
}

/// The keys of a device that has some of its own.
fn symmetric(device: &ProvisionedDevice) -> Option<&SymmetricKey> {
    let DeviceAttestation { symmetric_key } = device.spec.attestation.as_ref()?;
    symmetric_key.as_ref()
}

/// The version at which the key was looked at, if the status names the same Secret and slot.
fn judged(device: &ProvisionedDevice, symmetric: &SymmetricKey) -> u64 {
    let status = device.status.as_ref().and_then(|status| status.credential.as_ref());
    let is_its = |status: &&CredentialStatus| {
        status.secret_name.as_deref() == Some(symmetric.active_secret())
            && status.slot == Some(symmetric.active)
    };
    let version = status.filter(is_its).and_then(|status| status.secret_resource_version.as_deref());
    version::parse(version)
}

impl Sources {
    /// Takes in a device as it is declared, with a key of its own or without. `known`: it is the object of
    /// before, and what was looked at since its status was written stays known.
    pub fn declare(&mut self, id: DeviceId, namespace: Sym, device: &ProvisionedDevice, known: bool) {
        if !known {
            self.remove(id);
        }
        let Some(symmetric) = symmetric(device) else { return self.remove(id) };
        let key: SourceKey = (namespace, symmetric.active_secret().into());
        let stated = judged(device, symmetric);
        if let Some(source) = self.of.get_mut(&id).filter(|source| source.key == key) {
            source.judged = source.judged.max(stated);
            return;
        }
        self.remove(id);
        if !self.named.contains_key(&key) {
            self.changes.follow(&key, true);
        }
        self.named.entry(key.clone()).or_default().devices.push(id);
        self.of.insert(id, Source { key, judged: stated });
    }

    pub fn remove(&mut self, id: DeviceId) {
        let Some(Source { key, .. }) = self.of.remove(&id) else { return };
        let Some(named) = self.named.get_mut(&key) else { return };
        named.devices.retain(|other| *other != id);
        if named.devices.is_empty() {
            let followed = !named.labelled;
            self.named.remove(&key);
            if followed {
                self.changes.follow(&key, false);
            }
            self.changes.unnamed.push(key);
        }
    }

    /// The watch by label shows the Secret, or does not.
    fn label(&mut self, key: &SourceKey, labelled: bool) {
        let Some(named) = self.named.get_mut(key) else { return };
        if std::mem::replace(&mut named.labelled, labelled) != labelled {
            self.changes.follow(key, !labelled);
        }
    }

    /// Of this scope only what is listed is labelled. Returns devices whose Secret is not.
    fn limit(&mut self, scope: Option<Sym>, listed: &HashSet<SourceKey>) -> Vec<DeviceId> {
        let is_left = |key: &&SourceKey| scope.is_none_or(|only| only == key.0) && !listed.contains(*key);
        let left: Vec<SourceKey> = self.named.keys().filter(is_left).cloned().collect();
        left.iter().for_each(|key| self.label(key, false));
        left.iter().filter_map(|key| self.named.get(key)).flat_map(|named| named.devices.clone()).collect()
    }
}

impl SourceChanges {
    fn follow(&mut self, key: &SourceKey, wanted: bool) {
        let (undone, made) =
            if wanted { (&mut self.end, &mut self.begin) } else { (&mut self.begin, &mut self.end) };
        if !undone.remove(key) {
            made.insert(key.clone());
        }
    }
}

impl Fleet {
    /// What has come up since this was asked last.
    pub fn take_source_changes(&mut self) -> SourceChanges {
        std::mem::take(&mut self.sources.changes)
    }

    /// Devices whose key is in this Secret.
    pub fn devices_of_source(&self, key: &SourceKey) -> Vec<DeviceId> {
        self.sources.named.get(key).map(|named| named.devices.clone()).unwrap_or_default()
    }

    /// True if the device's Secret is there and one that a device reads its key from. One that is only named
    /// belongs to the device that writes it.
    pub fn writes_to_source(&self, id: DeviceId) -> bool {
        let key = |record: &Record| (record.namespace, record.secret_name().into());
        let is_there = |key| self.sources.named.get(&key).is_some_and(|named| named.seen != 0);
        !self.sources.named.is_empty() && self.get(id).is_some_and(|record| is_there(key(record)))
    }

    /// True if the Secret of the device's own key is there with another version than the one at which the key
    /// was looked at.
    pub fn is_source_outdated(&self, id: DeviceId) -> bool {
        let Some(Source { key, judged }) = self.sources.of.get(&id) else { return false };
        self.sources.named.get(key).is_some_and(|named| named.seen != 0 && named.seen != *judged)
    }

    /// Takes in at which version the Secret is. Returns the devices for which that is news.
    pub fn source_seen(&mut self, key: &SourceKey, version: u64) -> Vec<DeviceId> {
        let Some(named) = self.sources.named.get_mut(key) else { return Vec::new() };
        if std::mem::replace(&mut named.seen, version) == version {
            return Vec::new();
        }
        let devices = named.devices.iter();
        let is_news = |id: &&DeviceId| self.sources.of.get(id).is_some_and(|of| of.judged != version);
        devices.filter(is_news).copied().collect()
    }

    /// There is none, or one that the operator has written. That is no news: what was copied serves on.
    pub fn source_missing(&mut self, key: &SourceKey) {
        if let Some(named) = self.sources.named.get_mut(key) {
            named.seen = 0;
        }
    }

    /// The watch by label shows the Secret.
    pub fn source_labelled(&mut self, key: &SourceKey) {
        self.sources.label(key, true);
        for scope in [None, Some(key.0)] {
            self.sources.listed.get_mut(&scope).map(|list| list.insert(key.clone()));
        }
    }

    /// It no longer does. Returns the devices that name the Secret.
    pub fn source_unlabelled(&mut self, key: &SourceKey) -> Vec<DeviceId> {
        self.sources.label(key, false);
        self.devices_of_source(key)
    }

    /// The Secret of a device's key was read at this version; 0: there is none. `labelled`: it has our label,
    /// so that the watch shows it, and may have done so before any device named it.
    pub fn source_read(&mut self, id: DeviceId, version: u64, labelled: bool) {
        let Some(key) = self.sources.of.get(&id).map(|source| source.key.clone()) else { return };
        if let Some(named) = self.sources.named.get_mut(&key) {
            named.seen = version;
        }
        let is_shown = [None, Some(key.0)].iter().all(|scope| !self.sources.forbidden.contains(scope));
        if labelled && is_shown {
            self.sources.label(&key, true);
        }
    }

    /// Nothing follows any more from what a device's key is at this version of its Secret.
    pub fn source_judged(&mut self, id: DeviceId, version: u64) {
        if let Some(source) = self.sources.of.get_mut(&id) {
            source.judged = version;
        }
    }

    /// A list of labelled Secrets begins.
    pub fn begin_source_list(&mut self, namespace: Option<&str>) {
        let scope = self.source_scope(namespace);
        self.sources.forbidden.remove(&scope);
        self.sources.listed.insert(scope, HashSet::new());
    }

    /// It ends: what it has not shown is not labelled. Whether it is there it does not say. Returns devices
    /// whose Secret it has not shown.
    pub fn end_source_list(&mut self, namespace: Option<&str>) -> Vec<DeviceId> {
        let scope = self.source_scope(namespace);
        let listed = self.sources.listed.remove(&scope).unwrap_or_default();
        self.sources.limit(scope, &listed)
    }

    /// It may not be read: nothing is known to be labelled. Returns the same.
    pub fn forbid_source_list(&mut self, namespace: Option<&str>) -> Vec<DeviceId> {
        let scope = self.source_scope(namespace);
        self.sources.forbidden.insert(scope);
        self.sources.listed.remove(&scope);
        self.sources.limit(scope, &HashSet::new())
    }

    fn source_scope(&mut self, namespace: Option<&str>) -> Option<Sym> {
        namespace.map(|namespace| self.names.intern(namespace))
    }
}
