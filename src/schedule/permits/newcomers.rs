//! Integrations of one id scope that DPS has not accepted. Together they may use a small part of the
//! scope's rate, and they take turns by group, so that many of one group keep nobody else waiting.

use tokio::time::Instant;

use super::bucket::Bucket;
use super::permit::Grant;
use super::slots::{Kind, Slots};
use super::{Group, Members, Tenant};
use crate::schedule::rota::Rota;

#[derive(Debug)]
pub(super) struct Newcomers {
    bucket: Bucket,
    /// Those that wait.
    turns: Rota<Group, Tenant>,
}

/// A tenth of the rate, and of a low one a few calls all the same.
fn share_of(per_minute: u32) -> u32 {
    (per_minute / 10).max(3).min(per_minute / 2).max(1)
}

impl Newcomers {
    pub(super) fn new(per_minute: u32, now: Instant) -> Self {
        let share = share_of(per_minute);
        Self { bucket: Bucket::new(share, share / 2, now), turns: Rota::default() }
    }

    pub(super) fn refill(&mut self, now: Instant, speed: f64) {
        self.bucket.refill(now, speed);
    }

    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.bucket.is_full(now)
    }

    pub(super) fn put_back(&mut self) {
        self.bucket.put_back();
    }

    pub(super) fn join(&mut self, group: Group, tenant: Tenant) {
        self.turns.join(group, tenant);
    }

    pub(super) fn leave(&mut self, group: Group, tenant: Tenant) {
        self.turns.leave(group, tenant);
    }

    /// The next call, if the scope's rate has one left for it.
    pub(super) fn grant(&mut self, members: &mut Members, slots: &Slots, now: Instant) -> Option<Grant> {
        if !self.bucket.has_one() {
            return None;
        }
        let grant = self.turns.turn(
            |group| slots.admit_newcomer(group),
            |group, tenant| {
                let Some(member) = members.get_mut(&tenant) else { return (None, false) };
                let granted = member.grant_newcomer(now);
                let kind = Kind::Newcomer(group);
                (granted.map(|(lane, waiter)| Grant { tenant, waiter, lane, kind }), member.keep_place())
            },
        );
        if grant.is_some() {
            self.bucket.take();
        }
        grant
    }

    /// True if some wait until a call of another newcomer ends.
    pub(super) fn wait_for_a_slot(&self, slots: &Slots) -> bool {
        self.turns.groups().any(|group| !slots.admit_newcomer(group))
    }

    /// When a grant may be possible, given when the scope's bucket has a token.
    pub(super) fn next_at(
        &self,
        members: &Members,
        slots: &Slots,
        scope: Instant,
        speed: f64,
    ) -> Option<Instant> {
        let soonest = scope.max(self.bucket.ready_at(speed));
        let open = self.turns.iter().filter(|(group, _)| slots.admit_newcomer(*group));
        open.filter_map(|(_, tenant)| members.get(&tenant)?.newcomer_ready_at(soonest)).min()
    }
}
