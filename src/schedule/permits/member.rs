//! One integration: its waiting devices, and what it may use of the rate.

use tokio::time::Instant;

use super::bucket::{Allowance, Bucket, Limit};
use super::line::Line;
use super::{Gate, Group, Lane, Limits, ScopeKey};
use crate::schedule::Waiter;

/// Calls a minute for an integration with a budget of its own.
const NEWCOMER_PER_MINUTE: u32 = 6;
/// Calls that such an integration may make at once.
const NEWCOMER_BURST: u32 = 3;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) scope: ScopeKey,
    pub(super) group: Group,
    /// Waiters, for each lane.
    waiting: [Line; Lane::COUNT],
    /// Those with credentials of their own.
    alone: [Line; Lane::COUNT],
    /// Of which the last one came; they take turns.
    alone_was_last: bool,
    /// It has a turn in this lane of its scope.
    in_turn: [bool; Lane::COUNT],
    /// It has a place among the newcomers of its scope.
    in_place: bool,
    /// No device may queue until it is admitted again.
    pub(super) dismissed: bool,
    pub(super) in_flight: u32,
    pub(super) gate: Gate,
    /// Its own small budget. Nothing that is declared refills it: it goes with the integration's name
    /// from scope to scope and over its end.
    own: Allowance,
    /// This integration's share of the rate, if it has one.
    share: Limit,
    /// What work of the fleet may use at most.
    rollout: Limit,
    /// Work of the fleet is held.
    paused: bool,
    /// Its limits were never set.
    unlimited: bool,
}

impl Member {
    pub(super) fn new(scope: ScopeKey, group: Group, now: Instant) -> Self {
        Self {
            scope,
            group,
            waiting: Default::default(),
            alone: Default::default(),
            alone_was_last: false,
            in_turn: [false; Lane::COUNT],
            in_place: false,
            dismissed: false,
            in_flight: 0,
            gate: Gate::NEWCOMER,
            own: Allowance::new(NEWCOMER_PER_MINUTE, NEWCOMER_BURST, now),
            share: Limit::default(),
            rollout: Limit::default(),
            paused: false,
            unlimited: true,
        }
    }

    pub(super) fn admit(&mut self, scope: ScopeKey, group: Group, gate: Gate) {
        self.scope = scope;
        self.group = group;
        self.gate = gate;
        self.dismissed = false;
    }

    pub(super) fn limit(&mut self, limits: Limits, now: Instant) {
        let begins = std::mem::replace(&mut self.unlimited, false);
        self.share.set(limits.share, begins, now);
        self.rollout.set(limits.rollout, begins, now);
        self.paused = limits.paused;
    }

    /// `alone`: of devices with credentials of their own.
    pub(super) fn line_mut(&mut self, lane: Lane, alone: bool) -> &mut Line {
        let lines = if alone { &mut self.alone } else { &mut self.waiting };
        &mut lines[lane.index()]
    }

    fn line(&self, lane: Lane, alone: bool) -> &Line {
        let lines = if alone { &self.alone } else { &self.waiting };
        &lines[lane.index()]
    }

    pub(super) fn take_all(&mut self) -> Vec<Waiter> {
        let waiters = self.waiters().collect();
        (self.waiting, self.alone) = Default::default();
        waiters
    }

    pub(super) fn waiters(&self) -> impl Iterator<Item = Waiter> {
        self.waiting.iter().chain(&self.alone).flat_map(Line::waiters)
    }

    fn waits_in(&self, lane: Lane) -> bool {
        [false, true].iter().any(|alone| !self.line(lane, *alone).is_empty())
    }

    fn waits(&self) -> bool {
        Lane::ALL.into_iter().any(|lane| self.waits_in(lane))
    }

    // Its turns in its scope.

    /// True if its scope has to give it a turn in this lane.
    pub(super) fn takes_turn(&mut self, lane: Lane) -> bool {
        self.waits_in(lane) && !std::mem::replace(&mut self.in_turn[lane.index()], true)
    }

    /// Ends its turn in this lane; true if a device waits, so that it gets another.
    pub(super) fn keep_turn(&mut self, lane: Lane) -> bool {
        self.in_turn[lane.index()] = self.waits_in(lane);
        self.in_turn[lane.index()]
    }

    /// True if its scope has to give it a place among the newcomers.
    pub(super) fn takes_place(&mut self) -> bool {
        self.waits() && !std::mem::replace(&mut self.in_place, true)
    }

    /// Ends its turn among the newcomers; true if a device waits, so that it gets another.
    pub(super) fn keep_place(&mut self) -> bool {
        self.in_place = self.waits();
        self.in_place
    }

    /// Its scope has taken all of that away.
    pub(super) fn has_left(&mut self) {
        self.in_turn = [false; Lane::COUNT];
        self.in_place = false;
    }

    // Grants.

    /// The next waiter of this lane, if the integration may call now.
    pub(super) fn grant(&mut self, lane: Lane, now: Instant) -> Option<Waiter> {
        if self.is_closed() || self.is_held(lane) {
            return None;
        }
        let is_open = |alone: &bool| {
            !self.line(lane, *alone).is_empty() && self.opens_at(lane, *alone).is_none_or(|at| at <= now)
        };
        let alone = [!self.alone_was_last, self.alone_was_last].into_iter().find(is_open)?;
        let mut limits: Vec<&mut Bucket> = self.limits_mut(lane).collect();
        limits.iter_mut().for_each(|limit| {
            limit.refill(now, 1.0);
        });
        if limits.iter().any(|limit| !limit.has_one()) {
            return None;
        }
        limits.into_iter().for_each(Bucket::take);
        let granted = self.line_mut(lane, alone).pop();
        self.alone_was_last = alone;
        self.in_flight += u32::from(granted.is_some());
        granted
    }

    /// The next waiter, paid from the integration's own budget.
    pub(super) fn grant_newcomer(&mut self, now: Instant) -> Option<(Lane, Waiter)> {
        if !self.own.has_one(now) {
            return None;
        }
        let granted = Lane::ALL.into_iter().find_map(|lane| Some((lane, self.grant(lane, now)?)))?;
        self.own.take(now);
        Some(granted)
    }

    /// A permit was not used: what limits this integration alone gets it back.
    pub(super) fn put_back(&mut self, lane: Lane, newcomer: bool) {
        self.limits_mut(lane).for_each(Bucket::put_back);
        if newcomer {
            self.own.put_back();
        }
    }

    fn limits_mut(&mut self, lane: Lane) -> impl Iterator<Item = &mut Bucket> {
        let rollout = self.rollout.bucket_mut().filter(|_| lane.is_rollout());
        self.share.bucket_mut().into_iter().chain(rollout)
    }

    /// When a grant may be possible in this lane, given when the scope's bucket has a token.
    pub(super) fn ready_at(&self, lane: Lane, scope: Instant) -> Option<Instant> {
        if self.is_closed() || self.is_held(lane) {
            return None;
        }
        let waits = [false, true].into_iter().filter(|alone| !self.line(lane, *alone).is_empty());
        let opens = waits.map(|alone| self.opens_at(lane, alone)).min()?;
        let rollout = self.rollout.bucket().filter(|_| lane.is_rollout());
        let limits = self.share.bucket().into_iter().chain(rollout).map(|limit| limit.ready_at(1.0));
        limits.chain([scope]).chain(opens).max()
    }

    /// The same for a newcomer, in whichever lane.
    pub(super) fn newcomer_ready_at(&self, scope: Instant) -> Option<Instant> {
        let soonest = scope.max(self.own.ready_at());
        Lane::ALL.into_iter().filter_map(|lane| self.ready_at(lane, soonest)).min()
    }

    /// When the gate opens for the first waiter of this line.
    fn opens_at(&self, lane: Lane, alone: bool) -> Option<Instant> {
        let Gate { not_before, shared_not_before, others_not_before, .. } = self.gate;
        let is_first = self.line(lane, alone).has_front();
        let of_shared = shared_not_before.max(others_not_before.filter(|_| !is_first));
        not_before.max(of_shared.filter(|_| !alone))
    }

    /// One call at a time, and that one is in flight.
    fn is_closed(&self) -> bool {
        self.gate.one_at_a_time && self.in_flight > 0
    }

    /// Work in this lane is held.
    fn is_held(&self, lane: Lane) -> bool {
        self.paused && lane.is_rollout()
    }

    /// True if it is gone and a new one would be as this one is at `now`.
    pub(super) fn is_forgettable(&self, now: Instant) -> bool {
        let limits = self.share.bucket().into_iter().chain(self.rollout.bucket());
        let refilled = self.own.is_untouched(now) && limits.into_iter().all(|limit| limit.is_full(now));
        self.dismissed && self.in_flight == 0 && refilled
    }
}
