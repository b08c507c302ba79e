//! All that is kept of a device beside its record in the index: its work, its permit, its timers. One
//! `remove` empties all of it. No client, no clock, no task but the handles of those that run.

mod contested;
mod dormant;
mod entry;
mod in_flight;
mod own;
mod packed;
mod reads;
mod room;
#[cfg(test)]
mod tests;
mod ticks;
mod timers;
mod work;
mod writes;

use std::collections::HashMap;
use std::sync::Arc;

use self::dormant::Dormant;
pub(super) use self::entry::{DueWork, HeldPermit};
use self::entry::{Entry, Timers};
pub(super) use self::own::{OwnCredentials, ReadFor};
use self::packed::Packer;
use self::reads::Reads;
pub(super) use self::room::Load;
use self::room::Loads;
use self::ticks::Ticks;
use self::timers::Lines;
pub(super) use self::work::{Freshness, Work};
pub(super) use self::writes::ContestedObjects;
use crate::api::device::ProvisionedDevice;
use crate::api::names::{RECONCILE_REQUESTED_AT, REPROVISION_REQUESTED_AT};
use crate::clock::Now;
use crate::controller::device::facts::{Registered, Trigger, Unresolved};
use crate::controller::device::settings::annotation;
use crate::fleet::DeviceId;
use crate::fleet::hash::Hash;
use crate::schedule::Share;
use crate::schedule::permits::Permit;

/// So many devices are kept as they are: few wait for long.
const CROWD: usize = 500;

/// All devices that have work to do, or of which something is remembered for a while.
pub(super) struct Active {
    /// Boxed: the map stays as large as it once was, and most devices need no work most of the time.
    entries: HashMap<DeviceId, Box<Entry>>,
    /// Apart, so that a fleet that waits costs no entries.
    dormant: HashMap<DeviceId, Dormant>,
    packer: Packer,
    /// Devices that have work.
    working: usize,
    loads: Loads,
    /// Devices of which DPS has answered and nothing is written yet.
    answered: usize,
    reads: Reads,
    /// When it was last found out whose drift check or periodic registration is due.
    pub ticks: Ticks,
    lines: Lines,
    contested: ContestedObjects,
    hub_suffixes: Arc<[String]>,
}

impl Active {
    pub fn new(hub_suffixes: Arc<[String]>) -> Self {
        Self {
            entries: HashMap::new(),
            dormant: HashMap::new(),
            packer: Packer::default(),
            working: 0,
            loads: Loads::default(),
            answered: 0,
            reads: Reads::default(),
            ticks: Ticks::default(),
            lines: Lines::default(),
            contested: ContestedObjects::default(),
            hub_suffixes,
        }
    }

    fn entry(&mut self, id: DeviceId) -> &mut Entry {
        self.entries.entry(id).or_default()
    }

    /// Drops the entry of a device of which nothing is remembered.
    pub fn tidy(&mut self, id: DeviceId) {
        if self.entries.get(&id).is_some_and(|entry| entry.is_empty()) {
            self.entries.remove(&id);
        }
    }

    /// Forgets a device that is gone or was replaced. Returns the permit that it held.
    pub fn remove(&mut self, id: DeviceId) -> Option<HeldPermit> {
        self.dormant.remove(&id);
        let mut entry = self.entries.remove(&id)?;
        let permit = entry.take_permit();
        self.end(entry.work);
        permit
    }

    /// Ends the work of a device that needs none; what it did lately stays known. Returns the permit
    /// that it held.
    pub fn settle(&mut self, id: DeviceId) -> Option<HeldPermit> {
        self.dormant.remove(&id);
        let entry = self.entries.get_mut(&id)?;
        let work = entry.work.take();
        let permit = entry.take_permit();
        entry.drift = None;
        entry.verify = None;
        entry.timers = Timers::default();
        entry.unanswered = 0;
        if let Some(writes) = &mut entry.writes {
            writes.agreed();
        }
        self.end(work);
        self.tidy(id);
        permit
    }

    fn end(&mut self, work: Option<Box<Work>>) {
        let Some(work) = work else { return };
        self.working -= 1;
        self.answered -= usize::from(work.answered);
        if let Some((task, load)) = work.task {
            task.abort();
            self.loads.remove(load);
        }
    }

    // Work.

    pub fn work(&self, id: DeviceId) -> Option<&Work> {
        self.entries.get(&id)?.work.as_deref()
    }

    pub fn work_mut(&mut self, id: DeviceId) -> Option<&mut Work> {
        self.entries.get_mut(&id)?.work.as_deref_mut()
    }

    fn begin(&mut self, id: DeviceId, work: Work) {
        let entry = self.entry(id);
        // What failed before concerned reading the object.
        entry.unanswered = 0;
        let before = entry.work.replace(Box::new(work));
        self.working += 1;
        self.end(before);
    }

    /// Takes in an object as the watch shows it; `settled`: unless it has work, it needs none.
    pub fn observed(&mut self, id: DeviceId, device: ProvisionedDevice, settled: bool, now: Now) {
        let (mut open, mut unresolved) = (None, Unresolved::Nothing);
        if let Some(dormant) = self.dormant.remove(&id) {
            if !dormant.timers.is_empty() {
                self.entry(id).timers = dormant.timers;
            }
            (open, unresolved) = (dormant.open, dormant.unresolved);
        }
        let suffixes = self.hub_suffixes.clone();
        if self.work(id).is_some_and(|work| asks_for_more(&work.device, &device)) {
            // Whoever edits the device or asks for something has mended what kept changing its Secret, or its
            // credentials.
            self.entry(id).restores = None;
            self.forget_credentials(id);
        }
        match self.work_mut(id) {
            Some(work) if work.freshness == Freshness::Revived => {
                work.replace_revived(device, &suffixes, now)
            }
            // What we know goes further than what the status says.
            Some(work) => {
                if work.device.metadata.generation != device.metadata.generation {
                    work.found = None;
                    work.secret_read = false;
                    work.share = Share::Device;
                }
                work.device = Arc::new(device);
                work.freshness = Freshness::Current;
            }
            None if settled && open.is_none() && unresolved == Unresolved::Nothing => {}
            None => {
                let mut work = Work::new(device, &suffixes, now);
                work.facts.open = open;
                work.facts.unresolved = unresolved;
                self.begin(id, work);
                self.sleep_in_a_crowd(id, now);
            }
        }
    }

    /// Takes in an object that was read. `outdated`: the watch has brought a newer one meanwhile;
    /// `share`: whose work it is if there was none.
    pub fn read(&mut self, id: DeviceId, device: ProvisionedDevice, outdated: bool, share: Share, now: Now) {
        let suffixes = self.hub_suffixes.clone();
        match self.work_mut(id) {
            Some(work) if work.freshness == Freshness::Revived => {
                work.replace_revived(device, &suffixes, now)
            }
            Some(work) => {
                if !outdated {
                    work.device = Arc::new(device);
                }
                work.freshness = Freshness::Current;
            }
            None => {
                self.begin(id, Work { share, ..Work::new(device, &suffixes, now) });
            }
        }
    }

    /// Begins the work of a device whose object was made from the record.
    pub fn revived(&mut self, id: DeviceId, device: ProvisionedDevice, now: Now) {
        let work = Work::new(device, &self.hub_suffixes, now);
        self.begin(id, Work { freshness: Freshness::Revived, share: Share::Fleet, ..work });
    }

    /// Keeps what a standby has to know: the object of a device that will need work, as it is now.
    pub fn stand_by(&mut self, id: DeviceId, device: ProvisionedDevice, settled: bool, now: Now) {
        self.remove(id);
        if !settled {
            self.begin(id, Work::new(device, &self.hub_suffixes, now));
            self.sleep(id, now);
        }
    }

    // Dormant devices.

    /// Puts a device to sleep that waits among many, whatever for.
    pub fn sleep_in_a_crowd(&mut self, id: DeviceId, now: Now) {
        if self.working > CROWD {
            self.sleep(id, now);
        }
    }

    fn sleep(&mut self, id: DeviceId, now: Now) {
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.may_sleep()) else { return };
        let Some(work) = &entry.work else { return };
        let dormant = Dormant::of(work, entry.timers, &mut self.packer, &self.hub_suffixes, now);
        if let Some(mut dormant) = dormant {
            entry.timers = Timers::default();
            let mut work = entry.work.take();
            dormant.own = work.as_mut().and_then(|work| work.own.take()).and_then(OwnCredentials::alone);
            self.dormant.insert(id, dormant);
            self.end(work);
            self.tidy(id);
        }
    }

    /// Wakes a device that sleeps. One that does not come back as it was is read from the API server.
    pub fn wake(&mut self, id: DeviceId, now: Now) {
        let Some(dormant) = self.dormant.remove(&id) else { return };
        let restored = dormant.restored(&self.hub_suffixes, now);
        self.entry(id).timers = dormant.timers;
        if self.work(id).is_none()
            && let Some(mut work) = restored
        {
            if let Some(Ok(own)) = dormant.own.as_ref().map(|own| own.read()) {
                work.facts.credential_read(own);
            }
            self.begin(id, Work { own: dormant.own, ..work });
        }
    }

    /// A registration of the device was begun whose end is not known: DPS waits to be asked for it, or its
    /// answer was lost.
    pub fn has_begun_to_register(&self, id: DeviceId) -> bool {
        let begun = |is_open, unresolved| is_open || unresolved == Unresolved::Begun;
        let awake = self.work(id).map(|work| begun(work.facts.open.is_some(), work.facts.unresolved));
        let asleep =
            || self.dormant.get(&id).is_some_and(|asleep| begun(asleep.open.is_some(), asleep.unresolved));
        awake.unwrap_or_else(asleep)
    }

    /// The device's registration, if DPS may hold another in its place of which no Secret speaks.
    pub fn superseded(&self, id: DeviceId, now: Now) -> Option<Hash> {
        let asleep;
        let work = match self.work(id) {
            Some(work) => work,
            None => {
                asleep = self.dormant.get(&id)?.restored(&self.hub_suffixes, now)?;
                &asleep
            }
        };
        let in_flight = work.facts.registered.as_ref().filter(|_| work.registers);
        in_flight.or_else(|| work.facts.superseded()).map(Registered::place)
    }

    /// The device's own credentials may be others than those that were read.
    pub fn forget_credentials(&mut self, id: DeviceId) {
        if let Some(dormant) = self.dormant.get_mut(&id) {
            dormant.own = None;
        }
        if let Some(work) = self.work_mut(id) {
            // What DPS is accepting, or has accepted, is written before anything newer is read.
            let (registers, facts) = (work.registers, &work.facts);
            let own = work.own.take().filter(|own| registers || own.are_unwritten(facts));
            work.own = own.map(OwnCredentials::outdated);
        }
        self.doubt_credential_read(id);
    }

    /// What is being read of the device's own credentials may be old by now.
    pub fn doubt_credential_read(&mut self, id: DeviceId) {
        if let Some(work) = self.work_mut(id) {
            work.doubted = work.doubted.wrapping_add(1);
        }
    }

    /// The device's Secret is not what it was when it was last read.
    pub fn secret_changed(&mut self, id: DeviceId) {
        if let Some(dormant) = self.dormant.get_mut(&id) {
            dormant.secret_changed();
        }
        if let Some(work) = self.work_mut(id) {
            work.found = None;
            work.secret_read = false;
        }
    }

    // Permits.

    pub fn permit(&self, id: DeviceId) -> Option<HeldPermit> {
        self.entries.get(&id)?.permit.as_deref().copied()
    }

    /// A permit that has not been used yet.
    pub fn unused_permit(&self, id: DeviceId) -> Option<Permit> {
        self.permit(id).filter(|held| !held.used).map(|held| held.permit)
    }

    pub fn hold(&mut self, id: DeviceId, held: HeldPermit) {
        self.entry(id).permit = Some(Box::new(held));
    }

    /// Takes the permit away. A lookup that goes on with it is of no use any more and is ended.
    pub fn release(&mut self, id: DeviceId) -> Option<HeldPermit> {
        self.entries.get_mut(&id)?.take_permit()
    }

    pub fn holds(&self, id: DeviceId, permit: Permit) -> bool {
        self.permit(id).is_some_and(|held| held.permit == permit)
    }

    // Drift checks and periodic registrations.

    pub fn due_work(&self, id: DeviceId) -> Option<&DueWork> {
        self.entries.get(&id)?.drift.as_ref()
    }

    /// Something has fallen due. A registration shows what a check would, and what was found of a status
    /// that was edited since has to be found once more; otherwise what is due already comes first.
    pub fn due(&mut self, id: DeviceId, due: DueWork) {
        let before = &mut self.entry(id).drift;
        let more =
            matches!((&before, &due), (Some(DueWork::Check), DueWork::Periodic) | (Some(_), DueWork::Edited));
        if more || before.is_none() {
            *before = Some(due);
        }
    }

    /// The drift check has come to this. What has fallen due meanwhile stays so.
    pub fn checked(&mut self, id: DeviceId, found: Option<DueWork>) {
        if !matches!(self.due_work(id), Some(DueWork::Periodic)) {
            self.set_due(id, found);
        }
    }

    pub fn set_due(&mut self, id: DeviceId, drift: Option<DueWork>) {
        if drift.is_some() || self.entries.contains_key(&id) {
            self.entry(id).drift = drift;
        }
    }

    /// What a drift check has come to becomes a fact as soon as the object is at hand.
    pub fn absorb_due(&mut self, id: DeviceId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let Some(work) = entry.work.as_mut() else { return };
        match entry.drift.take() {
            Some(DueWork::Found(located)) => {
                let reconcile_at = work.facts.served.reconcile_at.clone();
                work.facts.look_up(*located, reconcile_at);
            }
            Some(DueWork::NotFound) => work.facts.not_found(),
            Some(DueWork::Edited) => work.facts.doubt_status(true),
            Some(DueWork::Compare) => work.facts.doubt_status(false),
            Some(DueWork::Periodic) => work.facts.trigger = Some(Trigger::Periodic),
            Some(DueWork::Check) => work.facts.trigger = work.facts.trigger.or(Some(Trigger::DriftCheck)),
            // What there is to say of it, the decision finds.
            Some(DueWork::Aged) => {}
            None => return,
        }
        work.unreported = true;
    }

    /// The API server did not answer; returns how many times in a row.
    pub fn unanswered(&mut self, id: DeviceId) -> u32 {
        let entry = self.entry(id);
        entry.unanswered += 1;
        entry.unanswered
    }

    /// Devices of which the API server has not answered the last request, in no order.
    pub fn all_unanswered(&self) -> impl Iterator<Item = DeviceId> {
        self.entries.iter().filter(|(_, entry)| entry.unanswered > 0).map(|(id, _)| *id)
    }

    pub fn reset_unanswered(&mut self, id: DeviceId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.unanswered = 0;
        }
    }
}

/// True if a user has edited the device, or asks for something by an annotation.
fn asks_for_more(before: &ProvisionedDevice, after: &ProvisionedDevice) -> bool {
    let asked = [REPROVISION_REQUESTED_AT, RECONCILE_REQUESTED_AT];
    before.metadata.generation != after.metadata.generation
        || asked
            .iter()
            .any(|key| annotation(after, key).is_some_and(|new| annotation(before, key) != Some(new)))
}
