//! Token buckets. Time comes in as an argument.

use std::collections::VecDeque;
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
    /// Burst and rate add up to at most `per_minute` in every sliding 60 s, and `per_minute` are handed
    /// out in the long run if the burst is one: where that many tokens would be exceeded by a fraction
    /// only, no further call fits in.
    pub(super) fn new(per_minute: u32, burst: u32, now: Instant) -> Self {
        let most = per_minute.max(1);
        let burst = burst.clamp(1, most);
        let per_second = f64::from(most - burst + 1) / MINUTE;
        Self { tokens: f64::from(burst), burst: f64::from(burst), per_second, filled: now }
    }

    /// A bucket that hands out evenly: half a second's worth at once.
    pub(super) fn even(per_minute: u32, now: Instant) -> Self {
        Self::new(per_minute, per_minute / 120, now)
    }

    /// The same with no more in it than `tokens`.
    fn at_most(mut self, tokens: f64) -> Self {
        self.tokens = self.tokens.min(tokens);
        self
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

    /// True if it would be full at `now`.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens + elapsed * self.per_second >= self.burst
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
}

/// A limit that users may set, change and take away. None of that refills it.
#[derive(Debug, Default)]
pub(super) struct Limit {
    per_minute: Option<u32>,
    bucket: Option<Bucket>,
}

impl Limit {
    /// `begins`: nothing was called before, so that nothing has to be paid for.
    pub(super) fn set(&mut self, per_minute: Option<u32>, begins: bool, now: Instant) {
        if self.per_minute == per_minute {
            return;
        }
        self.per_minute = per_minute;
        let left = if begins {
            f64::INFINITY
        } else {
            self.bucket.take().map_or(0.0, |mut bucket| {
                bucket.refill(now, 1.0);
                bucket.tokens
            })
        };
        self.bucket = per_minute.map(|per_minute| Bucket::even(per_minute, now).at_most(left));
    }

    pub(super) fn bucket(&self) -> Option<&Bucket> {
        self.bucket.as_ref()
    }

    pub(super) fn bucket_mut(&mut self) -> Option<&mut Bucket> {
        self.bucket.as_mut()
    }
}

/// A few calls: some at once, the others one after the other, and so many in every sliding minute.
#[derive(Debug)]
pub(super) struct Allowance {
    bucket: Bucket,
    per_minute: usize,
    /// When the last `per_minute` calls were made.
    made: VecDeque<Instant>,
}

impl Allowance {
    pub(super) fn new(per_minute: u32, burst: u32, now: Instant) -> Self {
        let bucket =
            Bucket { per_second: f64::from(per_minute) / 60.0, ..Bucket::new(per_minute, burst, now) };
        Self { bucket, per_minute: per_minute as usize, made: VecDeque::new() }
    }

    pub(super) fn has_one(&mut self, now: Instant) -> bool {
        self.bucket.refill(now, 1.0);
        self.bucket.has_one() && self.window_opens_at().is_none_or(|at| at <= now)
    }

    /// When the oldest of the calls that fill the minute is a minute old.
    fn window_opens_at(&self) -> Option<Instant> {
        let oldest = self.made.front().filter(|_| self.made.len() >= self.per_minute)?;
        Some(*oldest + Duration::from_secs_f64(MINUTE))
    }

    pub(super) fn ready_at(&self) -> Instant {
        let bucket = self.bucket.ready_at(1.0);
        self.window_opens_at().map_or(bucket, |at| bucket.max(at))
    }

    pub(super) fn take(&mut self, now: Instant) {
        self.bucket.take();
        self.made.push_back(now);
        if self.made.len() > self.per_minute {
            self.made.pop_front();
        }
    }

    pub(super) fn put_back(&mut self) {
        self.bucket.put_back();
        self.made.pop_back();
    }

    /// True if a new one would be as this one is at `now`.
    pub(super) fn is_untouched(&self, now: Instant) -> bool {
        let over = |at: &Instant| *at + Duration::from_secs_f64(MINUTE) <= now;
        self.bucket.is_full(now) && self.made.iter().all(over)
    }
}
