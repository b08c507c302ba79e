//! Back-off for Secrets that another controller keeps reverting.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Now;
use crate::controller::device::decide::{Contested, Grace};
use crate::controller::device::facts::later;
use crate::schedule::backoff::doubling;

/// Restores in a row that are made at once.
const AT_ONCE: u32 = 3;
/// From this many on the device's status says so.
const REPORTED: u32 = 6;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// After so long without a restore the next one is the first again.
const CALM: Duration = Duration::from_secs(1200);

/// How often a device's Secret was restored in a row, and when it was last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restores {
    times: u32,
    last: Instant,
}

impl Restores {
    /// One more, after those `before`.
    pub(super) fn after(before: Option<Self>, now: Instant) -> Self {
        let times = before.filter(|before| !before.is_over(now)).map_or(0, |before| before.times);
        Self { times: times.saturating_add(1), last: now }
    }

    pub(super) fn is_over(self, now: Instant) -> bool {
        self.last + CALM <= now
    }

    /// When the Secret may be restored again.
    fn not_before(self) -> Option<Instant> {
        let beyond = self.times.checked_sub(AT_ONCE)?;
        Some(self.last + doubling(FIRST_WAIT, beyond + 1, LONGEST_WAIT))
    }

    /// What a decision has to know while the Secret may not be restored.
    pub(super) fn contested(self, now: Now) -> Option<Contested> {
        if self.is_over(now.mono) {
            return None;
        }
        let wait = self.not_before()?.saturating_duration_since(now.mono);
        let report = if self.times >= REPORTED { Grace::Over } else { Grace::Running };
        (!wait.is_zero()).then(|| Contested { until: later(now.wall, wait), report })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_restored_at_once_a_few_times_and_then_with_growing_waits() {
        let (mut restores, mut now, mut waits) = (None, Instant::now(), Vec::new());
        for _ in 0..16 {
            let once_more = Restores::after(restores, now);
            restores = Some(once_more);
            let next = once_more.not_before().unwrap_or(now);
            waits.push((next - now).as_secs());
            now = next.max(now);
        }
        assert_eq!(waits[..6], [0, 0, 1, 2, 4, 8]);
        assert_eq!(waits[15], 600);
    }

    #[test]
    fn a_secret_that_was_left_alone_for_long_is_restored_at_once_again() {
        let now = Instant::now();
        let often = (0..10).fold(None, |before, _| Some(Restores::after(before, now)));
        assert_eq!(Restores::after(often, now + CALM).not_before(), None);
    }
}
