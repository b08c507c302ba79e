//! One id scope: the rate that all its integrations share, and whose turn it is.

use tokio::time::Instant;

use super::bucket::Bucket;
use super::member::Member;
use super::newcomers::Newcomers;
use super::permit::Grant;
use super::slots::{Kind, Slots};
use super::throttle::Throttle;
use super::{Group, Lane, Members, Permit, Tenant};
use crate::schedule::rota::Rota;

#[derive(Debug)]
pub(super) struct Scope {
    /// Pays for every call.
    bucket: Bucket,
    pub(super) throttle: Throttle,
    pub(super) in_flight: u32,
    /// Accepted tenants with waiters, for each lane.
    turns: [Rota<Group, Tenant>; Lane::COUNT],
    newcomers: Newcomers,
    /// The last call was a newcomer's: however low the rate is, they do not have it for themselves.
    newcomer_was_last: bool,
}

impl Scope {
    pub(super) fn new(per_minute: u32, now: Instant) -> Self {
        Self {
            bucket: Bucket::even(per_minute, now),
            throttle: Throttle::new(),
            in_flight: 0,
            turns: Default::default(),
            newcomers: Newcomers::new(per_minute, now),
            newcomer_was_last: false,
        }
    }

    /// Gives the tenant the turns that its waiters need and that it does not have.
    pub(super) fn join(&mut self, tenant: Tenant, member: &mut Member) {
        if member.gate.own_budget {
            if member.takes_place() {
                self.newcomers.join(member.group, tenant);
            }
            return;
        }
        for lane in Lane::ALL {
            if member.takes_turn(lane) {
                self.turns[lane.index()].join(member.group, tenant);
            }
        }
    }

    pub(super) fn leave(&mut self, tenant: Tenant, member: &mut Member) {
        self.turns.iter_mut().for_each(|turns| turns.leave(member.group, tenant));
        self.newcomers.leave(member.group, tenant);
        member.has_left();
    }

    /// The next call, by lane and then by turn. `number` is what the permit will be known by.
    pub(super) fn grant(
        &mut self,
        members: &mut Members,
        slots: &Slots,
        number: u64,
        now: Instant,
    ) -> Option<Grant> {
        if self.throttle.is_closed(now) {
            return None;
        }
        let speed = self.throttle.speed();
        self.newcomers.refill(now, speed);
        let elapsed = self.bucket.refill(now, speed);
        let awaits_probe = self.throttle.awaits_probe();
        if !awaits_probe {
            self.throttle.regain(elapsed);
        }
        if !self.bucket.has_one() {
            return None;
        }
        // A newcomer's call shows nothing about a pause: its host need not be DPS.
        let grant = if awaits_probe || self.newcomer_was_last {
            self.grant_accepted(members, now).or_else(|| self.newcomers.grant(members, slots, now))
        } else {
            self.newcomers.grant(members, slots, now).or_else(|| self.grant_accepted(members, now))
        }?;
        self.bucket.take();
        self.newcomer_was_last = grant.kind != Kind::Accepted;
        if awaits_probe && grant.kind == Kind::Accepted {
            self.throttle.begin_probe(number);
        }
        self.in_flight += 1;
        Some(grant)
    }

    fn grant_accepted(&mut self, members: &mut Members, now: Instant) -> Option<Grant> {
        Lane::ALL.into_iter().find_map(|lane| self.grant_in(lane, members, now))
    }

    fn grant_in(&mut self, lane: Lane, members: &mut Members, now: Instant) -> Option<Grant> {
        self.turns[lane.index()].turn(
            |_| true,
            |_, tenant| {
                let Some(member) = members.get_mut(&tenant) else { return (None, false) };
                let granted = member.grant(lane, now);
                (
                    granted.map(|waiter| Grant { tenant, waiter, lane, kind: Kind::Accepted }),
                    member.keep_turn(lane),
                )
            },
        )
    }

    /// When `grant` is worth calling again if nothing else happens.
    pub(super) fn next_at(&self, members: &Members, slots: &Slots) -> Option<Instant> {
        if self.throttle.is_probed() {
            return None;
        }
        let speed = self.throttle.speed();
        let soonest = self.bucket.ready_at(speed);
        let ready = |lane: Lane| {
            let tenants = self.turns[lane.index()].iter();
            tenants.filter_map(move |(_, tenant)| members.get(&tenant)?.ready_at(lane, soonest))
        };
        let newcomers = self.newcomers.next_at(members, slots, soonest, speed);
        let soonest = Lane::ALL.into_iter().flat_map(ready).chain(newcomers).min()?;
        Some(self.throttle.paused_until().map_or(soonest, |until| soonest.max(until)))
    }

    /// True if some wait until a call of another group or scope ends.
    pub(super) fn waits_for_a_slot(&self, slots: &Slots) -> bool {
        self.newcomers.wait_for_a_slot(slots)
    }

    /// A permit was not used: the rate gets back what it took.
    pub(super) fn put_back(&mut self, permit: &Permit) {
        self.throttle.unanswered(permit);
        self.bucket.put_back();
        if permit.kind != Kind::Accepted {
            self.newcomers.put_back();
        }
    }

    /// True if a new one would be as this one is at `now`.
    pub(super) fn is_untouched(&self, now: Instant) -> bool {
        self.in_flight == 0
            && (self.throttle.is_idle() || self.throttle.is_over(now))
            && self.bucket.is_full(now)
            && self.newcomers.is_full(now)
    }
}
