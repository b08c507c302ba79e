//! A token bucket. Pure: time comes in as an argument.

use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) tokens: f64,
    burst: f64,
    per_second: f64,
    filled: Instant,
}

impl Bucket {
    /// Burst and rate add up to at most `per_minute` in every sliding 60 s.
    pub(super) fn new(per_minute: u32, burst: u32, now: Instant) -> Self {
        let burst = burst.clamp(1, per_minute.max(1));
        let rate = f64::from(per_minute.saturating_sub(burst).max(1)) / 60.0;
        Self { tokens: f64::from(burst), burst: f64::from(burst), per_second: rate, filled: now }
    }

    pub(super) fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.burst);
        self.filled = now;
    }

    pub(super) fn ready_at(&self) -> Instant {
        let missing = (1.0 - self.tokens).max(0.0);
        // A whole microsecond more, so that rounding never wakes us a moment too early.
        self.filled + Duration::from_secs_f64(missing / self.per_second) + Duration::from_micros(1)
    }

    pub(super) fn take(&mut self) {
        self.tokens -= 1.0;
    }

    pub(super) fn put_back(&mut self) {
        self.tokens = (self.tokens + 1.0).min(self.burst);
    }
}
