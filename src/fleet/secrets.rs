//! What the watch shows of the devices' Secrets.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use super::index::Property;
use super::intern::Sym;
use super::record::Record;
use super::registration::Claim;
use super::{DeviceId, Fleet};

/// Labelled Secrets that no device names are remembered up to this number (16 bytes each). Beyond it
/// what the watch shows does not count as complete, and a new device reads its Secret before it
/// registers.
pub(super) const UNCLAIMED_MAX: usize = 100_000;

/// What is known of a device's Secret before anything is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretSeen {
    /// The watch shows it with this resourceVersion.
    Version(u64),
    /// The watch does not show it. Never proof of absence.
    No,
}

/// Devices that name their Secret themselves, by its namespace and name.
#[derive(Debug)]
pub(super) struct BySecret;

impl Property for BySecret {
    /// The settled ones first: one of them has written it.
    type Rank = (bool, Claim);

    fn hash(record: &Record, hasher: &RandomState) -> Option<u64> {
        record.names_its_secret().then(|| secret_hash(record, hasher))
    }

    fn is_shared_by(a: &Record, b: &Record) -> bool {
        a.namespace == b.namespace && a.own_secret_name() == b.own_secret_name()
    }

    fn rank(record: &Record) -> Self::Rank {
        (record.settled.is_none(), record.claim())
    }
}

/// A list of Secrets that is being read.
#[derive(Debug, Default)]
struct SecretList {
    names: HashSet<u64>,
    /// Not all that no device names could be remembered.
    overflow: bool,
}

/// Secrets of no device, and how far the watches can be relied on.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// Hash of namespace and name of a labelled Secret that no device names -> resourceVersion.
    pub(super) unclaimed: HashMap<u64, u64>,
    /// There were more of them than are remembered.
    overflow: bool,
    /// Watches that do not show them all, by the namespace that each is limited to.
    unwatched: HashSet<Option<Sym>>,
    /// Lists that are being read, in the same way.
    listed: HashMap<Option<Sym>, SecretList>,
}

impl Secrets {
    /// A device names the Secret from now on: the version that the watch last showed, 0 if none.
    pub fn claim(&mut self, hash: u64) -> u64 {
        self.unclaimed.remove(&hash).unwrap_or(0)
    }

    /// No device names the Secret.
    pub fn remember(&mut self, hash: u64, version: u64) {
        if self.unclaimed.len() < UNCLAIMED_MAX || self.unclaimed.contains_key(&hash) {
            self.unclaimed.insert(hash, version);
        } else {
            self.overflow = true;
            self.listed.values_mut().for_each(|list| list.overflow = true);
        }
    }

    fn shown(&mut self, namespace: Sym, hash: u64) {
        for scope in [None, Some(namespace)] {
            self.listed.get_mut(&scope).map(|list| list.names.insert(hash));
        }
    }

    /// A list ends: what it has shown.
    fn end_list(&mut self, namespace: Option<Sym>) -> HashSet<u64> {
        let SecretList { names, overflow } = self.listed.remove(&namespace).unwrap_or_default();
        self.unwatched.remove(&namespace);
        if namespace.is_none() {
            self.unclaimed.retain(|hash, _| names.contains(hash));
            self.overflow = overflow;
        }
        names
    }

    /// Namespaces that something is known of here.
    pub fn namespaces(&self) -> impl Iterator<Item = Sym> {
        self.unwatched.iter().chain(self.listed.keys()).copied().flatten()
    }
}

pub(super) fn secret_hash(record: &Record, hasher: &RandomState) -> u64 {
    hasher.hash_one((record.namespace, record.secret_name().as_str()))
}

impl Fleet {
    /// Devices whose Secret has this name, the settled ones among those that name it themselves first.
    /// The annotations of the Secret do not count: users can edit them.
    pub fn devices_of_secret(&self, namespace: &str, name: &str) -> impl Iterator<Item = DeviceId> {
        let sym = self.names.get(namespace);
        let is_its = move |id: DeviceId| {
            self.get(id).is_some_and(|record| Some(record.namespace) == sym && record.is_secret_name(name))
        };
        let usual = name.strip_suffix("-hub").and_then(|device| self.find(namespace, device));
        let hash = sym.map(|sym| self.name_hash(sym, name));
        let named = hash.into_iter().flat_map(move |hash| self.by_secret.find(hash, is_its));
        usual.into_iter().filter(move |id| is_its(*id)).chain(named)
    }

    /// True if no other device names this one's Secret.
    pub fn has_its_secret_alone(&self, id: DeviceId) -> bool {
        let Some(record) = self.get(id) else { return false };
        let (namespace, name) = (self.names.text(record.namespace), record.secret_name());
        self.devices_of_secret(namespace, &name).all(|other| other == id)
    }

    /// Takes in what the watch shows of a labelled Secret. Returns the devices for which its version
    /// is news.
    pub fn secret_seen(&mut self, namespace: &str, name: &str, version: u64) -> Vec<DeviceId> {
        let listed = self.names.intern(namespace);
        let hash = self.name_hash(listed, name);
        self.secrets.shown(listed, hash);
        let mut devices: Vec<DeviceId> = self.devices_of_secret(namespace, name).collect();
        if devices.is_empty() {
            self.secrets.remember(hash, version);
        }
        devices.retain(|id| {
            let Some(record) = self.get_mut(*id) else { return false };
            let news = version > record.secret_seen;
            record.secret_seen = record.secret_seen.max(version);
            news
        });
        devices
    }

    /// A device's Secret was read or written with this version.
    pub fn secret_met(&mut self, id: DeviceId, version: u64) {
        if let Some(record) = self.get_mut(id) {
            record.secret_seen = record.secret_seen.max(version);
        }
    }

    /// A device's Secret was looked for and is not there, or what was known of it is not to be relied on.
    pub fn secret_forgotten(&mut self, id: DeviceId) {
        if let Some(record) = self.get_mut(id) {
            record.secret_seen = 0;
        }
    }

    /// A list of Secrets begins.
    pub fn begin_secret_list(&mut self, namespace: Option<&str>) {
        let namespace = namespace.map(|namespace| self.names.intern(namespace));
        self.secrets.listed.insert(namespace, SecretList::default());
    }

    /// A list of Secrets ends: devices whose Secret was known and is not in it. It vanished while no
    /// watch was there to see it.
    pub fn end_secret_list(&mut self, namespace: Option<&str>) -> Vec<DeviceId> {
        let wanted = namespace.map(|namespace| self.names.intern(namespace));
        let listed = self.secrets.end_list(wanted);
        let (records, hasher) = (&mut self.records, &self.hasher);
        let mut gone = Vec::new();
        for (id, record) in (0..).zip(records).filter_map(|(id, record)| Some((id, record.as_mut()?))) {
            let here = wanted.is_none_or(|only| only == record.namespace);
            if here && record.secret_seen > 0 && !listed.contains(&secret_hash(record, hasher)) {
                record.secret_seen = 0;
                gone.push(id);
            }
        }
        gone
    }

    /// The watch says that a labelled Secret is gone, or has lost its label. Returns the devices that
    /// have lost it.
    pub fn secret_gone(&mut self, namespace: &str, name: &str, version: u64) -> Vec<DeviceId> {
        if let Some(namespace) = self.names.get(namespace) {
            let hash = self.name_hash(namespace, name);
            self.secrets.claim(hash);
        }
        let mut devices: Vec<DeviceId> = self.devices_of_secret(namespace, name).collect();
        devices.retain(|id| {
            let known = self.get_mut(*id).filter(|record| version >= record.secret_seen);
            known.is_some_and(|record| {
                record.secret_seen = 0;
                true
            })
        });
        devices
    }

    /// What is known of a device's Secret.
    pub fn secret(&self, id: DeviceId) -> SecretSeen {
        match self.get(id).map_or(0, |record| record.secret_seen) {
            0 => SecretSeen::No,
            version => SecretSeen::Version(version),
        }
    }

    /// False when the watch may not have shown a device's Secret, or when there are so many foreign
    /// labelled Secrets that not all could be remembered.
    pub fn is_secret_watch_complete(&self) -> bool {
        !self.secrets.overflow && self.secrets.unwatched.is_empty()
    }

    /// The watch does not show all labelled Secrets, until a list of it ends again.
    pub fn mark_secret_watch_incomplete(&mut self, namespace: Option<&str>) {
        let namespace = namespace.map(|namespace| self.names.intern(namespace));
        self.secrets.unwatched.insert(namespace);
    }
}
