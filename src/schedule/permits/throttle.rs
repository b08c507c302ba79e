//! What DPS says about the rate of an id scope: AIMD, pauses, and the one call after a pause.

use std::time::Duration;

use tokio::time::Instant;

use super::Permit;
use crate::api::backoff::doubling;

/// The slowest that throttling makes us: a sixteenth of the rate.
const SLOWEST: f64 = 1.0 / 16.0;
/// From a standstill to the full rate. Half the rate is regained in half of this.
const RECOVERY: Duration = Duration::from_secs(600);
/// Wait after a 429 that does not say how long.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
const PAUSE_CAP: Duration = Duration::from_secs(600);
/// The shortest wait after one that says less: DPS may ask for none, or name a time that is past.
const SHORTEST_FIRST: Duration = Duration::from_secs(1);
const SHORTEST_CAP: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Throttle {
    /// Share of the rate that is used: halved when DPS throttles, regained slowly.
    speed: f64,
    paused_until: Option<Instant>,
    /// 429 answers in a row.
    in_a_row: u32,
    /// When `speed` was last halved: what was granted before says nothing new.
    slowed_at: Option<Instant>,
    /// Number of the permit for the first call after a pause; no other is given before DPS has taken it.
    probe: Option<u64>,
}

impl Throttle {
    pub(super) fn new() -> Self {
        Self { speed: 1.0, paused_until: None, in_a_row: 0, slowed_at: None, probe: None }
    }

    pub(super) fn speed(&self) -> f64 {
        self.speed
    }

    /// No call may be made: DPS has asked to wait, or one call finds out whether it is over.
    pub(super) fn is_closed(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| until > now) || self.probe.is_some()
    }

    pub(super) fn is_probed(&self) -> bool {
        self.probe.is_some()
    }

    /// The next call that the scope's rate pays for finds out whether a pause is over.
    pub(super) fn awaits_probe(&self) -> bool {
        self.paused_until.is_some()
    }

    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// True if nothing is remembered.
    pub(super) fn is_idle(&self) -> bool {
        self.speed >= 1.0 && self.paused_until.is_none() && self.probe.is_none()
    }

    /// True if all that is remembered is so long ago that the full rate would be used again.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let last = self.slowed_at.max(self.paused_until);
        self.probe.is_none() && last.is_none_or(|last| last + RECOVERY <= now)
    }

    /// Time in which calls could be made has passed.
    pub(super) fn regain(&mut self, elapsed: Duration) {
        self.speed = (self.speed + elapsed.as_secs_f64() / RECOVERY.as_secs_f64()).min(1.0);
    }

    /// The permit of this number is the first after a pause.
    pub(super) fn begin_probe(&mut self, number: u64) {
        self.paused_until = None;
        self.probe = Some(number);
    }

    pub(super) fn is_probe(&self, permit: &Permit) -> bool {
        self.probe == Some(permit.number)
    }

    /// DPS has answered the call.
    pub(super) fn answered(&mut self, permit: &Permit) {
        if self.is_probe(permit) {
            self.probe = None;
        }
    }

    /// The call was not made, or DPS has not answered it: if it was to show whether the pause is over,
    /// the next one will.
    pub(super) fn unanswered(&mut self, permit: &Permit) {
        if self.is_probe(permit) {
            self.probe = None;
            self.paused_until = Some(permit.granted);
        }
    }

    /// Share of the rate that is used: none in a pause, nor while one call finds out whether it is over.
    pub(super) fn share(&self, now: Instant) -> f64 {
        if self.is_closed(now) { 0.0 } else { self.speed }
    }

    pub(super) fn throttled(&mut self, permit: &Permit, retry_after: Option<Duration>, now: Instant) {
        if self.slowed_at.is_none_or(|at| permit.granted > at) {
            self.slow_down(now);
        }
        self.pause(now + pause(retry_after, self.in_a_row));
    }

    pub(super) fn not_throttled(&mut self, permit: &Permit) {
        if self.slowed_at.is_none_or(|at| permit.granted > at) {
            self.in_a_row = 0;
        }
    }

    fn slow_down(&mut self, now: Instant) {
        self.slowed_at = Some(now);
        self.speed = (self.speed / 2.0).max(SLOWEST);
        self.in_a_row = self.in_a_row.saturating_add(1);
    }

    fn pause(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(Some(until));
    }
}

/// How long to wait after so many 429 in a row. What DPS asks for is a minimum, and asking for nothing
/// again and again is answered with growing waits all the same.
pub fn pause(retry_after: Option<Duration>, in_a_row: u32) -> Duration {
    match retry_after {
        Some(asked) => asked.max(doubling(SHORTEST_FIRST, in_a_row, SHORTEST_CAP)),
        None => doubling(PAUSE_FIRST, in_a_row, PAUSE_CAP),
    }
}
