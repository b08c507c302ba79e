//! Permits to call DPS. Pure: time comes in as an argument, permits go out as return values, and
//! nothing waits in a slot.
//!
//! One bucket per id scope, because Azure limits an instance and an instance has several host
//! names. Lanes are strict and work-conserving: a device that was never provisioned goes before one
//! that a user changed, and that one before work that concerns a whole fleet, in which devices go last
//! whose credential DPS still takes; each lane takes what the others leave. DPS's 429 halves the rate,
//! which is regained slowly, and closes the scope for as long as DPS asks; then one call goes ahead
//! and shows whether the pause is over.
//!
//! What is known of an integration's health comes in as a `Gate`: one whose credential DPS has not
//! accepted stays outside the bucket, with one call in flight and six a minute of its own, so that a
//! wrong key costs a handful of refusals and a stranger's integration cannot spend the scope's rate.
//! An instance that does not answer gets one probe instead of a fleet of them.

mod bucket;
mod gauges;
mod member;
mod scope;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use self::member::Member;
use self::scope::{Grant, Scope};
use super::Waiter;
use crate::dps::ids::IdScope;

/// Permits older than this are not used: what was granted evenly would be used all at once.
const FRESH: Duration = Duration::from_secs(1);
/// Tickets at the back count up from here, tickets at the front down.
const FIRST_TICKET: u64 = 1 << 63;

/// An integration; only the caller knows which.
pub type Tenant = u32;

type Members = HashMap<Tenant, Member>;

/// How urgent a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// The device was never provisioned.
    New,
    /// A user changed it or asked for it.
    Changed,
    /// It concerns a whole fleet: a rotated key, changed defaults, checks.
    Fleet,
    /// It concerns a whole fleet and can wait longest: the device has a key that DPS still takes.
    Last,
}

impl Lane {
    const COUNT: usize = 4;
    /// Most urgent first.
    pub const ALL: [Self; Self::COUNT] = [Self::New, Self::Changed, Self::Fleet, Self::Last];

    /// Work that a rollout may hold or slow down.
    fn is_rollout(self) -> bool {
        self >= Self::Fleet
    }

    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Changed => "changed",
            Self::Fleet => "fleet",
            Self::Last => "last",
        }
    }

    /// Its place among `ALL`.
    fn index(self) -> usize {
        self as usize
    }
}

/// What a user lets an integration use of the rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Calls a minute in all.
    pub share: Option<u32>,
    /// Calls a minute for work of the fleet.
    pub rollout: Option<u32>,
    /// Work of the fleet is held.
    pub paused: bool,
}

/// The right to make one register or lookup call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    pub tenant: Tenant,
    pub waiter: Waiter,
    lane: Lane,
    number: u64,
    granted: Instant,
    waited: Duration,
    scope: usize,
    /// Paid from the scope's bucket, not from the tenant's own.
    shared: bool,
}

/// What the end of a call says about the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// DPS admitted it.
    Admitted,
    /// 429.
    Throttled { retry_after: Option<Duration> },
    /// It says nothing about the rate.
    Unknown,
}

/// How the calls of an integration are limited beyond its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// The next call waits for the end of the one in flight.
    pub one_at_a_time: bool,
    /// Calls are paid from a small budget of its own and not from the rate of the scope.
    pub own_budget: bool,
    /// No call before this time.
    pub not_before: Option<Instant>,
}

impl Gate {
    /// As for an integration of which nothing is known.
    pub const NEWCOMER: Self = Self { one_at_a_time: true, own_budget: true, not_before: None };
    #[cfg(test)]
    pub(crate) const OPEN: Self = Self { one_at_a_time: false, own_budget: false, not_before: None };
}

/// A place in a line.
#[derive(Clone, Copy, Debug)]
struct Place {
    tenant: Tenant,
    lane: Lane,
    ticket: u64,
    since: Instant,
}

/// All scopes and integrations.
#[derive(Debug)]
pub struct Permits {
    per_minute: u32,
    max_in_flight: u32,
    in_flight: u32,
    scopes: Vec<Scope>,
    scope_ids: HashMap<IdScope, usize>,
    /// The scope whose turn it is.
    turn: usize,
    members: Members,
    places: HashMap<Waiter, Place>,
    /// `places` by lane.
    waiting: [usize; Lane::COUNT],
    next_ticket: u64,
    next_front_ticket: u64,
    next_number: u64,
}

impl Permits {
    pub fn new(per_minute: u32, max_in_flight: u32) -> Self {
        Self {
            per_minute,
            max_in_flight,
            in_flight: 0,
            scopes: Vec::new(),
            scope_ids: HashMap::new(),
            turn: 0,
            members: HashMap::new(),
            places: HashMap::new(),
            waiting: [0; Lane::COUNT],
            next_ticket: FIRST_TICKET,
            next_front_ticket: FIRST_TICKET - 1,
            next_number: 0,
        }
    }

    /// Takes in an integration that is new, or whose scope, credential or route has changed.
    pub fn admit(&mut self, tenant: Tenant, scope: IdScope, gate: Gate, now: Instant) {
        self.leave_scope(tenant);
        let index = *self.scope_ids.entry(scope).or_insert_with(|| {
            self.scopes.push(Scope::new(self.per_minute, now));
            self.scopes.len() - 1
        });
        let member = self.members.entry(tenant).or_insert_with(|| Member::new(index, now));
        member.admit(index, gate);
        for lane in member.rejoin() {
            self.scopes[index].join(tenant, lane);
        }
    }

    /// Sets how the integration's calls are limited from now on.
    pub fn set_gate(&mut self, tenant: Tenant, gate: Gate) {
        if let Some(member) = self.members.get_mut(&tenant) {
            member.gate = gate;
        }
    }

    /// Sets what the integration may use of the rate.
    pub fn limit(&mut self, tenant: Tenant, limits: Limits, now: Instant) {
        if let Some(member) = self.members.get_mut(&tenant) {
            member.limit(limits, now);
        }
    }

    /// Forgets an integration and returns the devices that were waiting for it.
    pub fn dismiss(&mut self, tenant: Tenant) -> Vec<Waiter> {
        self.leave_scope(tenant);
        // The member stays: calls in flight are still counted.
        let Some(member) = self.members.get_mut(&tenant) else { return Vec::new() };
        member.dismissed = true;
        let waiters = member.take_all();
        for waiter in &waiters {
            self.unplace(*waiter);
        }
        waiters
    }

    fn leave_scope(&mut self, tenant: Tenant) {
        if let Some(member) = self.members.get(&tenant) {
            self.scopes[member.scope].leave(tenant);
        }
    }

    /// Queues a device, or moves it up if it waits in a later lane. False if the integration is not
    /// known.
    pub fn enqueue(&mut self, tenant: Tenant, waiter: Waiter, lane: Lane, now: Instant) -> bool {
        let before = self.places.get(&waiter).copied();
        if before.is_some_and(|place| place.tenant == tenant && place.lane <= lane) {
            return true;
        }
        let since = before.filter(|place| place.tenant == tenant).map_or(now, |place| place.since);
        self.leave(waiter);
        self.next_ticket += 1;
        self.place(waiter, Place { tenant, lane, ticket: self.next_ticket, since })
    }

    fn place(&mut self, waiter: Waiter, place: Place) -> bool {
        let Some(member) = self.members.get_mut(&place.tenant).filter(|member| !member.dismissed) else {
            return false;
        };
        if member.push(place.lane, place.ticket, waiter) {
            self.scopes[member.scope].join(place.tenant, place.lane);
        }
        self.places.insert(waiter, place);
        self.waiting[place.lane.index()] += 1;
        true
    }

    fn unplace(&mut self, waiter: Waiter) -> Option<Place> {
        let place = self.places.remove(&waiter)?;
        self.waiting[place.lane.index()] -= 1;
        Some(place)
    }

    /// Gives up a place.
    pub fn leave(&mut self, waiter: Waiter) {
        let Some(place) = self.unplace(waiter) else { return };
        if let Some(member) = self.members.get_mut(&place.tenant) {
            member.remove(place.lane, place.ticket);
        }
    }

    /// Since when a device waits.
    pub fn waiting_since(&self, waiter: Waiter) -> Option<Instant> {
        self.places.get(&waiter).map(|place| place.since)
    }

    /// The devices that wait for an integration.
    pub fn waiters(&self, tenant: Tenant) -> Vec<Waiter> {
        self.members.get(&tenant).into_iter().flat_map(Member::waiters).collect()
    }

    /// The next permit, if one can be given now. Scopes take turns, and no scope may use up what all
    /// may have in flight.
    pub fn poll(&mut self, now: Instant) -> Option<Permit> {
        if self.in_flight >= self.max_in_flight {
            return None;
        }
        let (count, most) = (self.scopes.len(), self.most_in_flight());
        for offset in 0..count {
            let index = (self.turn + offset) % count;
            let scope = &mut self.scopes[index];
            if scope.in_flight >= most {
                continue;
            }
            let Some(grant) = scope.grant(&mut self.members, self.next_number, now) else { continue };
            self.turn = index + 1;
            return Some(self.permit(grant, index, now));
        }
        None
    }

    fn permit(&mut self, grant: Grant, scope: usize, now: Instant) -> Permit {
        let Grant { tenant, waiter, lane, shared } = grant;
        let waited =
            self.unplace(waiter).map_or(Duration::ZERO, |place| now.saturating_duration_since(place.since));
        self.in_flight += 1;
        self.next_number += 1;
        Permit { tenant, waiter, lane, number: self.next_number - 1, granted: now, waited, scope, shared }
    }

    fn most_in_flight(&self) -> u32 {
        self.max_in_flight - self.max_in_flight / 4
    }

    /// When `poll` is worth calling again if nothing else happens.
    pub fn next_at(&self) -> Option<Instant> {
        if self.in_flight >= self.max_in_flight {
            return None;
        }
        let open = self.scopes.iter().filter(|scope| scope.in_flight < self.most_in_flight());
        open.filter_map(|scope| scope.next_at(&self.members)).min()
    }

    /// False if the permit has been held for too long to be used; it has to be given back then.
    pub fn is_fresh(&self, permit: &Permit, now: Instant) -> bool {
        now.saturating_duration_since(permit.granted) <= FRESH
    }

    /// Gives back a permit that was not used, with what it took from the rate.
    pub fn unused(&mut self, permit: Permit) {
        self.put_back(permit, permit.lane);
    }

    /// A permit served to begin work of the fleet that needs no call: the rate gets it back, the
    /// rollout does not.
    pub fn no_call(&mut self, permit: Permit) {
        // Only work of the fleet is limited by the rollout.
        self.put_back(permit, Lane::Changed);
    }

    fn put_back(&mut self, permit: Permit, lane: Lane) {
        self.release(&permit);
        self.scopes[permit.scope].not_made(&permit);
        if permit.shared {
            self.scopes[permit.scope].put_back();
        }
        if let Some(member) = self.members.get_mut(&permit.tenant) {
            member.put_back(lane, permit.shared);
        }
    }

    /// Gives back a permit that came too late; the device is next in its lane.
    pub fn next_time(&mut self, permit: Permit, now: Instant) {
        self.unused(permit);
        self.next_front_ticket -= 1;
        let Permit { tenant, waiter, lane, .. } = permit;
        self.place(waiter, Place { tenant, lane, ticket: self.next_front_ticket, since: now });
    }

    /// DPS has admitted a call that goes on: if it was to show whether a pause is over, it is.
    pub fn admitted(&mut self, permit: &Permit) {
        self.scopes[permit.scope].answered(permit);
    }

    /// True if other calls wait until DPS has admitted this one.
    pub fn is_awaited(&self, permit: &Permit) -> bool {
        let one_at_a_time = self.members.get(&permit.tenant).is_some_and(|member| member.gate.one_at_a_time);
        one_at_a_time || self.scopes[permit.scope].is_probe(permit)
    }

    /// A call has ended.
    pub fn finished(&mut self, permit: Permit, ended: Ended, now: Instant) {
        self.release(&permit);
        let scope = &mut self.scopes[permit.scope];
        scope.answered(&permit);
        match ended {
            Ended::Throttled { retry_after } => scope.throttled(&permit, retry_after, now),
            Ended::Admitted => scope.not_throttled(&permit),
            Ended::Unknown => {}
        }
    }

    fn release(&mut self, permit: &Permit) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let scope = &mut self.scopes[permit.scope];
        scope.in_flight = scope.in_flight.saturating_sub(1);
        if let Some(member) = self.members.get_mut(&permit.tenant) {
            member.in_flight = member.in_flight.saturating_sub(1);
        }
    }

    /// Until when DPS has asked this integration's scope to wait.
    pub fn paused_until(&self, tenant: Tenant) -> Option<Instant> {
        self.members.get(&tenant).and_then(|member| self.scopes[member.scope].paused_until())
    }
}
