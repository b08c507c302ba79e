//! Work that may concern a whole fleet at once, at a steady pace and the first of it at once.

use std::time::Duration;

use tokio::time::Instant;

/// Hands out times: a burst at once, then one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    interval: Duration,
    burst: u32,
    /// When the next one would go if there were no burst.
    next: Option<Instant>,
}

impl Pace {
    pub const fn new(interval: Duration, burst: u32) -> Self {
        Self { interval, burst, next: None }
    }

    /// When the next one may go.
    pub fn take(&mut self, now: Instant) -> Instant {
        let next = self.next.map_or(now, |next| next.max(now));
        self.next = Some(next + self.interval);
        let ahead = next.saturating_duration_since(now);
        now + ahead.saturating_sub(self.interval * self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_go_at_once_and_a_fleet_goes_one_after_the_other() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(second, 3);
        let waits: Vec<u64> = (0..6).map(|_| (pace.take(now) - now).as_secs()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 1, 2]);
        assert_eq!(pace.take(now + second * 60), now + second * 60);
    }
}
