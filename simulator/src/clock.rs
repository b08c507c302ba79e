//! The only place that reads the clock; all other code gets the time as an argument.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// A point in time: steady for rates and waits, and by the wall clock for token expiry and the
/// timestamps in answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Time since the simulator was started; never goes back.
    pub steady: Duration,
    /// UTC.
    pub wall: Timestamp,
}

#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub fn now(&self) -> Moment {
        Moment { steady: self.start.elapsed(), wall: Timestamp::now() }
    }
}
