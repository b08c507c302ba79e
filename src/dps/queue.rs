//! Who may call DPS next. Pure: time comes in as an argument, permits go out as return values, and
//! nobody waits in a slot.
//!
//! One bucket per id scope, because Azure limits an instance and an instance has several host
//! names. An integration whose key DPS has not accepted yet stays outside it: one call in flight
//! and six a minute of its own, so that a wrong key costs a handful of refusals and a stranger's
//! integration cannot spend the scope's rate. The same narrow gate serves an instance that does
//! not answer: one probe instead of a fleet of them.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::bucket::Bucket;
use super::ids::IdScope;

/// Calls a minute for an integration that DPS has not accepted.
const NEWCOMER_PER_MINUTE: u32 = 6;
/// Refusals in a row before a key is taken for wrong.
const CANARIES: u32 = 3;
/// Server errors in a row before an instance is taken for down.
const SERVER_ERRORS: u32 = 3;
const REFUSED_FIRST: Duration = Duration::from_secs(60);
const REFUSED_CAP: Duration = Duration::from_secs(3600);
const DOWN_FIRST: Duration = Duration::from_secs(5);
const DOWN_CAP: Duration = Duration::from_secs(600);

/// A device; what it means is the caller's business.
pub type Waiter = u32;
/// An integration; what it means is the caller's business.
pub type Tenant = u32;

/// Leave to make one register or lookup call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    pub tenant: Tenant,
    pub waiter: Waiter,
}

/// How a permitted call ended, as far as the queue is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// DPS accepted the key, whatever else it said.
    Accepted,
    /// 401.
    Refused,
    /// No HTTP answer.
    Unreachable,
    /// 5xx.
    ServerError,
    /// 429.
    Throttled { retry_after: Option<Duration> },
    /// Says nothing about key or instance.
    Neutral,
}

/// Why an integration's calls are narrowed down to one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Narrow {
    /// DPS has not accepted this key yet.
    Newcomer,
    /// DPS refused the key, this many times in a row.
    Refused(u32),
    /// The instance did not answer, this many times in a row.
    Down(u32),
}

#[derive(Debug)]
struct Scope {
    bucket: Bucket,
    paused_until: Option<Instant>,
    throttled: u32,
    /// Tenants with waiters, in turn.
    turn: VecDeque<Tenant>,
}

#[derive(Debug)]
struct Member {
    scope: IdScope,
    waiting: VecDeque<Waiter>,
    /// Nobody may queue until it is admitted again.
    dismissed: bool,
    in_flight: u32,
    /// DPS has accepted the present key.
    accepted: bool,
    /// 401 answers since the last acceptance.
    refusals: u32,
    /// Who was refused last: the same device once more says nothing about an accepted key.
    last_refused: Option<Waiter>,
    /// 5xx answers in a row.
    server_errors: u32,
    /// Times in a row that the instance was found down.
    outages: u32,
    not_before: Instant,
    own: Bucket,
    /// This integration's share, if it has one.
    share: Option<Bucket>,
}

/// All scopes and integrations.
#[derive(Debug)]
pub struct DpsQueue {
    per_minute: u32,
    max_in_flight: u32,
    in_flight: u32,
    scopes: HashMap<IdScope, Scope>,
    members: HashMap<Tenant, Member>,
}

impl DpsQueue {
    pub fn new(per_minute: u32, max_in_flight: u32) -> Self {
        Self { per_minute, max_in_flight, in_flight: 0, scopes: HashMap::new(), members: HashMap::new() }
    }

    /// Makes an integration known, or tells that its scope, key, share or route changed. Refusals
    /// and outages of the past are forgotten: what changed may have mended them.
    pub fn admit(
        &mut self,
        tenant: Tenant,
        scope: IdScope,
        accepted: bool,
        share: Option<u32>,
        now: Instant,
    ) {
        self.leave_scope(tenant);
        let per_minute = self.per_minute;
        let share = share.map(|limit| Bucket::new(limit, limit / 60, now));
        let member = self.members.entry(tenant).or_insert_with(|| Member {
            scope: scope.clone(),
            waiting: VecDeque::new(),
            dismissed: false,
            in_flight: 0,
            accepted,
            refusals: 0,
            last_refused: None,
            server_errors: 0,
            outages: 0,
            not_before: now,
            own: Bucket::new(NEWCOMER_PER_MINUTE, CANARIES, now),
            share: None,
        });
        (member.scope, member.share, member.accepted) = (scope.clone(), share, accepted);
        member.dismissed = false;
        member.own.tokens = member.own.tokens.max(1.0);
        (member.refusals, member.server_errors, member.outages, member.not_before) = (0, 0, 0, now);
        let waits = !member.waiting.is_empty();
        let scope = self.scopes.entry(scope).or_insert_with(|| Scope {
            bucket: Bucket::new(per_minute, per_minute / 60, now),
            paused_until: None,
            throttled: 0,
            turn: VecDeque::new(),
        });
        if waits {
            scope.turn.push_back(tenant);
        }
    }

    /// Forgets an integration and returns who was waiting for it.
    pub fn dismiss(&mut self, tenant: Tenant) -> Vec<Waiter> {
        self.leave_scope(tenant);
        // The member stays: calls in flight are still counted.
        let Some(member) = self.members.get_mut(&tenant) else { return Vec::new() };
        member.dismissed = true;
        std::mem::take(&mut member.waiting).into()
    }

    fn leave_scope(&mut self, tenant: Tenant) {
        if let Some(scope) = self.members.get(&tenant).and_then(|member| self.scopes.get_mut(&member.scope)) {
            scope.turn.retain(|other| *other != tenant);
        }
    }

    /// Queues a device. False if the integration is not known.
    pub fn enqueue(&mut self, tenant: Tenant, waiter: Waiter) -> bool {
        let Some(member) = self.members.get_mut(&tenant).filter(|member| !member.dismissed) else {
            return false;
        };
        member.waiting.push_back(waiter);
        if member.waiting.len() == 1
            && let Some(scope) = self.scopes.get_mut(&member.scope)
        {
            scope.turn.push_back(tenant);
        }
        true
    }

    /// The next permit, if one can be given now. Integrations of a scope take turns.
    pub fn poll(&mut self, now: Instant) -> Option<Permit> {
        if self.in_flight >= self.max_in_flight {
            return None;
        }
        let members = &mut self.members;
        let permit = self.scopes.values_mut().find_map(|scope| scope.grant(members, now))?;
        self.in_flight += 1;
        Some(permit)
    }

    /// When `poll` is worth calling again if nothing else happens.
    pub fn next_at(&self) -> Option<Instant> {
        if self.in_flight >= self.max_in_flight {
            return None;
        }
        let of_scope = |scope: &Scope| {
            scope.turn.iter().filter_map(|tenant| self.members.get(tenant)?.ready_at(scope)).min()
        };
        self.scopes.values().filter_map(of_scope).min()
    }

    /// Gives back a permit that was not used, with what it took from the rate.
    pub fn unused(&mut self, permit: Permit) {
        self.release(permit.tenant);
        let Some(member) = self.members.get_mut(&permit.tenant) else { return };
        if let Some(share) = &mut member.share {
            share.put_back();
        }
        if member.outside() {
            member.own.put_back();
        } else if let Some(scope) = self.scopes.get_mut(&member.scope) {
            scope.bucket.put_back();
        }
    }

    /// DPS has accepted the key of a call that goes on: the others need not wait for its end.
    pub fn accepted(&mut self, Permit { tenant, waiter }: Permit, now: Instant) {
        if let Some(member) = self.members.get_mut(&tenant) {
            member.learn(waiter, Outcome::Accepted, now);
        }
    }

    /// A permitted call has ended.
    pub fn finished(&mut self, Permit { tenant, waiter }: Permit, outcome: Outcome, now: Instant) {
        self.release(tenant);
        let Some(member) = self.members.get_mut(&tenant) else { return };
        member.learn(waiter, outcome, now);
        let Some(scope) = self.scopes.get_mut(&member.scope) else { return };
        match outcome {
            Outcome::Throttled { retry_after } => {
                scope.throttled = scope.throttled.saturating_add(1);
                let wait = retry_after.unwrap_or_else(|| doubled(DOWN_FIRST, scope.throttled, DOWN_CAP));
                scope.paused_until = scope.paused_until.max(Some(now + wait));
            }
            Outcome::Accepted => scope.throttled = 0,
            _ => {}
        }
    }

    fn release(&mut self, tenant: Tenant) {
        if let Some(member) = self.members.get_mut(&tenant)
            && member.in_flight > 0
        {
            member.in_flight -= 1;
            self.in_flight -= 1;
        }
    }

    /// Why the integration's calls go one at a time, if they do.
    pub fn narrow(&self, tenant: Tenant) -> Option<Narrow> {
        self.members.get(&tenant).and_then(Member::narrow)
    }

    /// Until when DPS has asked this integration's scope to wait.
    pub fn paused_until(&self, tenant: Tenant) -> Option<Instant> {
        self.members
            .get(&tenant)
            .and_then(|member| self.scopes.get(&member.scope))
            .and_then(|s| s.paused_until)
    }
}

impl Scope {
    fn grant(&mut self, members: &mut HashMap<Tenant, Member>, now: Instant) -> Option<Permit> {
        if self.paused_until.is_some_and(|until| until > now) {
            return None;
        }
        self.paused_until = None;
        self.bucket.refill(now);
        for _ in 0..self.turn.len() {
            let tenant = self.turn.pop_front()?;
            let Some(member) = members.get_mut(&tenant) else { continue };
            let waiter = member.grant(&mut self.bucket, now);
            if !member.waiting.is_empty() {
                self.turn.push_back(tenant);
            }
            if let Some(waiter) = waiter {
                return Some(Permit { tenant, waiter });
            }
        }
        None
    }
}

impl Member {
    fn grant(&mut self, shared: &mut Bucket, now: Instant) -> Option<Waiter> {
        if self.narrow().is_some() && (self.in_flight > 0 || self.not_before > now) {
            return None;
        }
        let outside = self.outside();
        let bucket = if outside { &mut self.own } else { shared };
        bucket.refill(now);
        if let Some(share) = &mut self.share {
            share.refill(now);
        }
        if bucket.tokens < 1.0 || self.share.as_ref().is_some_and(|share| share.tokens < 1.0) {
            return None;
        }
        let waiter = self.waiting.pop_front()?;
        bucket.take();
        if let Some(share) = &mut self.share {
            share.take();
        }
        self.in_flight += 1;
        Some(waiter)
    }

    fn narrow(&self) -> Option<Narrow> {
        match (self.outages, self.refusals) {
            (0, 0) => (!self.accepted).then_some(Narrow::Newcomer),
            (0, refusals) => Some(Narrow::Refused(refusals)),
            (outages, _) => Some(Narrow::Down(outages)),
        }
    }

    /// Newcomers and refused keys stay outside the scope's bucket.
    fn outside(&self) -> bool {
        !self.accepted || self.refusals > 0
    }

    fn ready_at(&self, scope: &Scope) -> Option<Instant> {
        if self.waiting.is_empty() || (self.narrow().is_some() && self.in_flight > 0) {
            return None;
        }
        let bucket = if self.outside() { &self.own } else { &scope.bucket };
        let share = self.share.as_ref().map(Bucket::ready_at);
        [Some(bucket.ready_at()), share, Some(self.not_before), scope.paused_until]
            .into_iter()
            .flatten()
            .max()
    }

    fn learn(&mut self, waiter: Waiter, outcome: Outcome, now: Instant) {
        self.server_errors = if outcome == Outcome::ServerError { self.server_errors + 1 } else { 0 };
        // Calls that were in flight together fail together: that is one outage, or one refusal.
        let known = self.not_before > now;
        match outcome {
            Outcome::Accepted => {
                (self.accepted, self.refusals, self.outages) = (true, 0, 0);
                (self.last_refused, self.not_before) = (None, now);
            }
            Outcome::Refused if known || (self.accepted && self.last_refused == Some(waiter)) => {}
            Outcome::Refused => {
                (self.refusals, self.outages) = (self.refusals.saturating_add(1), 0);
                self.last_refused = Some(waiter);
                if self.refusals >= CANARIES {
                    let wait = doubled(REFUSED_FIRST, self.refusals - CANARIES + 1, REFUSED_CAP);
                    (self.accepted, self.not_before) = (false, now + wait);
                }
            }
            Outcome::Unreachable | Outcome::ServerError if known => {}
            Outcome::Unreachable => self.down(now),
            Outcome::ServerError if self.server_errors >= SERVER_ERRORS => self.down(now),
            Outcome::ServerError | Outcome::Throttled { .. } | Outcome::Neutral => self.outages = 0,
        }
    }

    fn down(&mut self, now: Instant) {
        self.outages = self.outages.saturating_add(1);
        self.not_before = now + doubled(DOWN_FIRST, self.outages, DOWN_CAP);
    }
}

/// `first` for the first failure, twice that for the second, at most `cap`.
fn doubled(first: Duration, failures: u32, cap: Duration) -> Duration {
    first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn scope() -> IdScope {
        IdScope::parse("0ne1").unwrap()
    }

    fn queue(per_minute: u32, accepted: bool, waiters: u32) -> (DpsQueue, Instant) {
        let now = Instant::now();
        let mut queue = DpsQueue::new(per_minute, 1000);
        queue.admit(1, scope(), accepted, None, now);
        for waiter in 0..waiters {
            assert!(queue.enqueue(1, waiter));
        }
        (queue, now)
    }

    /// Grants everything that may be granted, each call ending at once with `outcome`, until
    /// `until`; returns the times of the grants.
    fn run(queue: &mut DpsQueue, from: Instant, until: Instant, outcome: Outcome) -> Vec<Instant> {
        let (mut now, mut grants) = (from, Vec::new());
        while now < until {
            while let Some(permit) = queue.poll(now) {
                grants.push(now);
                queue.finished(permit, outcome, now);
            }
            now = queue.next_at().unwrap_or(until).max(now + Duration::from_millis(1));
        }
        grants
    }

    fn most_in_a_minute(grants: &[Instant]) -> usize {
        grants
            .iter()
            .map(|start| grants.iter().filter(|g| *g >= start && **g < *start + MINUTE).count())
            .max()
            .unwrap_or(0)
    }

    #[test]
    fn an_integration_that_was_never_accepted_has_one_call_in_flight() {
        let (mut queue, now) = queue(600, false, 5);
        let permit = queue.poll(now).unwrap();
        assert_eq!(queue.poll(now), None);
        assert_eq!(queue.next_at(), None);
        queue.finished(permit, Outcome::Accepted, now);
        assert!(queue.poll(now).is_some() && queue.poll(now).is_some());
    }

    #[test]
    fn the_others_do_not_wait_for_the_end_of_the_first_operation() {
        let (mut queue, now) = queue(600, false, 5);
        let first = queue.poll(now).unwrap();
        queue.accepted(first, now);
        assert!(queue.poll(now).is_some() && queue.poll(now).is_some());
    }

    #[test]
    fn a_wrong_key_costs_three_refusals_and_then_one_try_a_minute_and_longer() {
        let (mut queue, now) = queue(600, false, 100);
        let grants = run(&mut queue, now, now + MINUTE * 8, Outcome::Refused);
        let at: Vec<u64> = grants.iter().map(|grant| (*grant - now).as_secs()).collect();
        assert_eq!(at, [0, 0, 0, 60, 180, 420]);
        assert_eq!(queue.narrow(1), Some(Narrow::Refused(6)));
    }

    #[test]
    fn a_changed_key_is_tried_at_once() {
        let (mut queue, now) = queue(600, false, 10);
        run(&mut queue, now, now + MINUTE, Outcome::Refused);
        assert_eq!(queue.poll(now + MINUTE / 2), None);
        for change in 0..5 {
            // Also by somebody who pastes one wrong key after the other.
            let at = now + MINUTE / 2 + Duration::from_millis(change);
            queue.admit(1, scope(), false, None, at);
            let permit = queue.poll(at).unwrap();
            queue.finished(permit, Outcome::Refused, at);
        }
    }

    #[test]
    fn an_instance_that_does_not_answer_is_probed_by_one_device_with_growing_waits() {
        let (mut queue, now) = queue(600, true, 100);
        let grants = run(&mut queue, now, now + MINUTE, Outcome::Unreachable);
        let at: Vec<u64> = grants.iter().map(|grant| (*grant - now).as_secs()).collect();
        assert_eq!(at, [0, 5, 15, 35]);
        let later = now + MINUTE * 2;
        let permit = queue.poll(later).unwrap();
        queue.finished(permit, Outcome::Accepted, later);
        assert_eq!(queue.narrow(1), None);
    }

    #[test]
    fn calls_that_fail_together_count_as_one_outage() {
        let (mut queue, now) = queue(60_000, true, 100);
        let permits: Vec<_> = (0..100).map(|_| queue.poll(now).unwrap()).collect();
        permits.into_iter().for_each(|permit| queue.finished(permit, Outcome::Unreachable, now));
        assert_eq!(queue.narrow(1), Some(Narrow::Down(1)));
    }

    #[test]
    fn one_device_that_is_refused_again_and_again_does_not_condemn_an_accepted_key() {
        let (mut queue, now) = queue(60_000, true, 1);
        for minute in 0..5 {
            let at = now + MINUTE * minute;
            let permit = queue.poll(at).unwrap();
            queue.finished(permit, Outcome::Refused, at);
            assert!(queue.enqueue(1, permit.waiter));
        }
        assert_eq!(queue.narrow(1), Some(Narrow::Refused(1)));
    }

    #[test]
    fn a_permit_that_was_not_used_costs_nothing() {
        let (mut queue, now) = queue(600, false, 1000);
        for _ in 0..900 {
            let permit = queue.poll(now).unwrap();
            queue.unused(permit);
        }
        let (mut queue, now) = self::queue(600, true, 1000);
        for _ in 0..900 {
            let permit = queue.poll(now).unwrap();
            queue.unused(permit);
        }
    }

    #[test]
    fn a_single_server_error_does_not_slow_the_others_down_and_three_in_a_row_do() {
        let (mut queue, now) = queue(600, true, 10);
        for expected in [None, None, Some(Narrow::Down(1))] {
            let permit = queue.poll(now).unwrap();
            queue.finished(permit, Outcome::ServerError, now);
            assert_eq!(queue.narrow(1), expected);
        }
    }

    #[test]
    fn throttling_pauses_the_whole_scope_for_as_long_as_dps_asks() {
        let (mut queue, now) = queue(600, true, 10);
        queue.admit(2, scope(), true, None, now);
        queue.enqueue(2, 99);
        let permit = queue.poll(now).unwrap();
        queue.finished(permit, Outcome::Throttled { retry_after: Some(MINUTE) }, now);
        assert_eq!(queue.poll(now + MINUTE / 2), None);
        assert_eq!(queue.next_at(), Some(now + MINUTE));
        assert!(queue.poll(now + MINUTE).is_some());
    }

    #[test]
    fn integrations_of_one_scope_take_turns_and_a_newcomer_takes_nothing_from_the_others() {
        let (mut queue, now) = queue(600, true, 5);
        queue.admit(2, scope(), true, None, now);
        (0..5).for_each(|waiter| assert!(queue.enqueue(2, 100 + waiter)));
        let tenants: Vec<_> = (0..4).map(|_| queue.poll(now).unwrap().tenant).collect();
        assert_eq!(tenants, [1, 2, 1, 2]);
        assert_eq!(queue.dismiss(2).len(), 3);
        assert!(!queue.enqueue(2, 1));
    }

    #[test]
    fn a_share_lowers_the_rate_of_one_integration() {
        let now = Instant::now();
        let mut queue = DpsQueue::new(600, 1000);
        queue.admit(1, scope(), true, Some(30), now);
        (0..200).for_each(|waiter| assert!(queue.enqueue(1, waiter)));
        let grants = run(&mut queue, now, now + MINUTE * 2, Outcome::Accepted);
        assert!(most_in_a_minute(&grants) <= 30, "{}", most_in_a_minute(&grants));
        assert!(grants.len() >= 50, "{}", grants.len());
    }

    #[test]
    fn operations_in_flight_are_bounded() {
        let now = Instant::now();
        let mut queue = DpsQueue::new(6000, 2);
        queue.admit(1, scope(), true, None, now);
        (0..3).for_each(|waiter| assert!(queue.enqueue(1, waiter)));
        let first = queue.poll(now).unwrap();
        assert!(queue.poll(now).is_some());
        assert_eq!((queue.poll(now), queue.next_at()), (None, None));
        queue.unused(first);
        assert!(queue.poll(now).is_some());
    }

    proptest! {
        #[test]
        fn never_above_the_limit_in_any_sliding_minute_and_everyone_is_served(
            limit in 2_u32..400, waiters in 1_u32..600, minutes in 1_u32..4,
        ) {
            let (mut queue, now) = queue(limit, true, waiters);
            let steady = limit - (limit / 60).max(1);
            let long = now + MINUTE * (waiters / steady + 1 + minutes);
            let grants = run(&mut queue, now, long, Outcome::Accepted);
            prop_assert!(most_in_a_minute(&grants) <= limit as usize);
            prop_assert_eq!(grants.len(), waiters as usize);
        }
    }
}
