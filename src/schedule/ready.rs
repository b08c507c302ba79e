//! Which device is reconciled next, and when the others are due. Pure.

use std::collections::{BTreeSet, HashMap, VecDeque};

use tokio::time::Instant;

use super::Waiter;

/// Ready devices in the order in which they became ready, and the times at which others will be.
#[derive(Debug, Default)]
pub struct ReadyQueue {
    ready: VecDeque<Waiter>,
    /// Reconciled when nothing else is ready: what concerns a whole fleet at once.
    later: VecDeque<Waiter>,
    /// Which of the two lines a device stands in. Entries that disagree with this are left over and
    /// skipped.
    queued: HashMap<Waiter, Urgency>,
    due: BTreeSet<(Instant, Waiter)>,
    due_at: HashMap<Waiter, Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Urgency {
    Now,
    Later,
}

impl ReadyQueue {
    /// Has a device reconciled as soon as possible; once, however often it is woken.
    pub fn wake(&mut self, id: Waiter) {
        if self.queued.insert(id, Urgency::Now) != Some(Urgency::Now) {
            self.ready.push_back(id);
        }
    }

    /// Has a device reconciled when nothing more urgent is ready.
    pub fn wake_later(&mut self, id: Waiter) {
        self.queued.entry(id).or_insert_with(|| {
            self.later.push_back(id);
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

    /// The next device to reconcile. The time that was set for it is forgotten: the reconciliation sets
    /// another one.
    pub fn next(&mut self, now: Instant) -> Option<Waiter> {
        while let Some((at, id)) = self.due.first().copied()
            && at <= now
        {
            self.forget_due(id);
            self.wake(id);
        }
        let id = self.pop(Urgency::Now).or_else(|| self.pop(Urgency::Later))?;
        self.forget_due(id);
        Some(id)
    }

    fn pop(&mut self, urgency: Urgency) -> Option<Waiter> {
        let line = match urgency {
            Urgency::Now => &mut self.ready,
            Urgency::Later => &mut self.later,
        };
        while let Some(id) = line.pop_front() {
            if self.queued.get(&id) == Some(&urgency) {
                self.queued.remove(&id);
                return Some(id);
            }
        }
        None
    }

    /// True if the device is among those that are reconciled next.
    pub fn is_ready(&self, id: Waiter) -> bool {
        self.queued.contains_key(&id)
    }

    /// True while `next` has a device to give.
    pub fn has_ready(&self) -> bool {
        !self.queued.is_empty()
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

    #[test]
    fn a_device_that_is_woken_twice_is_reconciled_once() {
        let (mut runner, now) = (ReadyQueue::default(), Instant::now());
        runner.wake(1);
        runner.wake(2);
        runner.wake(1);
        assert_eq!([runner.next(now), runner.next(now), runner.next(now)], [Some(1), Some(2), None]);
    }

    #[test]
    fn a_reconciliation_replaces_the_time_that_was_set_before() {
        let (mut runner, now) = (ReadyQueue::default(), Instant::now());
        let later = now + Duration::from_secs(60);
        runner.sleep_until(1, later);
        runner.sleep_until(1, now);
        assert_eq!(runner.next(now), Some(1));
        assert_eq!((runner.next(later), runner.next_due()), (None, None));
        runner.sleep_until(1, later);
        runner.wake(1);
        assert_eq!(runner.next(now), Some(1));
        assert_eq!(runner.next(later), None);
    }

    #[test]
    fn a_later_time_does_not_put_off_an_earlier_one() {
        let (mut runner, now) = (ReadyQueue::default(), Instant::now());
        let second = Duration::from_secs(1);
        runner.sleep_until(1, now + second);
        runner.wake_by(1, now + second * 60);
        assert_eq!(runner.next_due(), Some(now + second));
        runner.wake_by(1, now);
        assert_eq!(runner.next(now), Some(1));
    }

    #[test]
    fn a_forgotten_device_is_not_reconciled() {
        let (mut runner, now) = (ReadyQueue::default(), Instant::now());
        runner.wake(1);
        runner.sleep_until(1, now);
        runner.forget(1);
        assert_eq!(runner.next(now), None);
    }

    #[test]
    fn what_concerns_a_fleet_waits_for_what_concerns_one_device() {
        let (mut runner, now) = (ReadyQueue::default(), Instant::now());
        runner.wake_later(1);
        runner.wake_later(2);
        runner.wake_later(1);
        runner.wake(3);
        runner.wake(2);
        assert_eq!([runner.next(now), runner.next(now)], [Some(3), Some(2)]);
        assert!(runner.has_ready());
        assert_eq!([runner.next(now), runner.next(now)], [Some(1), None]);
        assert!(!runner.has_ready());
    }
}
