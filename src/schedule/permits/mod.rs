//! Permits to call DPS. Pure: time comes in as an argument, permits go out as return values, and
//! nothing waits in a slot.
//!
//! One bucket per id scope, because Azure limits an instance and an instance has several host
//! names. Lanes are strict and work-conserving: a device that was never provisioned goes before one
//! that a user changed, and that one before work that concerns a whole fleet, in which devices go last
//! whose credential DPS still takes; each lane takes what the others leave. In a lane namespaces take
//! turns, in a namespace its integrations, and in an integration the namespaces of its devices. DPS's
//! 429 halves the rate, which is regained slowly, and closes the scope for as long as DPS asks; then one
//! call goes ahead and shows whether the pause is over.
//!
//! What is known of an integration's health comes in as a `Gate`: a newcomer, whose credential DPS has
//! not accepted, has one call in flight and six a minute of its own, and all newcomers of a scope share
//! a small part of its rate, in which groups take turns: a wrong key costs a handful of refusals, and
//! strangers can neither use up the scope's rate nor pause it, however often they change what they
//! declare. An instance that does not answer gets one probe instead of a fleet of them.

mod agenda;
mod bucket;
mod gauges;
mod kept;
mod line;
mod member;
mod newcomers;
mod permit;
mod scope;
mod slots;
#[cfg(test)]
mod tests;
mod throttle;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use self::agenda::Agenda;
use self::member::Member;
use self::permit::Grant;
pub use self::permit::{Ended, Gate, Lane, Limits, Permit};
use self::scope::Scope;
use self::slots::Slots;
pub use self::throttle::pause;
use super::Waiter;
use super::turns::Party;
use crate::dps::ids::IdScope;

/// Permits older than this are not used: what was granted evenly would be used all at once.
const FRESH: Duration = Duration::from_secs(1);
/// Tickets at the back count up from here, tickets at the front down.
const FIRST_TICKET: u64 = 1 << 63;
/// Scopes and integrations that are kept without a look at whether they are worth it.
const KEPT: usize = 64;

/// An integration; only the caller knows which.
pub type Tenant = u32;
/// Newcomers that share a turn: those of one namespace; only the caller knows which.
pub type Group = u64;
/// An id scope, in the order in which they were named first.
type ScopeKey = u32;

type Members = HashMap<Tenant, Member>;

/// A place in a line.
#[derive(Clone, Copy, Debug)]
struct Place {
    tenant: Tenant,
    /// The device's.
    namespace: u32,
    lane: Lane,
    /// The device has credentials of its own: what DPS says of the shared one does not hold it.
    alone: bool,
    ticket: u64,
    since: Instant,
}

/// All scopes and integrations.
#[derive(Debug)]
pub struct Permits {
    per_minute: u32,
    slots: Slots,
    scopes: BTreeMap<ScopeKey, Scope>,
    /// By id, whose letters count in either case: an instance has one rate, however its scope is written.
    scope_keys: HashMap<String, ScopeKey>,
    next_scope: ScopeKey,
    /// The scope whose turn it is.
    turn: ScopeKey,
    agenda: Agenda,
    members: Members,
    places: HashMap<Waiter, Place>,
    /// `places` by lane.
    waiting: [usize; Lane::COUNT],
    next_ticket: u64,
    next_front_ticket: u64,
    next_number: u64,
    /// So many scopes and integrations are kept before it is looked which are worth it.
    tidy_at: usize,
}

impl Permits {
    pub fn new(per_minute: u32, max_in_flight: u32) -> Self {
        Self {
            per_minute,
            slots: Slots::new(max_in_flight),
            scopes: BTreeMap::new(),
            scope_keys: HashMap::new(),
            next_scope: 0,
            turn: 0,
            agenda: Agenda::default(),
            members: HashMap::new(),
            places: HashMap::new(),
            waiting: [0; Lane::COUNT],
            next_ticket: FIRST_TICKET,
            next_front_ticket: FIRST_TICKET - 1,
            next_number: 0,
            tidy_at: KEPT,
        }
    }

    /// Takes in an integration that is new, or whose scope, credential or route has changed.
    pub fn admit(&mut self, tenant: Tenant, group: Group, scope: &IdScope, gate: Gate, now: Instant) {
        self.leave_scope(tenant);
        let key = self.scope_key(scope, now);
        let member = self.members.entry(tenant).or_insert_with(|| Member::new(key, group, now));
        member.admit(key, group, gate);
        self.join_scope(tenant);
        self.tidy(now);
    }

    /// Sets how the integration's calls are limited from now on.
    pub fn set_gate(&mut self, tenant: Tenant, gate: Gate) {
        let Some(member) = self.members.get_mut(&tenant) else { return };
        let before = std::mem::replace(&mut member.gate, gate);
        self.agenda.changed(member.scope);
        if before.own_budget != gate.own_budget {
            self.leave_scope(tenant);
            self.join_scope(tenant);
        }
    }

    /// Sets what the integration may use of the rate.
    pub fn limit(&mut self, tenant: Tenant, limits: Limits, now: Instant) {
        if let Some(member) = self.members.get_mut(&tenant) {
            member.limit(limits, now);
            self.agenda.changed(member.scope);
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
        if let Some(member) = self.members.get_mut(&tenant)
            && let Some(scope) = self.scopes.get_mut(&member.scope)
        {
            scope.leave(tenant, member);
            self.agenda.changed(member.scope);
        }
    }

    /// Gives the integration the turns that its waiting devices need.
    fn join_scope(&mut self, tenant: Tenant) {
        if let Some(member) = self.members.get_mut(&tenant)
            && let Some(scope) = self.scopes.get_mut(&member.scope)
        {
            scope.join(tenant, member);
            self.agenda.changed(member.scope);
        }
    }

    /// Queues a device, or moves it up if it waits in a later lane. False if the integration is not
    /// known.
    pub fn enqueue(&mut self, party: Party, waiter: Waiter, lane: Lane, now: Instant) -> bool {
        self.line_up(party, waiter, (lane, false), now)
    }

    /// The same for a device with credentials of its own.
    pub fn enqueue_alone(&mut self, party: Party, waiter: Waiter, lane: Lane, now: Instant) -> bool {
        self.line_up(party, waiter, (lane, true), now)
    }

    fn line_up(&mut self, party: Party, waiter: Waiter, (lane, alone): (Lane, bool), now: Instant) -> bool {
        let Party { namespace, integration: tenant } = party;
        let before = self.places.get(&waiter).copied();
        let stays = |place: Place| place.tenant == tenant && place.lane <= lane && place.alone == alone;
        if before.is_some_and(stays) {
            return true;
        }
        let since = before.filter(|place| place.tenant == tenant).map_or(now, |place| place.since);
        self.leave(waiter);
        self.next_ticket += 1;
        self.place(waiter, Place { tenant, namespace, lane, alone, ticket: self.next_ticket, since })
    }

    /// Queues a device with the shared credential before all others of its lane.
    pub fn enqueue_first(&mut self, party: Party, waiter: Waiter, lane: Lane, now: Instant) -> bool {
        let Party { namespace, integration: tenant } = party;
        let before = self.places.get(&waiter).copied().filter(|place| place.tenant == tenant);
        let is_first = |place: Place| place.lane <= lane && !place.alone && place.ticket < FIRST_TICKET;
        if before.is_some_and(is_first) {
            return true;
        }
        self.leave(waiter);
        self.next_front_ticket -= 1;
        let since = before.map_or(now, |place| place.since);
        let lane = before.map_or(lane, |place| place.lane.min(lane));
        let ticket = self.next_front_ticket;
        self.place(waiter, Place { tenant, namespace, lane, alone: false, ticket, since })
    }

    fn place(&mut self, waiter: Waiter, place: Place) -> bool {
        let Some(member) = self.members.get_mut(&place.tenant).filter(|member| !member.dismissed) else {
            return false;
        };
        member.line_mut(place.lane, place.alone).push(place.namespace, place.ticket, waiter);
        self.join_scope(place.tenant);
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
            member.line_mut(place.lane, place.alone).remove(place.namespace, place.ticket);
            self.agenda.changed(member.scope);
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

    /// The next permit, if one can be given now. Scopes take turns, and each leaves room for the others.
    /// Costs a look at each scope in which something has changed, whose time has come, or that DPS has
    /// throttled; the others cost nothing.
    pub fn poll(&mut self, now: Instant) -> Option<Permit> {
        let is_slowed = |key| self.scopes.get(&key).is_some_and(|scope: &Scope| !scope.throttle.is_idle());
        self.agenda.advance(now, is_slowed);
        while let Some(key) = self.agenda.next_after(self.turn) {
            let Some(scope) = self.scopes.get_mut(&key) else {
                self.agenda.looked_at(key, None, false);
                continue;
            };
            let admitted = self.slots.admit_scope(scope.in_flight);
            if admitted
                && let Some(grant) = scope.grant(&mut self.members, &self.slots, self.next_number, now)
            {
                self.turn = key;
                return Some(self.permit(grant, key, now));
            }
            let at = scope.next_at(&self.members, &self.slots).filter(|_| admitted);
            let blocked = !admitted || scope.waits_for_a_slot(&self.slots);
            self.agenda.looked_at(key, at, blocked);
        }
        None
    }

    fn permit(&mut self, grant: Grant, scope: ScopeKey, now: Instant) -> Permit {
        let Grant { tenant, waiter, lane, kind } = grant;
        let place = self.unplace(waiter);
        let waited = place.map_or(Duration::ZERO, |place| now.saturating_duration_since(place.since));
        let alone = place.is_some_and(|place| place.alone);
        self.slots.take(kind);
        self.next_number += 1;
        Permit {
            tenant,
            waiter,
            lane,
            number: self.next_number - 1,
            granted: now,
            waited,
            scope,
            kind,
            alone,
        }
    }

    /// When `poll` is worth calling again if nothing else happens.
    pub fn next_at(&self) -> Option<Instant> {
        let open = self.agenda.open().filter_map(|key| self.scopes.get(&key));
        let open = open.filter(|scope| self.slots.admit_scope(scope.in_flight));
        let at = open.filter_map(|scope| scope.next_at(&self.members, &self.slots));
        at.chain(self.agenda.next_at()).min()
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
        if let Some(scope) = self.scopes.get_mut(&permit.scope) {
            scope.put_back(&permit);
        }
        if let Some(member) = self.members.get_mut(&permit.tenant) {
            member.put_back(lane, permit.is_newcomers());
        }
    }

    /// Gives back a permit that came too late; the device is next in its lane.
    pub fn next_time(&mut self, permit: Permit, now: Instant) {
        self.unused(permit);
        self.next_front_ticket -= 1;
        let Permit { tenant, waiter, lane, alone, .. } = permit;
        // In front of all it is of no account.
        let namespace = 0;
        self.place(
            waiter,
            Place { tenant, namespace, lane, alone, ticket: self.next_front_ticket, since: now },
        );
    }

    /// DPS has admitted a call that goes on: if it was to show whether a pause is over, it is.
    pub fn admitted(&mut self, permit: &Permit) {
        if let Some(scope) = self.scopes.get_mut(&permit.scope) {
            scope.throttle.answered(permit);
        }
    }

    /// True if other calls wait until DPS has admitted this one.
    pub fn is_awaited(&self, permit: &Permit) -> bool {
        let one_at_a_time = self.members.get(&permit.tenant).is_some_and(|member| member.gate.one_at_a_time);
        let scope = self.scopes.get(&permit.scope);
        one_at_a_time || scope.is_some_and(|scope| scope.throttle.is_probe(permit))
    }

    /// A call has ended.
    pub fn finished(&mut self, permit: Permit, ended: Ended, now: Instant) {
        self.release(&permit);
        // What was said to a newcomer says nothing about the scope's rate.
        let scope = self.scopes.get_mut(&permit.scope).filter(|_| !permit.is_newcomers());
        let Some(throttle) = scope.map(|scope| &mut scope.throttle) else { return };
        match ended {
            Ended::Unanswered => throttle.unanswered(&permit),
            Ended::Answered => throttle.answered(&permit),
            Ended::Admitted => {
                throttle.answered(&permit);
                throttle.not_throttled(&permit);
            }
            Ended::Throttled { retry_after } => {
                throttle.answered(&permit);
                throttle.throttled(&permit, retry_after, now);
                self.agenda.slowed(permit.scope);
            }
        }
    }

    fn release(&mut self, permit: &Permit) {
        self.slots.give_back(permit.kind);
        self.agenda.call_ended();
        self.agenda.changed(permit.scope);
        if let Some(scope) = self.scopes.get_mut(&permit.scope) {
            scope.in_flight = scope.in_flight.saturating_sub(1);
        }
        if let Some(member) = self.members.get_mut(&permit.tenant) {
            member.in_flight = member.in_flight.saturating_sub(1);
            self.agenda.changed(member.scope);
        }
    }

    /// Until when DPS has asked this integration's scope to wait. A newcomer does not learn how the
    /// scope fares.
    pub fn paused_until(&self, tenant: Tenant) -> Option<Instant> {
        let member = self.members.get(&tenant).filter(|member| !member.gate.own_budget)?;
        self.scopes.get(&member.scope)?.throttle.paused_until()
    }
}
