//! Which Certificates of devices are there, who waits for one to be written, and what went wrong.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::api::retry::{self, RetryClass};
use crate::controller::device::issuance::{Shown, Trouble};
use crate::engine::observe::sync::WatchId;
use crate::fleet::intern::Sym;
use crate::fleet::{DeviceId, SourceKey};
use crate::schedule::turns::{Party, Turns};

/// Certificates that are written at a time: each is some requests, and cert-manager has to issue them all.
const AT_ONCE: usize = 16;

/// What was written longer ago does not count.
const LATELY: Duration = Duration::from_secs(60 * 60);
/// So many are remembered before those are forgotten that do not count any more.
const MANY: usize = 1024;

/// What has gone wrong with a device's Certificate.
#[derive(Debug)]
pub struct Failed {
    /// What was wanted then.
    pub wanted: Shown,
    /// `None` for what may pass in a moment.
    pub trouble: Option<Trouble>,
    pub attempts: u32,
    pub again: Instant,
}

/// A write that goes on.
#[derive(Debug)]
struct InFlight {
    task: AbortHandle,
    roused: bool,
}

/// What was written for a device: something else may keep changing it.
#[derive(Debug)]
struct Written {
    what: Shown,
    /// Lately, and when last.
    times: u32,
    last: Instant,
}

/// What becomes of a device when it has slept long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It has its place in the rollout of this integration.
    Write(Sym),
    LookAgain,
}

/// Everything about the Certificates that the operator has cert-manager issue.
#[derive(Debug, Default)]
pub struct Book {
    /// An integration wants some.
    pub needed: bool,
    /// They are watched.
    pub watched: bool,
    shown: HashMap<SourceKey, Shown>,
    /// What lists that are being read have shown.
    listing: HashMap<WatchId, HashSet<SourceKey>>,
    /// Watches whose list has been read.
    read: HashSet<WatchId>,
    waiting: Turns,
    /// Those that wait, or sleep until it is their turn.
    queued: HashSet<DeviceId>,
    sleeping: BTreeSet<(Instant, DeviceId)>,
    asleep: HashMap<DeviceId, (Instant, Then)>,
    in_flight: HashMap<DeviceId, InFlight>,
    failed: HashMap<DeviceId, Failed>,
    written: HashMap<DeviceId, Written>,
    /// When the next one of a rollout goes that has a pace, by integration.
    rollouts: HashMap<Sym, Instant>,
}

impl Book {
    // What is there.

    pub fn shown(&self, key: &SourceKey) -> Option<Shown> {
        self.shown.get(key).copied()
    }

    pub fn observed(&mut self, key: SourceKey, shown: Shown) {
        for listing in self.listing.values_mut() {
            listing.insert(key.clone());
        }
        self.shown.insert(key, shown);
    }

    pub fn gone(&mut self, key: &SourceKey) {
        self.shown.remove(key);
    }

    pub fn begin_list(&mut self, watch: WatchId) {
        self.listing.insert(watch, HashSet::new());
    }

    /// Returns those that are gone, of this namespace or of all.
    pub fn end_list(&mut self, watch: WatchId, only: Option<Sym>) -> Vec<SourceKey> {
        let listed = self.listing.remove(&watch).unwrap_or_default();
        self.read.insert(watch);
        let is_gone = |key: &&SourceKey| only.is_none_or(|only| only == key.0) && !listed.contains(*key);
        let gone: Vec<SourceKey> = self.shown.keys().filter(is_gone).cloned().collect();
        gone.iter().for_each(|key| self.gone(key));
        gone
    }

    /// Every one of so many watches has shown what there is.
    pub fn is_read(&self, watches: usize) -> bool {
        self.read.len() >= watches
    }

    /// Names that something is known by here.
    pub fn names(&self) -> impl Iterator<Item = Sym> {
        self.shown.keys().map(|key| key.0).chain(self.rollouts.keys().copied())
    }

    // Who waits.

    /// It waits for its turn, or sleeps until then.
    pub fn is_busy(&self, id: DeviceId) -> bool {
        self.queued.contains(&id) || self.in_flight.contains_key(&id)
    }

    pub fn join(&mut self, party: Party, id: DeviceId) {
        if self.queued.insert(id) {
            self.waiting.push(party, id);
        }
    }

    pub fn sleep(&mut self, id: DeviceId, at: Instant, then: Then) {
        if self.queued.insert(id) {
            self.sleeping.insert((at, id));
            self.asleep.insert(id, (at, then));
        }
    }

    /// A device that has slept long enough, and has to be looked at again.
    pub fn woken(&mut self, now: Instant, party: impl Fn(DeviceId) -> Party) -> Option<DeviceId> {
        while let Some((at, id)) = self.sleeping.first().copied().filter(|(at, _)| *at <= now) {
            self.sleeping.remove(&(at, id));
            if matches!(self.asleep.remove(&id), Some((_, Then::LookAgain))) {
                self.queued.remove(&id);
                return Some(id);
            }
            self.waiting.push(party(id), id);
        }
        None
    }

    /// What kept its Certificate from being written may be over: a user asks for the device, or what was in the way has
    /// changed. If something did, it joins now.
    pub fn rouse(&mut self, party: Party, id: DeviceId) {
        if let Some(in_flight) = self.in_flight.get_mut(&id) {
            in_flight.roused = true;
        } else if let Some(failed) = self.failed.get_mut(&id) {
            // What went wrong is known until it is found out whether it still does: the device's status says it.
            failed.attempts = 0;
            self.end_sleep(id);
            self.join(party, id);
        }
    }

    /// It is looked at again now, also if it waits for something.
    pub fn end_wait(&mut self, id: DeviceId) {
        if matches!(self.asleep.get(&id), Some((_, Then::LookAgain))) {
            self.end_sleep(id);
        }
    }

    /// The device is gone, or another one has its place.
    pub fn remove(&mut self, id: DeviceId) {
        self.forget(id);
        self.written.remove(&id);
    }

    /// Whatever it sleeps for, and what went wrong.
    pub fn forget(&mut self, id: DeviceId) {
        self.failed.remove(&id);
        self.end_sleep(id);
    }

    fn end_sleep(&mut self, id: DeviceId) {
        if let Some((at, _)) = self.asleep.remove(&id) {
            self.sleeping.remove(&(at, id));
            self.queued.remove(&id);
        }
    }

    /// The next device whose turn it is.
    pub fn next(&mut self) -> Option<DeviceId> {
        if self.in_flight.len() >= AT_ONCE {
            return None;
        }
        loop {
            let id = self.waiting.pop(|_| true)?;
            self.queued.remove(&id);
            // It is looked at once more when that has ended.
            if !self.in_flight.contains_key(&id) {
                return Some(id);
            }
        }
    }

    /// When there is something to do.
    pub fn next_at(&self, now: Instant) -> Option<Instant> {
        let waits = !self.waiting.is_empty() && self.in_flight.len() < AT_ONCE;
        if waits { Some(now) } else { self.sleeping.first().map(|(at, _)| *at) }
    }

    /// When a device of a rollout may go of which `per_minute` may.
    pub fn place_in_rollout(&mut self, integration: Sym, per_minute: u32, now: Instant) -> Instant {
        let at = self.rollouts.get(&integration).map_or(now, |next| (*next).max(now));
        let interval = Duration::from_secs(60) / per_minute.max(1);
        self.rollouts.insert(integration, at + interval);
        at
    }

    /// The pace of an integration's rollout may be another one. Those that had a place in it have none any more.
    pub fn leave_rollout(&mut self, integration: Sym) -> Vec<DeviceId> {
        self.rollouts.remove(&integration);
        let has_place = |(_, then): &(Instant, Then)| *then == Then::Write(integration);
        let placed = self.asleep.iter().filter(|(_, asleep)| has_place(asleep)).map(|(id, _)| *id);
        let placed: Vec<DeviceId> = placed.collect();
        placed.iter().for_each(|id| self.forget(*id));
        placed
    }

    // What comes of it.

    pub fn wrote(&mut self, id: DeviceId, what: Shown, now: Instant) {
        let before =
            self.written.get(&id).filter(|before| before.what == what && before.last + LATELY >= now);
        let times = before.map_or(0, |before| before.times).saturating_add(1);
        self.written.insert(id, Written { what, times, last: now });
        if self.written.len() >= MANY && self.written.len().is_power_of_two() {
            self.written.retain(|_, written| written.last + LATELY >= now);
        }
    }

    /// Not before then, if just this was written already: after 5 s, and later and later each time.
    pub fn may_write_at(&self, id: DeviceId, what: Shown, seed: u64) -> Option<Instant> {
        let before = self.written.get(&id).filter(|before| before.what == what)?;
        Some(before.last + retry::wait(RetryClass::Transient, before.times, seed))
    }

    /// Something is in flight.
    pub fn is_writing(&self) -> bool {
        !self.in_flight.is_empty()
    }

    pub fn started(&mut self, id: DeviceId, task: AbortHandle) {
        self.in_flight.insert(id, InFlight { task, roused: false });
    }

    /// True if what has kept it from being written may be over since it began.
    pub fn ended(&mut self, id: DeviceId) -> bool {
        self.in_flight.remove(&id).is_some_and(|in_flight| in_flight.roused)
    }

    pub fn failed(&self, id: DeviceId) -> Option<&Failed> {
        self.failed.get(&id)
    }

    pub fn set_failed(&mut self, id: DeviceId, failed: Failed) {
        self.failed.insert(id, failed);
    }

    /// True if it had failed.
    pub fn forget_failure(&mut self, id: DeviceId) -> bool {
        self.failed.remove(&id).is_some()
    }

    pub fn abort_all(&mut self) {
        self.in_flight.drain().for_each(|(_, in_flight)| in_flight.task.abort());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fleet::hash::Hash;
    use crate::fleet::intern::Interner;

    const SECOND: Duration = Duration::from_secs(1);

    fn party(_: DeviceId) -> Party {
        Party::default()
    }

    fn shown() -> Shown {
        Shown { owner: None, content: Hash::of("test", []) }
    }

    #[test]
    fn what_a_list_does_not_show_is_gone_in_its_namespace_only() {
        let (mut book, mut names) = (Book::default(), Interner::default());
        let (one, two) = (names.intern("one"), names.intern("two"));
        let keys = [(one, "a"), (one, "b"), (two, "a")].map(|(namespace, name)| (namespace, name.into()));
        keys.iter().for_each(|key: &SourceKey| book.observed(key.clone(), shown()));
        book.begin_list(WatchId(0));
        book.observed(keys[0].clone(), shown());
        assert!(!book.is_read(1));
        assert_eq!(book.end_list(WatchId(0), Some(one)), [keys[1].clone()]);
        assert!(book.is_read(1) && !book.is_read(2));
        assert_eq!(keys.map(|key| book.shown(&key).is_some()), [true, false, true]);
    }

    #[test]
    fn so_many_are_written_at_a_time_and_the_next_when_one_has_ended() {
        let (mut book, now) = (Book::default(), Instant::now());
        (0..40).for_each(|id| book.join(Party::default(), id));
        book.join(Party::default(), 0);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut started = Vec::new();
        while let Some(id) = book.next() {
            book.started(id, runtime.spawn(async {}).abort_handle());
            started.push(id);
        }
        assert_eq!(started, (0..16).collect::<Vec<_>>());
        assert_eq!(book.next_at(now), None);
        assert!(book.is_busy(3) && book.is_busy(30) && !book.is_busy(40));
        book.ended(3);
        assert_eq!((book.is_busy(3), book.next_at(now), book.next()), (false, Some(now), Some(16)));
    }

    #[test]
    fn who_sleeps_wakes_in_time_or_is_roused() {
        let (mut book, now) = (Book::default(), Instant::now());
        book.sleep(1, now + SECOND, Then::LookAgain);
        book.sleep(2, now + SECOND, Then::Write(Interner::default().intern("one")));
        book.sleep(3, now + 60 * SECOND, Then::LookAgain);
        assert_eq!((book.woken(now, party), book.next()), (None, None));
        assert_eq!(book.next_at(now), Some(now + SECOND));
        book.rouse(Party::default(), 3);
        assert_eq!(book.next(), None, "nothing went wrong");
        let (again, trouble) = (now + 60 * SECOND, Some(Trouble::OtherSecret));
        book.set_failed(3, Failed { wanted: shown(), trouble, attempts: 1, again });
        book.rouse(Party::default(), 3);
        assert_eq!(book.next(), Some(3));
        assert_eq!((book.woken(now + SECOND, party), book.woken(now + SECOND, party)), (Some(1), None));
        assert_eq!((book.next(), book.next()), (Some(2), None));
        assert!([1, 2, 3].iter().all(|id| !book.is_busy(*id)) && book.next_at(now).is_none());
    }

    #[test]
    fn what_something_else_keeps_changing_is_put_back_later_and_later() {
        let (mut book, begun) = (Book::default(), Instant::now());
        let mut now = begun;
        assert_eq!(book.may_write_at(1, shown(), 0), None);
        let mut writes = 0;
        while now < begun + 3600 * SECOND {
            if book.may_write_at(1, shown(), 0).is_none_or(|at| at <= now) {
                book.wrote(1, shown(), now);
                writes += 1;
            }
            now += SECOND;
        }
        assert!((8..=16).contains(&writes), "{writes} in an hour");
        // What was left in peace for long enough is mended soon again.
        let later = now + 7200 * SECOND;
        book.wrote(1, shown(), later);
        assert!(book.may_write_at(1, shown(), 0).unwrap() <= later + 7 * SECOND);
        let other = Shown { owner: None, content: Hash::of("other", []) };
        assert_eq!(book.may_write_at(1, other, 0), None, "that is wanted now");
        book.remove(1);
        assert_eq!(book.may_write_at(1, shown(), 0), None);
    }

    #[test]
    fn what_was_written_long_ago_is_forgotten() {
        let (mut book, now) = (Book::default(), Instant::now());
        (0..1000).for_each(|id| book.wrote(id, shown(), now));
        (1000..1024).for_each(|id| book.wrote(id, shown(), now + 2 * LATELY));
        assert_eq!(book.written.len(), 24);
    }

    #[test]
    fn a_rollout_goes_at_its_pace() {
        let (mut book, mut names, now) = (Book::default(), Interner::default(), Instant::now());
        let (one, two) = (names.intern("one"), names.intern("two"));
        let places: Vec<_> = (0..3).map(|_| book.place_in_rollout(one, 60, now) - now).collect();
        assert_eq!(places, [Duration::ZERO, SECOND, 2 * SECOND]);
        assert_eq!(book.place_in_rollout(two, 60, now), now);
        assert_eq!(book.place_in_rollout(one, 60, now + 60 * SECOND), now + 60 * SECOND);
    }
}
