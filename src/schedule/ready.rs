//! Which device is reconciled next, and when the others are due. Pure.

use std::collections::{BTreeSet, HashMap};

use tokio::time::Instant;

use super::room::Room;
use super::turns::{Party, Turns};
use super::{Share, Waiter};

/// After so many that are gone on with one is begun: a fleet of which DPS has answered faster than the API
/// server takes it does not keep all others waiting.
const BEGUN_IN_A_ROW: u32 = 4;
/// After so many urgent devices one of the others has its turn: who always has something urgent does not
/// keep all others' fleets waiting.
const URGENT_IN_A_ROW: u32 = 4;

/// Ready devices, and the times at which others will be. The devices of each party are reconciled in
/// the order in which they became ready, and the parties take turns.
#[derive(Debug, Default)]
pub struct ReadyQueue {
    /// A request of theirs has ended, and they are gone on with first: what is begun and not ended stays
    /// little.
    begun: Turns,
    /// DPS has answered for them.
    answered: Turns,
    /// Woken, and not yet in their party's line.
    woken: Vec<(Waiter, Urgency)>,
    urgent: Turns,
    /// What concerns a whole fleet at once.
    later: Turns,
    /// Which of the lines a device stands in. Entries that disagree with this are left over and
    /// skipped.
    queued: HashMap<Waiter, Urgency>,
    begun_in_a_row: u32,
    urgent_in_a_row: u32,
    /// There was none in the lines for whom there was room when it was of this version.
    stuck_at: Option<u64>,
    due: BTreeSet<(Instant, Waiter)>,
    due_at: HashMap<Waiter, Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Urgency {
    Begun,
    Answered,
    Now,
    Later,
}

impl ReadyQueue {
    /// Has a device reconciled as soon as possible; once, however often it is woken.
    pub fn wake(&mut self, id: Waiter) {
        match self.queued.get(&id) {
            Some(Urgency::Begun | Urgency::Answered | Urgency::Now) => {}
            Some(Urgency::Later) | None => {
                self.queued.insert(id, Urgency::Now);
                self.woken.push((id, Urgency::Now));
            }
        }
    }

    /// Has a device reconciled before all others: a request that was begun for it has ended.
    pub fn go_on(&mut self, id: Waiter) {
        if self.queued.insert(id, Urgency::Begun) != Some(Urgency::Begun) {
            self.woken.push((id, Urgency::Begun));
        }
    }

    /// Has a device reconciled before those for which nothing is begun: DPS has answered.
    pub fn take_answer(&mut self, id: Waiter) {
        if !matches!(self.queued.get(&id), Some(Urgency::Begun | Urgency::Answered)) {
            self.queued.insert(id, Urgency::Answered);
            self.woken.push((id, Urgency::Answered));
        }
    }

    /// Has a device reconciled after what is more urgent.
    pub fn wake_later(&mut self, id: Waiter) {
        self.queued.entry(id).or_insert_with(|| {
            self.woken.push((id, Urgency::Later));
            Urgency::Later
        });
    }

    /// Has a device reconciled at `at`, instead of at any time set before.
    pub fn sleep_until(&mut self, id: Waiter, at: Instant) {
        self.forget_due(id);
        self.due.insert((at, id));
        self.due_at.insert(id, at);
    }

    /// Has a device reconciled at `at`, or earlier if that was set before.
    pub fn wake_by(&mut self, id: Waiter, at: Instant) {
        if self.due_at.get(&id).is_none_or(|due| *due > at) {
            self.sleep_until(id, at);
        }
    }

    /// Drops everything about a device.
    pub fn forget(&mut self, id: Waiter) {
        self.forget_due(id);
        self.queued.remove(&id);
    }

    /// The next device to reconcile for which there is room; `party`: whose it is. The time that was set
    /// for it is forgotten: the reconciliation sets another one.
    pub fn next(
        &mut self,
        now: Instant,
        room: &impl Room,
        party: impl Fn(Waiter) -> Party,
    ) -> Option<Waiter> {
        while let Some((at, id)) = self.due.first().copied()
            && at <= now
        {
            self.forget_due(id);
            self.wake(id);
        }
        // Its room is used again: this is done for each device.
        let mut woken = std::mem::take(&mut self.woken);
        woken.drain(..).for_each(|(id, urgency)| self.line(urgency).push(party(id), id));
        self.woken = woken;
        let next = self.pop(room);
        self.stuck_at = if next.is_none() { Some(room.version()) } else { None };
        self.forget_due(next?);
        next
    }

    fn pop(&mut self, room: &impl Room) -> Option<Waiter> {
        if room.is_over() {
            return None;
        }
        let begun = &[Urgency::Begun, Urgency::Answered][..];
        let others = if self.urgent_in_a_row < URGENT_IN_A_ROW {
            &[Urgency::Now, Urgency::Later][..]
        } else {
            &[Urgency::Later, Urgency::Now][..]
        };
        let (first, then) =
            if self.begun_in_a_row < BEGUN_IN_A_ROW { (begun, others) } else { (others, begun) };
        first.iter().chain(then).find_map(|urgency| self.pop_from(*urgency, room))
    }

    fn line(&mut self, urgency: Urgency) -> &mut Turns {
        match urgency {
            Urgency::Begun => &mut self.begun,
            Urgency::Answered => &mut self.answered,
            Urgency::Now => &mut self.urgent,
            Urgency::Later => &mut self.later,
        }
    }

    fn pop_from(&mut self, urgency: Urgency, room: &impl Room) -> Option<Waiter> {
        let share = if urgency == Urgency::Later { Share::Fleet } else { Share::Device };
        loop {
            let id = self.line(urgency).pop(|namespace| room.admits(share, namespace))?;
            if self.queued.get(&id) == Some(&urgency) {
                self.queued.remove(&id);
                match urgency {
                    Urgency::Begun | Urgency::Answered => {
                        self.begun_in_a_row = self.begun_in_a_row.saturating_add(1);
                    }
                    Urgency::Now => {
                        self.begun_in_a_row = 0;
                        self.urgent_in_a_row = self.urgent_in_a_row.saturating_add(1);
                    }
                    Urgency::Later => (self.begun_in_a_row, self.urgent_in_a_row) = (0, 0),
                }
                return Some(id);
            }
        }
    }

    /// True if the device is among those that are reconciled next.
    pub fn is_ready(&self, id: Waiter) -> bool {
        self.queued.contains_key(&id)
    }

    /// True while `next` has a device to give, as soon as there is room.
    pub fn has_ready(&self) -> bool {
        !self.queued.is_empty()
    }

    /// True if `next` may have a device to give with this room.
    pub fn has_ready_for(&self, room: &impl Room) -> bool {
        self.has_ready() && (!self.woken.is_empty() || self.stuck_at != Some(room.version()))
    }

    /// When the next device is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    fn forget_due(&mut self, id: Waiter) {
        if let Some(at) = self.due_at.remove(&id) {
            self.due.remove(&(at, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::schedule::room::Everywhere;

    impl ReadyQueue {
        /// The next one, all being of one party.
        fn any(&mut self, now: Instant) -> Option<Waiter> {
            self.next(now, &Everywhere, |_| Party::default())
        }
    }

    /// Ten devices each.
    fn party(id: Waiter) -> Party {
        Party { namespace: 0, integration: id / 10 }
    }

    #[test]
    fn a_device_that_is_woken_twice_is_reconciled_once() {
        let (mut queue, now) = (ReadyQueue::default(), Instant::now());
        queue.wake(1);
        queue.wake(2);
        queue.wake(1);
        assert_eq!([queue.any(now), queue.any(now), queue.any(now)], [Some(1), Some(2), None]);
    }

    #[test]
    fn a_reconciliation_replaces_the_time_that_was_set_before() {
        let (mut queue, now) = (ReadyQueue::default(), Instant::now());
        let later = now + Duration::from_secs(60);
        queue.sleep_until(1, later);
        queue.sleep_until(1, now);
        assert_eq!(queue.any(now), Some(1));
        assert_eq!((queue.any(later), queue.next_due()), (None, None));
        queue.sleep_until(1, later);
        queue.wake(1);
        assert_eq!(queue.any(now), Some(1));
        assert_eq!(queue.any(later), None);
    }

    #[test]
    fn a_later_time_does_not_put_off_an_earlier_one() {
        let (mut queue, now) = (ReadyQueue::default(), Instant::now());
        let second = Duration::from_secs(1);
        queue.sleep_until(1, now + second);
        queue.wake_by(1, now + second * 60);
        assert_eq!(queue.next_due(), Some(now + second));
        queue.wake_by(1, now);
        assert_eq!(queue.any(now), Some(1));
    }

    #[test]
    fn a_forgotten_device_is_not_reconciled() {
        let (mut queue, now) = (ReadyQueue::default(), Instant::now());
        queue.wake(1);
        queue.sleep_until(1, now);
        queue.forget(1);
        assert_eq!(queue.any(now), None);
    }

    #[test]
    fn what_concerns_a_fleet_waits_for_what_concerns_one_device() {
        let (mut queue, now) = (ReadyQueue::default(), Instant::now());
        queue.wake_later(1);
        queue.wake_later(2);
        queue.wake_later(1);
        queue.wake(3);
        queue.wake(2);
        assert_eq!([queue.any(now), queue.any(now)], [Some(3), Some(2)]);
        assert!(queue.has_ready());
        assert_eq!([queue.any(now), queue.any(now)], [Some(1), None]);
        assert!(!queue.has_ready());
    }

    #[test]
    fn what_was_begun_is_gone_on_with_before_anything_else_is_begun() {
        let (mut queue, now) = (ReadyQueue::default(), Instant::now());
        (0..3).for_each(|id| queue.wake(id));
        assert_eq!(queue.any(now), Some(0));
        queue.go_on(0);
        queue.wake(0);
        assert_eq!([queue.any(now), queue.any(now)], [Some(0), Some(1)]);
        queue.go_on(2);
        assert_eq!([queue.any(now), queue.any(now)], [Some(2), None], "once");
    }

    #[test]
    fn what_dps_has_answered_waits_for_what_a_request_has_ended_for() {
        let (mut queue, now) = (ReadyQueue::default(), Instant::now());
        queue.wake(0);
        (1..3).for_each(|id| queue.take_answer(id));
        queue.go_on(3);
        queue.take_answer(3);
        queue.wake(2);
        let order: Vec<_> = (0..5).filter_map(|_| queue.any(now)).collect();
        assert_eq!(order, [3, 1, 2, 0], "each once");
    }

    #[test]
    fn a_party_of_which_much_is_begun_keeps_no_other_waiting() {
        let (mut queue, now) = (ReadyQueue::default(), Instant::now());
        (0..10).for_each(|id| queue.go_on(id));
        queue.wake(20);
        queue.wake_later(30);
        let mut next = || queue.next(now, &Everywhere, party);
        let order: Vec<_> = (0..7).filter_map(|_| next()).collect();
        assert_eq!(order, [0, 1, 2, 3, 20, 4, 5]);
        queue.go_on(20);
        let mut next = || queue.next(now, &Everywhere, party);
        let order: Vec<_> = (0..4).filter_map(|_| next()).collect();
        assert_eq!(order, [6, 20, 30, 7], "each party in its turn");
    }

    #[test]
    fn a_party_with_many_devices_keeps_no_other_waiting() {
        let (mut queue, now) = (ReadyQueue::default(), Instant::now());
        (0..10).for_each(|id| queue.wake(id));
        queue.wake(20);
        let first: Vec<_> = (0..3).filter_map(|_| queue.next(now, &Everywhere, party)).collect();
        assert_eq!(first, [0, 20, 1]);
    }

    #[test]
    fn a_party_that_always_has_something_urgent_does_not_stop_the_fleets_of_others() {
        let (mut queue, now) = (ReadyQueue::default(), Instant::now());
        (0..10).for_each(|id| queue.wake(id));
        (20..30).for_each(|id| queue.wake_later(id));
        let order: Vec<_> = (0..10).filter_map(|_| queue.next(now, &Everywhere, party)).collect();
        assert_eq!(order, [0, 1, 2, 3, 20, 4, 5, 6, 7, 21]);
    }

    /// Room for single devices, and for these namespaces.
    struct Only(&'static [u32], u64);

    impl Room for Only {
        fn is_over(&self) -> bool {
            self.0.is_empty()
        }

        fn admits(&self, share: Share, namespace: u32) -> bool {
            share == Share::Device && self.0.contains(&namespace)
        }

        fn version(&self) -> u64 {
            self.1
        }
    }

    #[test]
    fn without_room_nothing_is_given_and_nothing_is_lost() {
        let (mut queue, now) = (ReadyQueue::default(), Instant::now());
        queue.wake_later(1);
        queue.wake(2);
        let (none, urgent) = (Only(&[], 0), Only(&[0], 1));
        assert_eq!(queue.next(now, &none, party), None);
        assert!(!queue.has_ready_for(&none), "it would be asked for ever");
        assert!(queue.has_ready_for(&urgent));
        assert_eq!([queue.next(now, &urgent, party), queue.next(now, &urgent, party)], [Some(2), None]);
        assert!(!queue.has_ready_for(&urgent));
        queue.wake(3);
        assert!(queue.has_ready_for(&urgent));
        assert_eq!(queue.next(now, &Everywhere, party), Some(3));
        assert_eq!(queue.next(now, &Everywhere, party), Some(1));
        assert!(!queue.has_ready_for(&Everywhere));
    }

    #[test]
    fn a_namespace_without_room_holds_up_no_other() {
        let (mut queue, now) = (ReadyQueue::default(), Instant::now());
        let by_namespace = |id: Waiter| Party { namespace: id / 10, integration: 1 };
        (0..20).for_each(|id| queue.wake(id));
        queue.go_on(5);
        let room = Only(&[1], 0);
        let given: Vec<_> = std::iter::from_fn(|| queue.next(now, &room, by_namespace)).collect();
        assert_eq!(given, (10..20).collect::<Vec<_>>());
        assert!(queue.has_ready() && !queue.has_ready_for(&room));
        assert!(queue.has_ready_for(&Only(&[0], 1)));
        assert_eq!(queue.next(now, &Only(&[0], 1), by_namespace), Some(5));
    }
}
