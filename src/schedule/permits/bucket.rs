//! A token bucket. Time comes in as an argument.

use std::time::Duration;

use tokio::time::Instant;

/// A minute and what the network may add to it: calls that leave evenly do not arrive evenly.
const MINUTE: f64 = 61.0;

#[derive(Debug)]
pub(super) struct Bucket {
    tokens: f64,
    burst: f64,
    per_second: f64,
    filled: Instant,
}

impl Bucket {
    /// Burst and rate add up to at most `per_minute` in every sliding 60 s.
    pub(super) fn new(per_minute: u32, burst: u32, now: Instant) -> Self {
        let burst = burst.clamp(1, per_minute.max(1));
        let rate = f64::from(per_minute.saturating_sub(burst).max(1)) / MINUTE;
        Self { tokens: f64::from(burst), burst: f64::from(burst), per_second: rate, filled: now }
    }

    /// A bucket that hands out evenly: half a second's worth at once.
    pub(super) fn even(per_minute: u32, now: Instant) -> Self {
        Self::new(per_minute, per_minute / 120, now)
    }

    /// Fills up to `now` at the given share of the rate; returns the time that has passed.
    pub(super) fn refill(&mut self, now: Instant, speed: f64) -> Duration {
        let elapsed = now.saturating_duration_since(self.filled);
        self.tokens = (self.tokens + elapsed.as_secs_f64() * self.per_second * speed).min(self.burst);
        self.filled = self.filled.max(now);
        elapsed
    }

    pub(super) fn has_one(&self) -> bool {
        self.tokens >= 1.0
    }

    pub(super) fn ready_at(&self, speed: f64) -> Instant {
        let missing = (1.0 - self.tokens).max(0.0);
        // A whole microsecond more, so that rounding never wakes us a moment too early.
        self.filled + Duration::from_secs_f64(missing / (self.per_second * speed)) + Duration::from_micros(1)
    }

    pub(super) fn take(&mut self) {
        self.tokens -= 1.0;
    }

    pub(super) fn put_back(&mut self) {
        self.tokens = (self.tokens + 1.0).min(self.burst);
    }

    /// One call is possible at once, however many came before.
    pub(super) fn at_least_one(&mut self) {
        self.tokens = self.tokens.max(1.0);
    }
}
