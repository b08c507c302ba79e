//! The pure in-memory index of all devices: who they are, what settles them, who shares a
//! registration id. No client, no clock, no async.

pub mod certificate;
mod claims;
pub mod counts;
pub mod credential;
pub mod hash;
mod index;
pub mod inherit;
pub mod intern;
mod members;
mod plain;
pub mod record;
pub mod registration;
pub mod revive;
mod secrets;
mod sources;
pub mod uid;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use self::claims::ByRegistrationId;
use self::index::Index;
use self::intern::{Interner, Sym};
use self::members::Members;
use self::record::Record;
use self::registration::Declared;
pub use self::secrets::SecretSeen;
use self::secrets::{BySecret, Secrets, secret_hash};
use self::sources::Sources;
pub use self::sources::{SourceChanges, SourceKey, SourceList};
use crate::api::attestation::OwnCredential;
use crate::api::device::ProvisionedDevice;
use crate::api::digest::Digest;

/// A device's place in the slab; reused after the device is gone.
pub type DeviceId = u32;

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

/// All devices.
#[derive(Debug, Default)]
pub struct Fleet {
    pub names: Interner,
    records: Vec<Option<Record>>,
    free: Vec<DeviceId>,
    by_name: HashTable<DeviceId>,
    by_integration: Members,
    by_registration: Index<ByRegistrationId>,
    by_secret: Index<BySecret>,
    secrets: Secrets,
    sources: Sources,
    /// Of the integrations that are declared.
    scopes: HashMap<Sym, Declared>,
    hasher: RandomState,
}

impl Fleet {
    pub fn get(&self, id: DeviceId) -> Option<&Record> {
        self.records.get(id as usize).and_then(Option::as_ref)
    }

    /// Whatever a device is found by stays as it is.
    fn get_mut(&mut self, id: DeviceId) -> Option<&mut Record> {
        self.records.get_mut(id as usize).and_then(Option::as_mut)
    }

    pub fn iter(&self) -> impl Iterator<Item = (DeviceId, &Record)> {
        (0..).zip(&self.records).filter_map(|(id, record)| Some((id, record.as_ref()?)))
    }

    /// Names that something is known by here.
    pub fn names_in_use(&self) -> HashSet<Sym> {
        let of_record = |record: &Record| {
            let of_ca = record.certificate.as_ref().and_then(|certificate| certificate.ca);
            [Some(record.namespace), Some(record.integration), record.hub, record.previous_hub, of_ca]
        };
        let of_devices = self.iter().flat_map(|(_, record)| {
            of_record(record).into_iter().flatten().chain(record.registrations.scopes())
        });
        of_devices
            .chain(self.secrets.namespaces())
            .chain(
                self.scopes
                    .values()
                    .flat_map(|declared| [Some(declared.scope), declared.certificates])
                    .flatten(),
            )
            .chain(self.sources.names())
            .collect()
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
        record.registrations.here = self.scopes.get(&record.integration).copied();
        let template = record.registrations.here.and_then(|declared| declared.certificates);
        let template = template.map(|template| self.names.text(template));
        let own = OwnCredential::of(device.spec.attestation.as_ref(), template, &record.name);
        let Some(id) = self.find_sym(record.namespace, &record.name) else {
            record.secret_seen = self.secrets.claim(secret_hash(&record, &self.hasher));
            let namespace = record.namespace;
            let id = self.insert(record);
            self.sources.declare(id, namespace, device, own.as_ref(), false);
            return (id, DeviceChange::New);
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
        if change == DeviceChange::Changed && old.registration_id() == record.registration_id() {
            let same_secret = old.secret_name() == record.secret_name();
            record.registrations = old.registrations.carried_to(record.registrations, same_secret);
        }
        if old.secret_name() != record.secret_name() {
            record.secret_seen = self.secrets.claim(secret_hash(&record, &self.hasher));
        }
        let known = change == DeviceChange::Changed;
        self.sources.declare(id, record.namespace, device, own.as_ref(), known);
        self.unindex(id);
        self.records[id as usize] = Some(record);
        self.index(id);
        (id, change)
    }

    /// The API server has gone back to an earlier state: the next object of this name is the present one.
    pub fn forget_version(&mut self, id: DeviceId) {
        if let Some(record) = self.get_mut(id) {
            record.resource_version = 0;
        }
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
        self.sources.remove(id);
        if record.secret_seen > 0 {
            self.secrets.remember(secret_hash(&record, &self.hasher), record.secret_seen);
        }
        Some(record)
    }

    /// Devices of one integration.
    pub fn of_integration(&self, integration: Sym) -> &[DeviceId] {
        self.by_integration.of(integration)
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

    fn name_hash(&self, namespace: Sym, name: &str) -> u64 {
        self.hasher.hash_one((namespace, name))
    }

    fn index(&mut self, id: DeviceId) {
        self.by_integration.insert(id, &mut self.records);
        self.by_registration.insert(id, &self.records, &self.hasher);
        self.by_secret.insert(id, &self.records, &self.hasher);
    }

    fn unindex(&mut self, id: DeviceId) {
        self.by_integration.remove(id, &mut self.records);
        self.by_registration.remove(id, &self.records, &self.hasher);
        self.by_secret.remove(id, &self.records, &self.hasher);
    }
}

#[cfg(test)]
mod tests;
