//! What goes on for a device beside the loop.

use tokio::task::AbortHandle;

use super::Active;
use super::room::Load;
use crate::fleet::DeviceId;
use crate::schedule::room::Room;

impl Active {
    /// Effects that have not ended, but for lookups of settled devices.
    pub fn in_flight(&self) -> usize {
        self.loads.total()
    }

    /// For which devices there is room.
    pub fn room(&self) -> &impl Room {
        &self.loads
    }

    /// Effects that have not ended.
    #[cfg(test)]
    pub fn going_on(&self) -> usize {
        let checks = self.entries.values().filter(|entry| entry.check.is_some()).count();
        self.loads.total() + checks
    }

    /// Devices whose object is in memory as it is.
    #[cfg(test)]
    pub fn awake(&self) -> usize {
        self.working
    }

    /// An effect of the device is in flight.
    pub fn started(&mut self, id: DeviceId, task: AbortHandle, load: Load) {
        let Some(work) = self.work_mut(id) else { return task.abort() };
        let before = work.task.replace((task, load));
        self.loads.add(load);
        if let Some((_, load)) = before {
            self.loads.remove(load);
        }
    }

    /// The effect that was in flight has ended.
    pub fn ended(&mut self, id: DeviceId) {
        let Some(work) = self.work_mut(id) else { return };
        work.registers = false;
        if let Some((_, load)) = work.task.take() {
            self.loads.remove(load);
        }
    }

    /// DPS was asked to register the device, and has not said how that ended.
    pub fn is_registering(&self, id: DeviceId) -> bool {
        let asleep = || self.dormant.get(&id).is_some_and(|asleep| asleep.open.is_some());
        self.work(id).map_or_else(asleep, |work| work.registers || work.facts.open.is_some())
    }

    /// DPS has answered.
    pub fn has_answer(&mut self, id: DeviceId) {
        let news = self.work_mut(id).is_some_and(|work| !std::mem::replace(&mut work.answered, true));
        self.answered += usize::from(news);
    }

    /// What DPS has answered is dealt with: what follows from it begins now, or waits for something else.
    pub fn answer_taken(&mut self, id: DeviceId) {
        let had = self.work_mut(id).is_some_and(|work| std::mem::take(&mut work.answered));
        self.answered -= usize::from(had);
    }

    /// Devices of which DPS has answered and nothing is written yet.
    pub fn answered(&self) -> usize {
        self.answered
    }

    /// True if the device's object may be read now; otherwise it is being read.
    pub fn begin_read(&mut self, id: DeviceId, load: Load) -> bool {
        let begins = self.reads.begin(id, load);
        if begins {
            self.loads.add(load);
        }
        begins
    }

    pub fn read_ended(&mut self, id: DeviceId) {
        if let Some(load) = self.reads.ended(id) {
            self.loads.remove(load);
        }
    }

    pub fn is_being_read(&self, id: DeviceId) -> bool {
        self.reads.contains(id)
    }

    /// Ends every effect that is in flight.
    pub fn abort_all(&self) {
        for entry in self.entries.values() {
            let task = entry.work.as_ref().and_then(|work| work.task.as_ref()).map(|(task, _)| task);
            task.into_iter().chain(&entry.check).for_each(AbortHandle::abort);
        }
    }

    /// The device is being looked up, with the permit that it holds.
    pub fn checking(&mut self, id: DeviceId, check: AbortHandle) {
        self.entry(id).check = Some(check);
    }

    pub fn is_checking(&self, id: DeviceId) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.check.is_some())
    }
}
