//! When the fleet was last searched for what has fallen due.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Now;

/// Time between two checks of what is due.
const TICK: Duration = Duration::from_secs(10);

/// Due times are not stored: they follow from the device's uid, the same after a restart.
#[derive(Debug, Default)]
pub(in crate::engine) struct Ticks {
    /// When the first one was. The others go by the monotonic clock: a wall clock that is set makes
    /// nothing due, and nothing wait.
    first: Option<Now>,
    /// In seconds since 1970.
    last: Option<i64>,
    next: Option<Instant>,
}

/// A stretch of time, without its beginning and with its end, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Elapsed {
    pub after: i64,
    pub until: i64,
}

impl Ticks {
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// The time since the last tick, if another one is due. What fell due while nothing ran is due
    /// again in an interval.
    pub fn tick(&mut self, now: Now) -> Option<Elapsed> {
        if self.next.is_some_and(|at| at > now.mono) {
            return None;
        }
        self.next = Some(now.mono + TICK);
        let first = *self.first.get_or_insert(now);
        let passed = now.mono.saturating_duration_since(first.mono).as_secs();
        let until = first.wall.as_second().saturating_add_unsigned(passed);
        let after = self.last.replace(until).unwrap_or(until);
        Some(Elapsed { after, until })
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::*;

    #[test]
    fn a_wall_clock_that_is_set_makes_nothing_due_and_nothing_wait() {
        let begun = Now { wall: Timestamp::from_second(1_000_000).unwrap(), mono: Instant::now() };
        let mut ticks = Ticks::default();
        assert_eq!(ticks.tick(begun), Some(Elapsed { after: 1_000_000, until: 1_000_000 }));
        for (number, jump) in (1..).zip([0, 86_400, -7200, 0]) {
            let mono = begun.mono + TICK * number;
            let wall = begun.wall + SignedDuration::from_secs(10 * i64::from(number) + jump);
            let until = 1_000_000 + 10 * i64::from(number);
            assert_eq!(ticks.tick(Now { wall, mono }), Some(Elapsed { after: until - 10, until }), "{jump}");
            assert_eq!(ticks.tick(Now { wall, mono }), None);
        }
    }
}
