//! Work that may concern many devices at once, at a steady pace and the first of it at once. Parties take
//! turns.

use std::time::Duration;

use tokio::time::Instant;

use super::Waiter;
use super::turns::{Party, Turns};

/// A burst at once, then one after the other.
#[derive(Debug)]
pub struct Paced {
    interval: Duration,
    burst: u32,
    /// When the next one would go if there were no burst.
    next: Option<Instant>,
    waiting: Turns,
}

impl Paced {
    pub fn new(interval: Duration, burst: u32) -> Self {
        Self { interval, burst, next: None, waiting: Turns::default() }
    }

    /// Adds a device to its party's line.
    pub fn push(&mut self, party: Party, id: Waiter, now: Instant) {
        if self.waiting.is_empty() {
            // What was not used while nothing waited is gone.
            self.next = Some(self.next.map_or(now, |next| next.max(now)));
        }
        self.waiting.push(party, id);
    }

    /// The next device that may go now. One that is no longer `wanted` is dropped and costs nothing.
    pub fn next(&mut self, now: Instant, wanted: impl Fn(Waiter) -> bool) -> Option<Waiter> {
        while self.next_at(now).is_some_and(|at| at <= now) {
            let id = self.waiting.pop(|_| true)?;
            if wanted(id) {
                self.next = self.next.map(|next| next + self.interval);
                return Some(id);
            }
        }
        None
    }

    /// When `next` has something to give; `None` while nothing waits.
    pub fn next_at(&self, now: Instant) -> Option<Instant> {
        let ahead = self.next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now));
        let wait = ahead.saturating_sub(self.interval * self.burst);
        (!self.waiting.is_empty()).then_some(now + wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn party(integration: u32) -> Party {
        Party { namespace: 1, integration }
    }

    #[test]
    fn a_few_go_at_once_and_a_fleet_goes_one_after_the_other() {
        let now = Instant::now();
        let mut paced = Paced::new(SECOND, 3);
        (0..6).for_each(|id| paced.push(party(1), id, now));
        assert_eq!(std::iter::from_fn(|| paced.next(now, |_| true)).count(), 4);
        assert_eq!(paced.next_at(now), Some(now + SECOND));
        assert_eq!(paced.next(now + SECOND, |_| true), Some(4));
        assert_eq!(paced.next(now + SECOND, |_| true), None);
        assert_eq!(paced.next(now + 2 * SECOND, |_| true), Some(5));
        assert_eq!(paced.next_at(now + 2 * SECOND), None);
    }

    #[test]
    fn one_party_keeps_no_other_waiting() {
        let now = Instant::now();
        let mut paced = Paced::new(SECOND, 0);
        (0..1000).for_each(|id| paced.push(party(1), id, now));
        paced.push(party(2), 2000, now);
        let first: Vec<_> = (0..3).filter_map(|after| paced.next(now + after * SECOND, |_| true)).collect();
        assert_eq!(first, [0, 2000, 1]);
    }

    #[test]
    fn who_comes_late_catches_up_and_saves_nothing_while_nothing_waits() {
        let now = Instant::now();
        let mut paced = Paced::new(SECOND, 0);
        (0..10).for_each(|id| paced.push(party(1), id, now));
        assert_eq!(std::iter::from_fn(|| paced.next(now + 4 * SECOND, |_| true)).count(), 5);
        assert_eq!(std::iter::from_fn(|| paced.next(now + 60 * SECOND, |_| true)).count(), 5);
        let later = now + 600 * SECOND;
        (0..10).for_each(|id| paced.push(party(1), id, later));
        assert_eq!(std::iter::from_fn(|| paced.next(later, |_| true)).count(), 1);
    }

    #[test]
    fn what_is_no_longer_wanted_takes_no_time() {
        let now = Instant::now();
        let mut paced = Paced::new(SECOND, 0);
        (0..1000).for_each(|id| paced.push(party(1), id, now));
        assert_eq!(paced.next(now, |id| id == 999), Some(999));
        assert_eq!(paced.next_at(now), None);
    }
}
