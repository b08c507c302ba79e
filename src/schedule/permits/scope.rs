//! One id scope: the rate that all its integrations share, and what DPS says about that rate.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::bucket::Bucket;
use super::{Lane, Members, Permit, Tenant};
use crate::schedule::Waiter;
use crate::schedule::backoff::doubling;

/// The slowest that throttling makes us: a sixteenth of the rate.
const SLOWEST: f64 = 1.0 / 16.0;
/// From a standstill to the full rate. Half the rate is regained in half of this.
const RECOVERY: Duration = Duration::from_secs(600);
/// Wait after a 429 that does not say how long.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
const PAUSE_CAP: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Scope {
    bucket: Bucket,
    /// Share of the rate that is used: halved when DPS throttles, regained slowly.
    speed: f64,
    paused_until: Option<Instant>,
    /// 429 answers in a row.
    throttled: u32,
    /// When `speed` was last halved: what was granted before says nothing new.
    slowed_at: Option<Instant>,
    /// Number of the permit for the first call after a pause; no other is given before DPS has taken it.
    probe: Option<u64>,
    pub(super) in_flight: u32,
    /// Tenants with waiters, in turn, for each lane.
    turns: [VecDeque<Tenant>; Lane::COUNT],
}

impl Scope {
    pub(super) fn new(per_minute: u32, now: Instant) -> Self {
        Self {
            bucket: Bucket::even(per_minute, now),
            speed: 1.0,
            paused_until: None,
            throttled: 0,
            slowed_at: None,
            probe: None,
            in_flight: 0,
            turns: Default::default(),
        }
    }

    /// Gives the tenant a turn in this lane.
    pub(super) fn join(&mut self, tenant: Tenant, lane: Lane) {
        self.turns[lane.index()].push_back(tenant);
    }

    pub(super) fn leave(&mut self, tenant: Tenant) {
        for turn in &mut self.turns {
            turn.retain(|other| *other != tenant);
        }
    }

    /// The next call, by lane and then by turn. `number` is what the permit will be known by.
    pub(super) fn grant(&mut self, members: &mut Members, number: u64, now: Instant) -> Option<Grant> {
        if self.paused_until.is_some_and(|until| until > now) || self.probe.is_some() {
            return None;
        }
        let elapsed = self.bucket.refill(now, self.speed);
        self.speed = (self.speed + elapsed.as_secs_f64() / RECOVERY.as_secs_f64()).min(1.0);
        let grant = Lane::ALL.into_iter().find_map(|lane| self.grant_in(lane, members, now))?;
        if self.paused_until.take().is_some() {
            self.probe = Some(number);
        }
        self.in_flight += 1;
        Some(grant)
    }

    fn grant_in(&mut self, lane: Lane, members: &mut Members, now: Instant) -> Option<Grant> {
        for _ in 0..self.turns[lane.index()].len() {
            let tenant = self.turns[lane.index()].pop_front()?;
            let Some(member) = members.get_mut(&tenant) else { continue };
            let granted = member.grant(lane, &mut self.bucket, now);
            if member.keep_turn(lane) {
                self.turns[lane.index()].push_back(tenant);
            }
            if let Some((waiter, shared)) = granted {
                return Some(Grant { tenant, waiter, lane, shared });
            }
        }
        None
    }

    /// When `grant` is worth calling again if nothing else happens.
    pub(super) fn next_at(&self, members: &Members) -> Option<Instant> {
        if self.probe.is_some() {
            return None;
        }
        let ready = |lane: Lane| {
            let shared = self.bucket.ready_at(self.speed);
            self.turns[lane.index()]
                .iter()
                .filter_map(move |tenant| members.get(tenant)?.ready_at(lane, shared))
        };
        let soonest = Lane::ALL.into_iter().flat_map(ready).min()?;
        Some(self.paused_until.map_or(soonest, |until| soonest.max(until)))
    }

    pub(super) fn put_back(&mut self) {
        self.bucket.put_back();
    }

    /// DPS has taken the call, or it is over.
    pub(super) fn answered(&mut self, permit: &Permit) {
        if self.probe == Some(permit.number) {
            self.probe = None;
        }
    }

    /// The call was not made: if it was to show whether the pause is over, the next one will.
    pub(super) fn not_made(&mut self, permit: &Permit) {
        if self.is_probe(permit) {
            self.probe = None;
            self.paused_until = Some(permit.granted);
        }
    }

    pub(super) fn is_probe(&self, permit: &Permit) -> bool {
        self.probe == Some(permit.number)
    }

    /// Share of the rate that is used: none in a pause, nor while one call finds out whether it is over.
    /// The speed alone does not show that: after a long pause it is the full one when that call is made.
    pub(super) fn share(&self, now: Instant) -> f64 {
        let pauses = self.paused_until.is_some_and(|until| until > now) || self.probe.is_some();
        if pauses { 0.0 } else { self.speed }
    }

    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    pub(super) fn throttled(&mut self, permit: &Permit, retry_after: Option<Duration>, now: Instant) {
        if self.slowed_at.is_none_or(|at| permit.granted > at) {
            self.slowed_at = Some(now);
            self.speed = (self.speed / 2.0).max(SLOWEST);
            self.throttled = self.throttled.saturating_add(1);
        }
        let wait = retry_after.unwrap_or_else(|| doubling(PAUSE_FIRST, self.throttled, PAUSE_CAP));
        self.paused_until = self.paused_until.max(Some(now + wait));
    }

    pub(super) fn not_throttled(&mut self, permit: &Permit) {
        if self.slowed_at.is_none_or(|at| permit.granted > at) {
            self.throttled = 0;
        }
    }
}

/// The device whose turn it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    pub tenant: Tenant,
    pub waiter: Waiter,
    pub lane: Lane,
    /// Paid from the scope's bucket, not from the tenant's own.
    pub shared: bool,
}
