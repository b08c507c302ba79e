//! The pure in-memory index of all devices: who they are, what settles them, who shares a
//! registration id. No client, no clock, no async.

pub mod counts;
pub mod credential;
pub mod hash;
pub mod inherit;
pub mod intern;
mod plain;
pub mod record;
pub mod revive;
pub mod uid;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use self::intern::{Interner, Sym};
use self::record::Record;
use crate::api::device::ProvisionedDevice;
use crate::api::digest::Digest;

/// A device's place in the slab; reused after the device is gone.
pub type DeviceId = u32;

/// Labelled Secrets that no device names are remembered up to this number (16 bytes each). Beyond it
/// what the watch shows does not count as complete, and a new device reads its Secret before it
/// registers.
const UNCLAIMED_MAX: usize = 100_000;

/// What an event changes about a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChange {
    New,
    /// Same name, another object.
    Replaced,
    Changed,
    /// What we already know, for example our own write coming back.
    Known,
}

/// What is known of a device's Secret before anything is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretSeen {
    /// The watch shows it with this resourceVersion.
    Version(u64),
    /// The watch does not show it. Never proof of absence.
    No,
}

/// A list of Secrets that is being read.
#[derive(Debug, Default)]
struct SecretList {
    names: HashSet<u64>,
    /// Not all that no device names could be remembered.
    overflow: bool,
}

/// All devices.
#[derive(Debug, Default)]
pub struct Fleet {
    pub names: Interner,
    records: Vec<Option<Record>>,
    free: Vec<DeviceId>,
    by_name: HashTable<DeviceId>,
    by_registration: HashTable<DeviceId>,
    /// Devices that name their Secret themselves, by the hash of its namespace and name.
    by_secret: HashTable<DeviceId>,
    hasher: RandomState,
    /// Hash of namespace and name of a labelled Secret that no device names -> resourceVersion.
    unclaimed: HashMap<u64, u64>,
    /// There were more of them than are remembered.
    unclaimed_overflow: bool,
    /// Watches of Secrets that do not show them all, by the namespace that each is limited to.
    unwatched_secrets: HashSet<Option<Sym>>,
    /// Lists of Secrets that are being read, in the same way.
    listed_secrets: HashMap<Option<Sym>, SecretList>,
}

impl Fleet {
    pub fn get(&self, id: DeviceId) -> Option<&Record> {
        self.records.get(id as usize).and_then(Option::as_ref)
    }

    pub fn get_mut(&mut self, id: DeviceId) -> Option<&mut Record> {
        self.records.get_mut(id as usize).and_then(Option::as_mut)
    }

    pub fn iter(&self) -> impl Iterator<Item = (DeviceId, &Record)> {
        (0..).zip(&self.records).filter_map(|(id, record)| Some((id, record.as_ref()?)))
    }

    pub fn len(&self) -> usize {
        self.records.len() - self.free.len()
    }

    pub fn find(&self, namespace: &str, name: &str) -> Option<DeviceId> {
        let namespace = self.names.get(namespace)?;
        self.find_sym(namespace, name)
    }

    fn find_sym(&self, namespace: Sym, name: &str) -> Option<DeviceId> {
        self.by_name
            .find(self.name_hash(namespace, name), |id| {
                self.get(*id).is_some_and(|record| record.namespace == namespace && &*record.name == name)
            })
            .copied()
    }

    /// Takes in a device as a watch shows it (`list`: the number of its latest list), or as our own
    /// reading or writing does: that does not show whether a list would still contain it.
    pub fn upsert(&mut self, device: &ProvisionedDevice, list: Option<u32>) -> (DeviceId, DeviceChange) {
        let mut record = Record::from_device(device, &mut self.names, list.unwrap_or(0));
        let Some(id) = self.find_sym(record.namespace, &record.name) else {
            record.secret_seen = self.claim(&record);
            return (self.insert(record), DeviceChange::New);
        };
        let Some(old) = self.get_mut(id) else { return (id, DeviceChange::Known) };
        if old.uid == record.uid && record.resource_version <= old.resource_version {
            old.list = list.unwrap_or(old.list);
            return (id, DeviceChange::Known);
        }
        if record.resource_version < old.resource_version {
            // An older object of the same name, from a server that is behind.
            return (id, DeviceChange::Known);
        }
        let change = if old.uid == record.uid { DeviceChange::Changed } else { DeviceChange::Replaced };
        record.list = list.unwrap_or(old.list);
        record.written = old.written.filter(|_| change == DeviceChange::Changed);
        record.secret_seen = old.secret_seen;
        if old.secret_name() != record.secret_name() {
            record.secret_seen = self.claim(&record);
        }
        self.unindex(id);
        self.records[id as usize] = Some(record);
        self.index(id);
        (id, change)
    }

    /// We have written a device's status: this is what was stored, at this version.
    pub fn status_written(&mut self, id: DeviceId, version: u64, status: Option<Digest>) {
        let Some(record) = self.get_mut(id) else { return };
        record.written = status;
        if record.resource_version == version {
            record.status = status;
        }
    }

    /// The status that is there is as we would write it, whoever wrote it.
    pub fn status_agreed(&mut self, id: DeviceId) {
        if let Some(record) = self.get_mut(id) {
            record.written = record.written.and(record.status);
        }
    }

    fn insert(&mut self, record: Record) -> DeviceId {
        let hash = self.name_hash(record.namespace, &record.name);
        let id = match self.free.pop() {
            Some(id) => {
                self.records[id as usize] = Some(record);
                id
            }
            None => {
                self.records.push(Some(record));
                DeviceId::try_from(self.records.len() - 1).unwrap_or(DeviceId::MAX)
            }
        };
        let (records, hasher) = (&self.records, &self.hasher);
        self.by_name.insert_unique(hash, id, |id| match records.get(*id as usize) {
            Some(Some(record)) => hasher.hash_one((record.namespace, &*record.name)),
            _ => 0,
        });
        self.index(id);
        id
    }

    /// Forgets a device. Its Secret, if the watch showed one, is remembered as one that no device names.
    pub fn remove(&mut self, id: DeviceId) -> Option<Record> {
        let record = self.get(id)?;
        let hash = self.name_hash(record.namespace, &record.name);
        self.unindex(id);
        if let Ok(entry) = self.by_name.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
        let record = self.records[id as usize].take()?;
        self.free.push(id);
        if record.secret_seen > 0 {
            self.remember_unclaimed(record.namespace, &record.secret_name(), record.secret_seen);
        }
        Some(record)
    }

    /// Devices of one integration.
    pub fn of_integration(&self, integration: Sym) -> Vec<DeviceId> {
        self.iter().filter(|(_, record)| record.integration == integration).map(|(id, _)| id).collect()
    }

    /// All devices that claim this registration id, in any id scope.
    pub fn claimants<'a>(&'a self, registration_id: &'a str) -> impl Iterator<Item = DeviceId> + 'a {
        self.by_registration
            .iter_hash(self.hasher.hash_one(registration_id))
            .copied()
            .filter(move |id| self.get(*id).is_some_and(|record| record.registration_id() == registration_id))
    }

    /// Devices whose Secret has this name. The annotations of the Secret do not count: users can edit
    /// them.
    pub fn devices_of_secret(&self, namespace: &str, name: &str) -> Vec<DeviceId> {
        let Some(sym) = self.names.get(namespace) else { return Vec::new() };
        let named = self.by_secret.iter_hash(self.name_hash(sym, name)).copied();
        let usual = name.strip_suffix("-hub").and_then(|device| self.find_sym(sym, device));
        let is_its = |id: &DeviceId| {
            self.get(*id).is_some_and(|record| record.namespace == sym && record.is_secret_name(name))
        };
        named.chain(usual).filter(is_its).collect()
    }

    /// Takes in what the watch shows of a labelled Secret. Returns the devices for which its version
    /// is news.
    pub fn secret_seen(&mut self, namespace: &str, name: &str, version: u64) -> Vec<DeviceId> {
        let listed = self.names.intern(namespace);
        let hash = self.name_hash(listed, name);
        for scope in [None, Some(listed)] {
            self.listed_secrets.get_mut(&scope).map(|list| list.names.insert(hash));
        }
        let mut devices = self.devices_of_secret(namespace, name);
        if devices.is_empty() {
            self.remember_unclaimed(listed, name, version);
        }
        devices.retain(|id| {
            let Some(record) = self.get_mut(*id) else { return false };
            let news = version > record.secret_seen;
            record.secret_seen = record.secret_seen.max(version);
            news
        });
        devices
    }

    /// A list of Secrets begins.
    pub fn begin_secret_list(&mut self, namespace: Option<&str>) {
        let namespace = namespace.map(|namespace| self.names.intern(namespace));
        self.listed_secrets.insert(namespace, SecretList::default());
    }

    /// A list of Secrets ends: devices whose Secret was known and is not in it. It vanished while no
    /// watch was there to see it.
    pub fn end_secret_list(&mut self, namespace: Option<&str>) -> Vec<DeviceId> {
        let wanted = namespace.map(|namespace| self.names.intern(namespace));
        let SecretList { names: listed, overflow } = self.listed_secrets.remove(&wanted).unwrap_or_default();
        self.unwatched_secrets.remove(&wanted);
        if wanted.is_none() {
            self.unclaimed.retain(|hash, _| listed.contains(hash));
            self.unclaimed_overflow = overflow;
        }
        let (records, hasher) = (&mut self.records, &self.hasher);
        let mut gone = Vec::new();
        for (id, record) in (0..).zip(records).filter_map(|(id, record)| Some((id, record.as_mut()?))) {
            let here = wanted.is_none_or(|only| only == record.namespace);
            let hash = hasher.hash_one((record.namespace, record.secret_name().as_str()));
            if here && record.secret_seen > 0 && !listed.contains(&hash) {
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
            self.unclaimed.remove(&hash);
        }
        let mut devices = self.devices_of_secret(namespace, name);
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
        !self.unclaimed_overflow && self.unwatched_secrets.is_empty()
    }

    /// The watch does not show all labelled Secrets, until a list of it ends again.
    pub fn mark_secret_watch_incomplete(&mut self, namespace: Option<&str>) {
        let namespace = namespace.map(|namespace| self.names.intern(namespace));
        self.unwatched_secrets.insert(namespace);
    }

    /// Devices that neither list number `list` nor its watch has shown, in `namespace` if the watch is
    /// limited to one.
    pub fn unseen(&self, list: u32, namespace: Option<&str>) -> Vec<DeviceId> {
        let wanted = namespace.map(|namespace| self.names.get(namespace));
        self.iter()
            .filter(|(_, record)| {
                wanted.is_none_or(|only| only == Some(record.namespace)) && record.list < list
            })
            .map(|(id, _)| id)
            .collect()
    }

    fn claim(&mut self, record: &Record) -> u64 {
        let hash = self.name_hash(record.namespace, &record.secret_name());
        self.unclaimed.remove(&hash).unwrap_or(0)
    }

    fn remember_unclaimed(&mut self, namespace: Sym, name: &str, version: u64) {
        let hash = self.name_hash(namespace, name);
        if self.unclaimed.len() < UNCLAIMED_MAX || self.unclaimed.contains_key(&hash) {
            self.unclaimed.insert(hash, version);
        } else {
            self.unclaimed_overflow = true;
            self.listed_secrets.values_mut().for_each(|list| list.overflow = true);
        }
    }

    fn name_hash(&self, namespace: Sym, name: &str) -> u64 {
        self.hasher.hash_one((namespace, name))
    }

    fn index(&mut self, id: DeviceId) {
        let (records, hasher) = (&self.records, &self.hasher);
        let registration = |id: &DeviceId| match records.get(*id as usize) {
            Some(Some(record)) => hasher.hash_one(record.registration_id()),
            _ => 0,
        };
        let secret = |id: &DeviceId| match records.get(*id as usize) {
            Some(Some(record)) => hasher.hash_one((record.namespace, record.secret_name().as_str())),
            _ => 0,
        };
        self.by_registration.insert_unique(registration(&id), id, registration);
        if records.get(id as usize).is_some_and(|r| r.as_ref().is_some_and(Record::names_its_secret)) {
            self.by_secret.insert_unique(secret(&id), id, secret);
        }
    }

    fn unindex(&mut self, id: DeviceId) {
        let Some(record) = self.records.get(id as usize).and_then(Option::as_ref) else { return };
        let registration = self.hasher.hash_one(record.registration_id());
        let secret = record
            .names_its_secret()
            .then(|| self.hasher.hash_one((record.namespace, record.secret_name().as_str())));
        let tables = [(&mut self.by_registration, Some(registration)), (&mut self.by_secret, secret)];
        for (table, hash) in tables {
            if let Some(Ok(entry)) = hash.map(|hash| table.find_entry(hash, |other| *other == id)) {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests;
