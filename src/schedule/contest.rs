//! Somebody else changes what we have written: it is written again with growing waits, so that two
//! writers that disagree never write in a loop. Statuses and Secrets are written under the same rule.

use std::time::Duration;

use tokio::time::Instant;

use crate::api::backoff::doubling;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// After so long without one the next one is the first again. More than twice the longest wait: of two
/// writers each waits for the other.
const CALM: Duration = Duration::from_secs(1200);

/// How often in a row we have written over what somebody else had made of it, and when we did last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contest {
    times: u32,
    last: Instant,
}

impl Contest {
    /// Once more, after those `before`.
    pub fn after(before: Option<Self>, now: Instant) -> Self {
        let times = before.filter(|before| !before.is_over(now)).map_or(0, |before| before.times);
        Self { times: times.saturating_add(1), last: now }
    }

    pub fn is_over(self, now: Instant) -> bool {
        self.last + CALM <= now
    }

    pub fn times(self) -> u32 {
        self.times
    }

    /// When we wrote last.
    pub fn last(self) -> Instant {
        self.last
    }

    /// How long the next one has to wait. The first `at_once` need not.
    pub fn wait(before: Option<Self>, at_once: u32, now: Instant) -> Duration {
        let times = before.filter(|before| !before.is_over(now)).map_or(0, |before| before.times);
        match times.checked_sub(at_once) {
            Some(beyond) => doubling(FIRST_WAIT, beyond + 1, LONGEST_WAIT),
            None => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds waited before each write when each was changed again at once.
    fn waits(at_once: u32, rounds: usize) -> Vec<u64> {
        let (mut contest, mut now) = (None, Instant::now());
        let mut round = || {
            let wait = Contest::wait(contest, at_once, now);
            now += wait;
            contest = Some(Contest::after(contest, now));
            wait.as_secs()
        };
        (0..rounds).map(|_| round()).collect()
    }

    #[test]
    fn waits_double_from_a_second_to_five_minutes() {
        assert_eq!(waits(0, 11), [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(waits(3, 7), [0, 0, 0, 1, 2, 4, 8]);
    }

    #[test]
    fn a_row_outlasts_two_of_the_longest_waits_and_ends_when_it_was_calm_for_long() {
        let start = Instant::now();
        let contest = (0..20).fold(None, |before, _| Some(Contest::after(before, start)));
        let wait_after = |time| Contest::wait(contest, 0, start + time);
        assert_eq!(wait_after(LONGEST_WAIT * 3), LONGEST_WAIT, "the other one waits as long");
        assert_eq!(wait_after(CALM), FIRST_WAIT);
        assert_eq!(Contest::after(contest, start + CALM).times(), 1);
    }
}
