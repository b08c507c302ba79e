//! Who may call DPS next. Pure: time comes in as an argument, permits go out as return values, and
//! nobody waits in a slot.
//!
//! One bucket per id scope, because Azure limits an instance and an instance has several host
//! names. Lanes are strict and work-conserving: a device that was never provisioned goes before one
//! that a user changed, and that before work that concerns a whole fleet (in which those come last
//! that have a key that DPS still takes); each lane takes whatever the others leave. DPS's 429 halves
//! the rate, which is regained slowly, and closes the scope for as long as DPS asks; then one call goes
//! ahead to see.
//!
//! An integration whose key DPS has not accepted yet stays outside the bucket: one call in flight
//! and six a minute of its own, so that a wrong key costs a handful of refusals and a stranger's
//! integration cannot spend the scope's rate. The same narrow gate serves an instance that does
//! not answer: one probe instead of a fleet of them.

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

/// Permits older than this are not used: what was handed out evenly would be used in a heap.
const FRESH: Duration = Duration::from_secs(1);
/// Tickets at the back count up from here, tickets at the front down.
const FIRST_TICKET: u64 = 1 << 63;

/// An integration; what it means is the caller's business.
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
    /// The same, and it can wait longest: the device has a key that DPS still takes.
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

    /// Its place among `ALL`.
    pub fn index(self) -> usize {
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

/// Leave to make one register or lookup call.
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
    /// DPS answered, and that says nothing about the key.
    Answered,
    /// It was made, and what came of it does not concern the integration as it is now.
    Unknown,
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

/// Where somebody waits.
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

    /// Makes an integration known, or tells that its scope, key or route changed. Refusals and
    /// outages of the past are forgotten: what changed may have mended them.
    pub fn admit(&mut self, tenant: Tenant, scope: IdScope, accepted: bool, now: Instant) {
        self.leave_scope(tenant);
        let index = *self.scope_ids.entry(scope).or_insert_with(|| {
            self.scopes.push(Scope::new(self.per_minute, now));
            self.scopes.len() - 1
        });
        let member = self.members.entry(tenant).or_insert_with(|| Member::new(index, now));
        member.admit(index, accepted, now);
        for lane in member.rejoin() {
            self.scopes[index].join(tenant, lane);
        }
    }

    /// Tells that DPS refused this very key before: it is tried after the first wait.
    pub fn recall_refusal(&mut self, tenant: Tenant, now: Instant) {
        if let Some(member) = self.members.get_mut(&tenant) {
            member.recall_refusal(now);
        }
    }

    /// Sets what the integration may use of the rate.
    pub fn limit(&mut self, tenant: Tenant, limits: Limits, now: Instant) {
        if let Some(member) = self.members.get_mut(&tenant) {
            member.limit(limits, now);
        }
    }

    /// Forgets an integration and returns who was waiting for it.
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

    /// Who waits for an integration.
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

    /// DPS has accepted the key of a call that goes on: the others need not wait for its end.
    pub fn accepted(&mut self, permit: Permit, now: Instant) {
        self.scopes[permit.scope].answered(&permit);
        if let Some(member) = self.members.get_mut(&permit.tenant) {
            member.learn(permit.waiter, Outcome::Accepted, now);
        }
    }

    /// True if somebody waits for the word that DPS has accepted this call.
    pub fn is_awaited(&self, permit: &Permit) -> bool {
        self.narrow(permit.tenant).is_some() || self.scopes[permit.scope].is_probe(permit)
    }

    /// A permitted call has ended.
    pub fn finished(&mut self, permit: Permit, outcome: Outcome, now: Instant) {
        self.release(&permit);
        let scope = &mut self.scopes[permit.scope];
        scope.answered(&permit);
        match outcome {
            Outcome::Throttled { retry_after } => scope.throttled(&permit, retry_after, now),
            Outcome::Accepted => scope.not_throttled(&permit),
            _ => {}
        }
        if let Some(member) = self.members.get_mut(&permit.tenant) {
            member.learn(permit.waiter, outcome, now);
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

    /// Why the integration's calls go one at a time, if they do.
    pub fn narrow(&self, tenant: Tenant) -> Option<Narrow> {
        self.members.get(&tenant).and_then(Member::narrow)
    }

    /// Until when DPS has asked this integration's scope to wait.
    pub fn paused_until(&self, tenant: Tenant) -> Option<Instant> {
        self.members.get(&tenant).and_then(|member| self.scopes[member.scope].paused_until())
    }
}
