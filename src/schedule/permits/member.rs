//! One integration in the queue: who waits for it, what it may use of the rate, and what DPS thinks
//! of its key.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::bucket::Bucket;
use super::{Lane, Limits, Narrow, Outcome};
use crate::schedule::Waiter;
use crate::schedule::backoff::doubling;

/// Calls a minute for an integration that DPS has not accepted.
const NEWCOMER_PER_MINUTE: u32 = 6;
/// Refusals in a row before a key is taken for wrong.
const CANARIES: u32 = 3;
/// Server errors in a row before an instance is taken for down.
const SERVER_ERRORS: u32 = 3;
/// So many refused devices are remembered.
const REMEMBERED: usize = 16;
const REFUSED_FIRST: Duration = Duration::from_secs(60);
const REFUSED_CAP: Duration = Duration::from_secs(3600);
const DOWN_FIRST: Duration = Duration::from_secs(5);
const DOWN_CAP: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Member {
    /// Place of its id scope.
    pub(super) scope: usize,
    /// Waiters by ticket, for each lane.
    waiting: [BTreeMap<u64, Waiter>; Lane::COUNT],
    /// It has a turn in this lane of its scope.
    in_turn: [bool; Lane::COUNT],
    /// Nobody may queue until it is admitted again.
    pub(super) dismissed: bool,
    pub(super) in_flight: u32,
    /// DPS has accepted the present key.
    accepted: bool,
    /// 401 answers since the last acceptance.
    refusals: u32,
    /// Who was refused since: the same device once more says nothing about an accepted key.
    refused: Vec<Waiter>,
    /// 5xx answers in a row.
    server_errors: u32,
    /// Times in a row that the instance was found down.
    outages: u32,
    not_before: Instant,
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
            accepted: false,
            refusals: 0,
            refused: Vec::new(),
            server_errors: 0,
            outages: 0,
            not_before: now,
            own: Bucket::new(NEWCOMER_PER_MINUTE, CANARIES, now),
            share: None,
            rollout: None,
            paused: false,
        }
    }

    /// Scope, key or route are new: refusals and outages of the past may have been mended by that.
    pub(super) fn admit(&mut self, scope: usize, accepted: bool, now: Instant) {
        (self.scope, self.accepted, self.dismissed) = (scope, accepted, false);
        (self.refusals, self.server_errors, self.outages, self.not_before) = (0, 0, 0, now);
        self.refused.clear();
        self.in_turn = [false; Lane::COUNT];
        self.own.at_least_one();
    }

    /// DPS refused the key before we were started: it is not tried again at once.
    pub(super) fn recall_refusal(&mut self, now: Instant) {
        (self.accepted, self.refusals, self.not_before) = (false, CANARIES, now + REFUSED_FIRST);
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

    /// After its turn: true while somebody waits in this lane.
    pub(super) fn keeps_turn(&mut self, lane: Lane) -> bool {
        let keeps = !self.waiting[lane.index()].is_empty();
        self.in_turn[lane.index()] = keeps;
        keeps
    }

    /// The next waiter, and whether the scope's bucket paid for it.
    pub(super) fn grant(&mut self, lane: Lane, shared: &mut Bucket, now: Instant) -> Option<(Waiter, bool)> {
        if self.is_closed() || self.not_before > now || self.holds(lane) {
            return None;
        }
        let outside = self.outside();
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
        if self.waiting[lane.index()].is_empty() || self.is_closed() || self.holds(lane) {
            return None;
        }
        let bucket = if self.outside() { self.own.ready_at(1.0) } else { shared };
        let rollout = self.rollout.as_ref().filter(|_| lane.is_rollout());
        let limits = self.share.iter().chain(rollout).map(|limit| limit.ready_at(1.0));
        limits.chain([bucket, self.not_before]).max()
    }

    pub(super) fn narrow(&self) -> Option<Narrow> {
        match (self.outages, self.refusals) {
            (0, 0) => (!self.accepted).then_some(Narrow::Newcomer),
            (0, refusals) => Some(Narrow::Refused(refusals)),
            (outages, _) => Some(Narrow::Down(outages)),
        }
    }

    /// One call at a time, and that one is in flight.
    fn is_closed(&self) -> bool {
        self.narrow().is_some() && self.in_flight > 0
    }

    fn holds(&self, lane: Lane) -> bool {
        self.paused && lane.is_rollout()
    }

    /// Newcomers and refused keys stay outside the scope's bucket.
    fn outside(&self) -> bool {
        !self.accepted || self.refusals > 0
    }

    pub(super) fn learn(&mut self, waiter: Waiter, outcome: Outcome, now: Instant) {
        if outcome == Outcome::Unknown {
            return;
        }
        self.server_errors = if outcome == Outcome::ServerError { self.server_errors + 1 } else { 0 };
        // Calls that were in flight together fail together: that is one outage, or one refusal.
        let known = self.not_before > now;
        match outcome {
            Outcome::Accepted => {
                (self.accepted, self.refusals, self.outages) = (true, 0, 0);
                self.not_before = now;
                self.refused.clear();
            }
            Outcome::Refused if known || (self.accepted && self.refused.contains(&waiter)) => {}
            Outcome::Refused => {
                (self.refusals, self.outages) = (self.refusals.saturating_add(1), 0);
                self.refused.push(waiter);
                self.refused.truncate(REMEMBERED);
                if self.refusals >= CANARIES {
                    let wait = doubling(REFUSED_FIRST, self.refusals - CANARIES + 1, REFUSED_CAP);
                    (self.accepted, self.not_before) = (false, now + wait);
                }
            }
            Outcome::Unreachable | Outcome::ServerError if known => {}
            Outcome::Unreachable => self.down(now),
            Outcome::ServerError if self.server_errors >= SERVER_ERRORS => self.down(now),
            Outcome::ServerError | Outcome::Throttled { .. } | Outcome::Answered | Outcome::Unknown => {
                self.outages = 0;
            }
        }
    }

    fn down(&mut self, now: Instant) {
        self.outages = self.outages.saturating_add(1);
        self.not_before = now + doubling(DOWN_FIRST, self.outages, DOWN_CAP);
    }
}
