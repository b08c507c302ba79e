//! Secrets that devices' own keys and certificates are read from: at which version each was looked at last, and
//! which version is there as far as anything has shown.

mod certificates;

use std::collections::{HashMap, HashSet};

use super::intern::Sym;
use super::record::Record;
use super::{DeviceId, Fleet};
use crate::api::attestation::{CredentialStatus, CredentialType, OwnCredential};
use crate::api::device::ProvisionedDevice;
use crate::api::version;

/// Namespace and name of such a Secret.
pub type SourceKey = (Sym, Box<str>);

/// Watches that each show many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceList {
    /// Those with our label.
    Labelled,
    /// Those of type kubernetes.io/tls: all that a certificate is read from.
    Certificates,
}

/// What is known of a device's own key or certificate.
#[derive(Debug)]
struct Source {
    key: SourceKey,
    kind: CredentialType,
    /// resourceVersion at which it was looked at and from which nothing follows any more; 0 if there is none.
    judged: u64,
    /// A newer credential was read there, with which the device is not registered yet.
    unregistered: bool,
    /// The CA of that one, if the device's certificate is of another.
    next_ca: Option<Sym>,
}

/// A Secret that devices name.
#[derive(Debug, Default)]
struct Named {
    devices: Vec<DeviceId>,
    /// Those of them that read a certificate.
    certificates: usize,
    /// resourceVersion as it was last shown or read; 0 if it never was, or is not there.
    seen: u64,
    /// The watch by label shows it.
    labelled: bool,
    /// The watch of certificates may have shown it before any device named it.
    missed: bool,
}

/// Which Secrets are to be followed from now on, and which no longer: those that a device names and that no watch
/// of many shows.
#[derive(Debug, Default, PartialEq)]
pub struct SourceChanges {
    pub begin: HashSet<SourceKey>,
    pub end: HashSet<SourceKey>,
    /// Those that no device names any more.
    pub unnamed: Vec<SourceKey>,
    /// Keys are read, so that the watch by label is needed,
    pub keys: bool,
    /// or certificates, so that theirs is.
    pub certificates: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Sources {
    of: HashMap<DeviceId, Source>,
    named: HashMap<SourceKey, Named>,
    changes: SourceChanges,
    /// What lists that are being read have shown, by the namespace that each is limited to.
    listed: HashMap<(SourceList, Option<Sym>), HashSet<SourceKey>>,
    /// Lists that may not be read: a Secret that they do not show may be there.
    forbidden: HashSet<(SourceList, Option<Sym>)>,
    /// Certificates are watched.
    lists_certificates: bool,
}

/// The version at which it was looked at, if the status names the same Secret and slot.
fn judged(device: &ProvisionedDevice, own: &OwnCredential) -> u64 {
    let status = device.status.as_ref().and_then(|status| status.credential.as_ref());
    let is_its = |status: &&CredentialStatus| {
        status.secret_name.as_deref() == Some(own.secret())
            && (status.kind, status.slot) == (own.kind(), own.slot())
    };
    let version = status.filter(is_its).and_then(|status| status.secret_resource_version.as_deref());
    version::parse(version)
}

impl Sources {
    /// Takes in what a device reads its credential from, if it has one of its own. `known`: it is the object of
    /// before, and what was looked at since its status was written stays known.
    pub fn declare(
        &mut self,
        id: DeviceId,
        namespace: Sym,
        device: &ProvisionedDevice,
        own: Option<&OwnCredential>,
        known: bool,
    ) {
        if !known {
            self.remove(id);
        }
        let Some(own) = own else { return self.remove(id) };
        let (key, stated): (SourceKey, _) = ((namespace, own.secret().into()), judged(device, own));
        if let Some(source) =
            self.of.get_mut(&id).filter(|source| source.key == key && source.kind == own.kind())
        {
            source.judged = source.judged.max(stated);
            return;
        }
        self.name(id, key, own.kind(), stated);
    }

    /// The integration says from now on that a device has its certificate there, or that it has none.
    pub fn redeclare(&mut self, id: DeviceId, key: Option<SourceKey>) {
        match key {
            Some(key) => self.name(id, key, CredentialType::X509, 0),
            None => self.remove(id),
        }
    }

    fn name(&mut self, id: DeviceId, key: SourceKey, kind: CredentialType, judged: u64) {
        self.remove(id);
        let is_certificate = kind == CredentialType::X509;
        self.changes.keys |= !is_certificate;
        self.changes.certificates |= is_certificate;
        let missed = is_certificate && self.lists_certificates && !self.named.contains_key(&key);
        self.named.entry(key.clone()).or_default();
        self.change(&key, |named| {
            named.devices.push(id);
            named.certificates += usize::from(is_certificate);
            named.missed |= missed;
        });
        self.of.insert(id, Source { key, kind, judged, unregistered: false, next_ca: None });
    }

    /// Names that something is known by here.
    pub fn names(&self) -> impl Iterator<Item = Sym> {
        self.of.values().filter_map(|source| source.next_ca)
    }

    pub fn remove(&mut self, id: DeviceId) {
        let Some(Source { key, kind, .. }) = self.of.remove(&id) else { return };
        self.change(&key, |named| {
            named.devices.retain(|other| *other != id);
            named.certificates -= usize::from(kind == CredentialType::X509);
        });
        if self.named.get(&key).is_some_and(|named| named.devices.is_empty()) {
            self.named.remove(&key);
            self.changes.unnamed.push(key);
        }
    }

    /// Changes what is known of a Secret, and notes whether it is to be followed by itself from now on.
    fn change(&mut self, key: &SourceKey, change: impl FnOnce(&mut Named)) {
        let Some(named) = self.named.get_mut(key) else { return };
        let is_hidden = [None, Some(key.0)]
            .iter()
            .any(|scope| self.forbidden.contains(&(SourceList::Certificates, *scope)));
        let before = named.is_followed(is_hidden);
        change(named);
        let after = named.is_followed(is_hidden);
        if before != after {
            self.changes.follow(key, after);
        }
    }

    /// Those of a scope that a list has not shown.
    fn left_out(&self, scope: Option<Sym>, listed: &HashSet<SourceKey>) -> Vec<SourceKey> {
        let is_left = |key: &&SourceKey| scope.is_none_or(|only| only == key.0) && !listed.contains(*key);
        self.named.keys().filter(is_left).cloned().collect()
    }

    /// Of this scope only what is listed is labelled. Returns devices whose Secret is not.
    fn limit_labelled(&mut self, scope: Option<Sym>, listed: &HashSet<SourceKey>) -> Vec<DeviceId> {
        let left = self.left_out(scope, listed);
        left.iter().for_each(|key| self.change(key, |named| named.labelled = false));
        left.iter().filter_map(|key| self.named.get(key)).flat_map(|named| named.devices.clone()).collect()
    }

    /// Certificates are all shown by their watch from now on, or none.
    fn set_certificates_hidden(&mut self, scope: Option<Sym>, hidden: bool) {
        let list = (SourceList::Certificates, scope);
        if self.forbidden.contains(&list) == hidden {
            return;
        }
        if hidden {
            self.forbidden.insert(list);
        } else {
            self.forbidden.remove(&list);
        }
        for key in self.left_out(scope, &HashSet::new()) {
            let Some(named) = self.named.get(&key) else { continue };
            if named.is_followed(!hidden) != named.is_followed(hidden) {
                self.changes.follow(&key, hidden);
            }
        }
    }
}

impl Named {
    /// No watch of many tells of it. `is_hidden`: that of certificates may not be read.
    fn is_followed(&self, is_hidden: bool) -> bool {
        let has_keys = self.devices.len() > self.certificates;
        let has_certificates = self.certificates > 0;
        !self.devices.is_empty()
            && ((has_keys && !self.labelled) || (has_certificates && (is_hidden || self.missed)))
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

    /// Devices whose key or certificate is in this Secret.
    pub fn devices_of_source(&self, key: &SourceKey) -> Vec<DeviceId> {
        self.sources.named.get(key).map(|named| named.devices.clone()).unwrap_or_default()
    }

    /// True if a device's key or certificate is in this Secret.
    pub fn is_source(&self, key: &SourceKey) -> bool {
        self.sources.named.contains_key(key)
    }

    /// True if the device's Secret is there and one that a device reads its key or certificate from. One that is only named
    /// belongs to the device that writes it.
    pub fn writes_to_source(&self, id: DeviceId) -> bool {
        let key = |record: &Record| (record.namespace, record.secret_name().into());
        let is_there = |key| self.sources.named.get(&key).is_some_and(|named| named.seen != 0);
        !self.sources.named.is_empty() && self.get(id).is_some_and(|record| is_there(key(record)))
    }

    /// True if the Secret of the device's own key or certificate is there with another version than the one at
    /// which it was looked at.
    pub fn is_source_outdated(&self, id: DeviceId) -> bool {
        let Some(Source { key, judged, .. }) = self.sources.of.get(&id) else { return false };
        self.sources.named.get(key).is_some_and(|named| named.seen != 0 && named.seen != *judged)
    }

    /// Takes in at which version the Secret is. Returns the devices for which that is news.
    pub fn source_seen(&mut self, key: &SourceKey, version: u64) -> Vec<DeviceId> {
        let Some(named) = self.sources.named.get(key) else { return Vec::new() };
        let is_same = named.seen == version;
        self.sources.change(key, |named| (named.seen, named.missed) = (version, false));
        if is_same {
            return Vec::new();
        }
        let devices = self.devices_of_source(key).into_iter();
        devices.filter(|id| self.sources.of.get(id).is_some_and(|of| of.judged != version)).collect()
    }

    /// There is none, or one that the operator has written. That is no news: what was copied serves on.
    pub fn source_missing(&mut self, key: &SourceKey) {
        self.sources.change(key, |named| (named.seen, named.missed) = (0, false));
    }

    /// The watch shows the Secret.
    pub fn source_listed(&mut self, list: SourceList, key: &SourceKey) {
        if list == SourceList::Labelled {
            self.sources.change(key, |named| named.labelled = true);
        }
        // Of certificates there may be any number that no device names.
        if list == SourceList::Certificates && !self.sources.named.contains_key(key) {
            return;
        }
        for scope in [None, Some(key.0)] {
            self.sources.listed.get_mut(&(list, scope)).map(|listed| listed.insert(key.clone()));
        }
    }

    /// The watch by label no longer shows it. Returns the devices that name the Secret.
    pub fn source_unlabelled(&mut self, key: &SourceKey) -> Vec<DeviceId> {
        self.sources.change(key, |named| named.labelled = false);
        self.devices_of_source(key)
    }

    /// The Secret of a device's credential was read at this version; 0: there is none. `labelled`: it has our label,
    /// so that the watch shows it, and may have done so before any device named it.
    /// Returns the other devices for which the version is news.
    pub fn source_read(&mut self, id: DeviceId, version: u64, labelled: bool) -> Vec<DeviceId> {
        let Some(key) = self.sources.of.get(&id).map(|source| source.key.clone()) else { return Vec::new() };
        let was_seen = self.sources.named.get(&key).is_some_and(|named| named.seen == version);
        let is_hidden =
            |scope: &Option<Sym>| self.sources.forbidden.contains(&(SourceList::Labelled, *scope));
        let shown = labelled && ![None, Some(key.0)].iter().any(is_hidden);
        self.sources.change(&key, |named| {
            (named.seen, named.missed) = (version, false);
            named.labelled |= shown;
        });
        if was_seen || version == 0 {
            return Vec::new();
        }
        let others = self.devices_of_source(&key).into_iter().filter(|other| *other != id);
        others.filter(|other| self.sources.of.get(other).is_some_and(|of| of.judged != version)).collect()
    }

    /// Nothing follows any more from what a device's credential is at this version of its Secret.
    pub fn source_judged(&mut self, id: DeviceId, version: u64) {
        if let Some(source) = self.sources.of.get_mut(&id) {
            (source.judged, source.unregistered, source.next_ca) = (version, false, None);
        }
    }

    /// Certificates are watched from now on.
    pub fn begin_to_list_certificates(&mut self) {
        self.sources.lists_certificates = true;
    }

    /// A list begins.
    pub fn begin_source_list(&mut self, list: SourceList, namespace: Option<&str>) {
        let scope = self.source_scope(namespace);
        match list {
            SourceList::Labelled => drop(self.sources.forbidden.remove(&(list, scope))),
            SourceList::Certificates => self.sources.set_certificates_hidden(scope, false),
        }
        self.sources.listed.insert((list, scope), HashSet::new());
    }

    /// It ends. What it has not shown is not labelled: whether it is there it does not say. A certificate that it
    /// has not shown is not there. Returns devices whose Secret is not labelled.
    pub fn end_source_list(&mut self, list: SourceList, namespace: Option<&str>) -> Vec<DeviceId> {
        let scope = self.source_scope(namespace);
        let listed = self.sources.listed.remove(&(list, scope)).unwrap_or_default();
        match list {
            SourceList::Labelled => self.sources.limit_labelled(scope, &listed),
            SourceList::Certificates => {
                for key in self.sources.left_out(scope, &listed) {
                    self.sources.change(&key, |named| {
                        // One that was named meanwhile is looked at.
                        if named.certificates == named.devices.len() {
                            named.seen = 0;
                        }
                    });
                }
                Vec::new()
            }
        }
    }

    /// It may not be read: nothing is known to be labelled, and no certificate to be missing. Returns the same.
    pub fn forbid_source_list(&mut self, list: SourceList, namespace: Option<&str>) -> Vec<DeviceId> {
        let scope = self.source_scope(namespace);
        self.sources.listed.remove(&(list, scope));
        match list {
            SourceList::Labelled => {
                self.sources.forbidden.insert((list, scope));
                self.sources.limit_labelled(scope, &HashSet::new())
            }
            SourceList::Certificates => {
                self.sources.set_certificates_hidden(scope, true);
                Vec::new()
            }
        }
    }

    fn source_scope(&mut self, namespace: Option<&str>) -> Option<Sym> {
        namespace.map(|namespace| self.names.intern(namespace))
    }
}
