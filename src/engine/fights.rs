//! Somebody else who keeps changing a Secret back is not fought at full speed.

use std::time::Duration;

use tokio::time::Instant;

use super::Engine;
use crate::clock::Now;
use crate::controller::device::decide::Fought;
use crate::controller::device::facts::later;
use crate::fleet::DeviceId;
use crate::schedule::backoff::doubling;

/// So many times a Secret is restored at once.
const AT_ONCE: u32 = 3;
/// From this many times on the device's status speaks of it.
const TOLD: u32 = 6;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// After so long without another change the fight is over.
const PEACE: Duration = Duration::from_secs(1200);

/// How often a device's Secret was restored in a row, and when it was last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fight {
    times: u32,
    last: Option<Instant>,
}

impl Fight {
    pub(super) fn restored(&mut self, now: Instant) {
        if self.is_over(now) {
            self.times = 0;
        }
        self.times = self.times.saturating_add(1);
        self.last = Some(now);
    }

    fn is_over(self, now: Instant) -> bool {
        self.last.is_none_or(|last| last + PEACE <= now)
    }

    /// When the Secret may be restored again.
    fn not_before(self) -> Option<Instant> {
        let beyond = self.times.checked_sub(AT_ONCE)?;
        let wait = doubling(FIRST_WAIT, beyond + 1, LONGEST_WAIT);
        self.last.map(|last| last + wait)
    }
}

impl Engine {
    pub(super) fn fought_until(&self, id: DeviceId, now: Now) -> Option<Fought> {
        let fight = self.fights.get(&id).filter(|fight| !fight.is_over(now.mono))?;
        let wait = fight.not_before()?.saturating_duration_since(now.mono);
        (!wait.is_zero()).then(|| Fought { until: later(now.wall, wait), told: fight.times >= TOLD })
    }

    /// Forgets fights that are over.
    pub(super) fn make_peace(&mut self, now: Instant) {
        self.fights.retain(|_, fight| !fight.is_over(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_restored_at_once_a_few_times_and_then_with_growing_waits() {
        let start = Instant::now();
        let (mut fight, mut now, mut waits) = (Fight::default(), start, Vec::new());
        for _ in 0..16 {
            fight.restored(now);
            let next = fight.not_before().unwrap_or(now);
            waits.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(waits[..6], [0, 0, 1, 2, 4, 8]);
        assert_eq!(waits[15], 600);
    }

    #[test]
    fn a_secret_that_was_left_alone_for_long_is_restored_at_once_again() {
        let now = Instant::now();
        let mut fight = Fight::default();
        (0..10).for_each(|_| fight.restored(now));
        fight.restored(now + PEACE);
        assert_eq!(fight.not_before(), None);
    }
}
