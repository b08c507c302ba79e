//! Objects of the API server: devices that are not kept in memory, and the Secrets that are written
//! for them.

use super::work::{Effect, Work};
use super::{Engine, Message};
use crate::controller::device::act::{self, Known};
use crate::controller::device::secret::settings_hash;
use crate::fleet::record::Record;
use crate::fleet::{DeviceId, SecretSeen, revive};

/// Settled devices that are read again at a time.
const READS: usize = 16;

impl Engine {
    /// Goes on with a device whose object is not kept; if there is nothing special about it, without
    /// reading it.
    pub(super) fn revive(&mut self, id: DeviceId) {
        let revived = self.fleet.get(id).zip(self.ready_of(id)).and_then(|(record, ready)| {
            revive::revive(record, &self.fleet.names, ready.scope.as_str(), ready.token.as_deref())
        });
        let Some(device) = revived else { return self.read_device(id) };
        let mut work = Work::new(device, &self.config.allowed_hub_suffixes);
        (work.revived, work.for_fleet) = (true, true);
        self.work.insert(id, Box::new(work));
        self.look_at(id);
    }

    pub(super) fn spawn_secret_read(&mut self, id: DeviceId) {
        let (Some(record), writer) = (self.fleet.get(id), self.writer.clone()) else { return };
        let (namespace, name) = (self.fleet.names.text(record.namespace).to_owned(), record.secret_name());
        let epoch = self.ready_of(id).map_or(0, |ready| ready.epoch);
        self.spawn(id, async move {
            let read = writer.read_secret(&namespace, &name).await.map(|secret| secret.map(Box::new));
            Effect::SecretRead { epoch, read }
        });
    }

    pub(super) fn spawn_secret_write(&mut self, id: DeviceId) {
        let Some(ready) = self.ready_of(id) else { return };
        let seen = self.fleet.secret(id);
        let Some(work) = self.work.get_mut(&id) else { return };
        let writer = self.writer.for_fleet(work.for_fleet);
        let Some(registered) = work.facts.registered.clone() else { return };
        let (device, found) = (work.device.clone(), work.found.take());
        let name = self.fleet.get(id).map(Record::secret_name);
        let restored = work.facts.secret.as_ref().is_some_and(|written| {
            Some(&written.name) == name.as_ref() && seen != SecretSeen::Version(written.version)
        });
        let former = work.facts.secret.as_ref().map(|written| written.name.clone());
        let settings = settings_hash(&device, &ready.inherited);
        let same_settings = work.same_settings.take() == Some(settings);
        let known = match (found, seen) {
            (Some(found), _) => Known::Read(Box::new(found)),
            (None, SecretSeen::Version(version)) if same_settings && !restored => Known::AsWritten(version),
            (None, SecretSeen::Version(_)) => Known::There,
            (None, SecretSeen::No) => Known::Absent,
        };
        let (generation, epoch) = (device.metadata.generation.unwrap_or(0), ready.epoch);
        self.spawn(id, async move {
            let result = act::write_secret(&writer, &device, &registered, &ready, (known, former)).await;
            Effect::SecretWritten { generation, epoch, restored, result }
        });
        self.spend_without_call(id);
    }

    /// Reads an object that is not kept, or whose copy is out of date; a few at a time.
    pub(super) fn read_device(&mut self, id: DeviceId) {
        if self.reading.contains(&id) {
            return;
        }
        if self.reading.len() >= READS {
            if self.waits_to_be_read.insert(id) {
                self.to_read.push_back(id);
            }
            return;
        }
        let Some(record) = self.fleet.get(id) else { return };
        self.reading.insert(id);
        let (namespace, name, uid) =
            (self.fleet.names.text(record.namespace).to_owned(), record.name.to_string(), record.uid);
        let (writer, sender) = (self.writer.clone(), self.sender.clone());
        tokio::spawn(async move {
            let read = writer.read_device(&namespace, &name).await.map(|device| device.map(Box::new));
            // The loop is gone only when the process ends.
            let _ = sender.send(Message::Effect(id, uid, Effect::DeviceRead(read))).await;
        });
    }

    /// A read has ended: the next devices in line are looked at, and read if they still have to be.
    pub(super) fn read_next(&mut self) {
        while self.reading.len() < READS
            && let Some(next) = self.to_read.pop_front()
        {
            self.waits_to_be_read.remove(&next);
            self.step(next);
        }
    }
}
