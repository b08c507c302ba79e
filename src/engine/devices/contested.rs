//! Back-off for Secrets that another controller keeps reverting.

use tokio::time::Instant;

use crate::controller::device::decide::{Contested, Grace};
use crate::schedule::contest::Contest;

/// Restores in a row that are made at once.
const AT_ONCE: u32 = 3;
/// From this many on the device's status says so.
const REPORTED: u32 = 6;

/// How often a device's Secret was restored in a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restores(Contest);

impl Restores {
    /// One more, after those `before`.
    pub(super) fn after(before: Option<Self>, now: Instant) -> Self {
        Self(Contest::after(before.map(|Self(contest)| contest), now))
    }

    pub(super) fn is_over(self, now: Instant) -> bool {
        self.0.is_over(now)
    }

    /// The device's status says that something keeps reverting its Secret.
    pub(super) fn is_reported(self) -> bool {
        self.0.times() >= REPORTED
    }

    /// When the Secret may be restored again.
    fn not_before(self, now: Instant) -> Instant {
        self.0.last() + Contest::wait(Some(self.0), AT_ONCE, now)
    }

    /// What a decision has to know while the Secret may not be restored.
    pub(super) fn contested(self, now: Instant) -> Option<Contested> {
        let until = self.not_before(now);
        let report = if self.is_reported() { Grace::Over } else { Grace::Running };
        (until > now).then_some(Contested { until, report })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_secret_is_restored_at_once_a_few_times_and_then_with_growing_waits() {
        let (mut restores, mut now, mut waits) = (None, Instant::now(), Vec::new());
        for _ in 0..16 {
            let once_more = Restores::after(restores, now);
            restores = Some(once_more);
            let next = once_more.not_before(now);
            waits.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(waits[..6], [0, 0, 1, 2, 4, 8]);
        assert_eq!(waits[15], 300);
    }

    #[test]
    fn a_secret_that_was_left_alone_for_long_is_restored_at_once_again() {
        let now = Instant::now();
        let often = (0..10).fold(None, |before, _| Some(Restores::after(before, now))).unwrap();
        assert!(often.not_before(now) > now);
        let later = now + Duration::from_secs(1200);
        assert!(often.is_over(later) && often.not_before(later) == now);
    }
}
