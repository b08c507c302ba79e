//! One integration: its waiting devices, and what it may use of the rate.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::bucket::Bucket;
use super::{Gate, Lane, Limits};
use crate::schedule::Waiter;

/// Calls a minute for an integration with a budget of its own.
const NEWCOMER_PER_MINUTE: u32 = 6;
/// Calls that such an integration may make at once.
const NEWCOMER_BURST: u32 = 3;

#[derive(Debug)]
pub(super) struct Member {
    /// Index of its id scope.
    pub(super) scope: usize,
    /// Waiters by ticket, for each lane.
    waiting: [BTreeMap<u64, Waiter>; Lane::COUNT],
    /// It has a turn in this lane of its scope.
    in_turn: [bool; Lane::COUNT],
    /// No device may queue until it is admitted again.
    pub(super) dismissed: bool,
    pub(super) in_flight: u32,
    pub(super) gate: Gate,
    /// Its own small budget.
    own: Bucket,
    /// This integration's share of the rate, if it has one.
    share: Option<Bucket>,
    /// What work of the fleet may use at most.
    rollout: Option<Bucket>,
    /// Work of the fleet is held.
    paused: bool,
}

impl Member {
    pub(super) fn new(scope: usize, now: Instant) -> Self {
        Self {
            scope,
            waiting: Default::default(),
            in_turn: [false; Lane::COUNT],
            dismissed: false,
            in_flight: 0,
            gate: Gate::NEWCOMER,
            own: Bucket::new(NEWCOMER_PER_MINUTE, NEWCOMER_BURST, now),
            share: None,
            rollout: None,
            paused: false,
        }
    }

    /// Scope, credential or route are new: it may try at once.
    pub(super) fn admit(&mut self, scope: usize, gate: Gate) {
        self.scope = scope;
        self.gate = gate;
        self.dismissed = false;
        self.in_turn = [false; Lane::COUNT];
        self.own.at_least_one();
    }

    pub(super) fn limit(&mut self, limits: Limits, now: Instant) {
        self.share = limits.share.map(|per_minute| Bucket::even(per_minute, now));
        self.rollout = limits.rollout.map(|per_minute| Bucket::even(per_minute, now));
        self.paused = limits.paused;
    }

    /// True if the scope has to give it a turn in this lane.
    pub(super) fn push(&mut self, lane: Lane, ticket: u64, waiter: Waiter) -> bool {
        self.waiting[lane.index()].insert(ticket, waiter);
        !std::mem::replace(&mut self.in_turn[lane.index()], true)
    }

    pub(super) fn remove(&mut self, lane: Lane, ticket: u64) {
        self.waiting[lane.index()].remove(&ticket);
    }

    pub(super) fn take_all(&mut self) -> Vec<Waiter> {
        self.waiting.iter_mut().flat_map(std::mem::take).map(|(_, waiter)| waiter).collect()
    }

    pub(super) fn waiters(&self) -> impl Iterator<Item = Waiter> {
        self.waiting.iter().flat_map(|lane| lane.values().copied())
    }

    /// Lanes in which it needs a turn again.
    pub(super) fn rejoin(&mut self) -> impl Iterator<Item = Lane> {
        for lane in Lane::ALL {
            self.in_turn[lane.index()] = !self.waiting[lane.index()].is_empty();
        }
        let in_turn = self.in_turn;
        Lane::ALL.into_iter().filter(move |lane| in_turn[lane.index()])
    }

    /// Ends its turn in this lane; true if a device waits, so that it gets another.
    pub(super) fn keep_turn(&mut self, lane: Lane) -> bool {
        let keeps = !self.waiting[lane.index()].is_empty();
        self.in_turn[lane.index()] = keeps;
        keeps
    }

    /// The next waiter, and whether the scope's bucket paid for it.
    pub(super) fn grant(&mut self, lane: Lane, shared: &mut Bucket, now: Instant) -> Option<(Waiter, bool)> {
        if self.is_closed() || self.gate.not_before.is_some_and(|at| at > now) || self.is_held(lane) {
            return None;
        }
        let outside = self.gate.own_budget;
        self.own.refill(now, 1.0);
        let bucket = if outside { &mut self.own } else { shared };
        let rollout = self.rollout.as_mut().filter(|_| lane.is_rollout());
        let mut limits: Vec<&mut Bucket> = self.share.iter_mut().chain(rollout).collect();
        for limit in &mut limits {
            limit.refill(now, 1.0);
        }
        if !bucket.has_one() || limits.iter().any(|limit| !limit.has_one()) {
            return None;
        }
        let (_, waiter) = self.waiting[lane.index()].pop_first()?;
        bucket.take();
        limits.into_iter().for_each(Bucket::take);
        self.in_flight += 1;
        Some((waiter, !outside))
    }

    /// A permit was not used: what limits this integration alone gets it back; true if the scope's
    /// bucket does not.
    pub(super) fn put_back(&mut self, lane: Lane, shared: bool) {
        let rollout = self.rollout.as_mut().filter(|_| lane.is_rollout());
        self.share.iter_mut().chain(rollout).for_each(Bucket::put_back);
        if !shared {
            self.own.put_back();
        }
    }

    /// When a grant may be possible in this lane, given when the shared bucket has a token.
    pub(super) fn ready_at(&self, lane: Lane, shared: Instant) -> Option<Instant> {
        if self.waiting[lane.index()].is_empty() || self.is_closed() || self.is_held(lane) {
            return None;
        }
        let bucket = if self.gate.own_budget { self.own.ready_at(1.0) } else { shared };
        let rollout = self.rollout.as_ref().filter(|_| lane.is_rollout());
        let limits = self.share.iter().chain(rollout).map(|limit| limit.ready_at(1.0));
        limits.chain([bucket]).chain(self.gate.not_before).max()
    }

    /// One call at a time, and that one is in flight.
    fn is_closed(&self) -> bool {
        self.gate.one_at_a_time && self.in_flight > 0
    }

    /// Work in this lane is held.
    fn is_held(&self, lane: Lane) -> bool {
        self.paused && lane.is_rollout()
    }
}
