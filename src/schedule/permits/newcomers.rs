//! Integrations of one id scope that DPS has not accepted. Together they may use a small part of the
//! scope's rate, and they take turns by group, so that many of one group keep nobody else waiting.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::bucket::Bucket;
use super::permit::Grant;
use super::slots::{Kind, Slots};
use super::{Group, Members, Tenant};

#[derive(Debug)]
pub(super) struct Newcomers {
    bucket: Bucket,
    /// Groups with tenants that wait, in turn, and their tenants in turn.
    groups: VecDeque<(Group, VecDeque<Tenant>)>,
}

/// A tenth of the rate, and of a low one a few calls all the same.
fn share_of(per_minute: u32) -> u32 {
    (per_minute / 10).max(3).min(per_minute / 2).max(1)
}

impl Newcomers {
    pub(super) fn new(per_minute: u32, now: Instant) -> Self {
        let share = share_of(per_minute);
        Self { bucket: Bucket::new(share, share / 2, now), groups: VecDeque::new() }
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
        match self.groups.iter_mut().find(|(known, _)| *known == group) {
            Some((_, tenants)) => tenants.push_back(tenant),
            None => self.groups.push_back((group, VecDeque::from([tenant]))),
        }
    }

    pub(super) fn leave(&mut self, tenant: Tenant) {
        self.groups.iter_mut().for_each(|(_, tenants)| tenants.retain(|other| *other != tenant));
        self.groups.retain(|(_, tenants)| !tenants.is_empty());
    }

    /// The next call, if the scope's rate has one left for it.
    pub(super) fn grant(&mut self, members: &mut Members, slots: &Slots, now: Instant) -> Option<Grant> {
        if !self.bucket.has_one() {
            return None;
        }
        for _ in 0..self.groups.len() {
            let (group, mut tenants) = self.groups.pop_front()?;
            let admitted = slots.admit_newcomer(group);
            let grant = if admitted { grant_in(group, &mut tenants, members, now) } else { None };
            if !tenants.is_empty() {
                self.groups.push_back((group, tenants));
            }
            if grant.is_some() {
                self.bucket.take();
                return grant;
            }
        }
        None
    }

    /// True if some wait until a call of another newcomer ends.
    pub(super) fn wait_for_a_slot(&self, slots: &Slots) -> bool {
        self.groups.iter().any(|(group, _)| !slots.admit_newcomer(*group))
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
        let open = self.groups.iter().filter(|(group, _)| slots.admit_newcomer(*group));
        let tenants = open.flat_map(|(_, tenants)| tenants);
        tenants.filter_map(|tenant| members.get(tenant)?.newcomer_ready_at(soonest)).min()
    }
}

/// The next call of a group; its tenants take turns.
fn grant_in(
    group: Group,
    tenants: &mut VecDeque<Tenant>,
    members: &mut Members,
    now: Instant,
) -> Option<Grant> {
    for _ in 0..tenants.len() {
        let tenant = tenants.pop_front()?;
        let Some(member) = members.get_mut(&tenant) else { continue };
        let granted = member.grant_newcomer(now);
        if member.keep_place() {
            tenants.push_back(tenant);
        }
        if let Some((lane, waiter)) = granted {
            return Some(Grant { tenant, waiter, lane, kind: Kind::Newcomer(group) });
        }
    }
    None
}
