//! The only place that reads the clock; all other code gets the time as an argument.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// A point in time: steady for rates and waits, and by the wall clock for token expiry and the
/// timestamps in answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Time since the simulator was started; never goes back.
    pub steady: Duration,
    /// UTC, as DPS has it.
    pub wall: Timestamp,
}

#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    /// How far DPS's clock is ahead of the machine's, in seconds.
    ahead: AtomicI64,
}

impl Clock {
    pub fn start() -> Self {
        Self { start: Instant::now(), ahead: AtomicI64::new(0) }
    }

    pub fn now(&self) -> Moment {
        let now = Timestamp::now();
        let wall = now.checked_add(SignedDuration::from_secs(self.ahead())).unwrap_or(now);
        Moment { steady: self.start.elapsed(), wall }
    }

    pub fn ahead(&self) -> i64 {
        self.ahead.load(Ordering::Relaxed)
    }

    pub fn set_ahead(&self, seconds: i64) {
        self.ahead.store(seconds, Ordering::Relaxed);
    }
}
