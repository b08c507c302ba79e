//! When the fleet was last searched for what has fallen due.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Now;

/// Time between two checks of what is due.
const TICK: Duration = Duration::from_secs(10);

/// Due times are not stored: they follow from the device's uid, the same after a restart.
#[derive(Debug, Default)]
pub(in crate::engine) struct Ticks {
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
        let until = now.wall.as_second();
        let after = self.last.replace(until).unwrap_or(until);
        Some(Elapsed { after, until })
    }
}
