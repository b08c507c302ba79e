//! Random runs in which integrations that DPS never accepts do what they can beside one that it has
//! accepted.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::super::*;
use super::{HOME, MINUTE, most_in_a_minute};

/// The accepted integration.
const INNOCENT: Tenant = 1;
/// Ten strangers in one namespace, and one in another.
const STRANGERS: std::ops::Range<Tenant> = 100..111;
const IN_FLIGHT: u32 = 64;
/// Calls of a stranger in a minute, also after it was edited.
const OF_A_STRANGER: usize = 6;

fn group_of(stranger: Tenant) -> Group {
    if stranger == 110 { 9 } else { 8 }
}

#[derive(Clone, Copy, Debug)]
enum Happens {
    /// Devices of the accepted integration want a call.
    Wants(u8),
    /// Devices of a stranger do.
    StrangerWants(Tenant, Lane, u8),
    /// A stranger changes its scope: the common one, that in other letters, or one of its own.
    Edits(Tenant, u8),
    /// It is deleted and declared again.
    IsDeclaredAgain(Tenant),
    /// One of the strangers' calls ends; until then each goes on for ever.
    CallEnds(u8, Ended),
    /// A stranger's permit that was granted just now comes back unused.
    ComesBack,
    Millis(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    let lane = || prop_oneof![Just(Lane::New), Just(Lane::Changed), Just(Lane::Fleet)];
    let ended = prop_oneof![
        3 => Just(Ended::Answered),
        1 => Just(Ended::Unanswered),
        1 => Just(Ended::Throttled { retry_after: None }),
        2 => Just(Ended::Throttled { retry_after: Some(MINUTE * 60) }),
    ];
    prop_oneof![
        3 => (1..6_u8).prop_map(Happens::Wants),
        5 => (STRANGERS, lane(), 1..30_u8).prop_map(|(who, lane, many)| Happens::StrangerWants(who, lane, many)),
        3 => (STRANGERS, 0..3_u8).prop_map(|(who, scope)| Happens::Edits(who, scope)),
        2 => STRANGERS.prop_map(Happens::IsDeclaredAgain),
        5 => (any::<u8>(), ended).prop_map(|(which, ended)| Happens::CallEnds(which, ended)),
        1 => Just(Happens::ComesBack),
        4 => (1..30_000_u64).prop_map(Happens::Millis),
    ]
}

/// A queue, and who waits in it since when and behind how many.
struct Model {
    queue: Permits,
    limit: u32,
    now: Instant,
    next: Waiter,
    /// Devices of the accepted integration: when each has its turn at the latest.
    innocent: BTreeMap<Waiter, Instant>,
    strangers: BTreeSet<Waiter>,
    held: Vec<Permit>,
    /// Of the common scope.
    grants: Vec<(Instant, u64, Tenant)>,
    scopes: BTreeMap<Tenant, u8>,
    of_strangers: BTreeMap<Tenant, Vec<(Instant, u64)>>,
    served: BTreeSet<Waiter>,
}

impl Model {
    fn new(limit: u32) -> Self {
        let now = Instant::now();
        let mut model = Self {
            queue: Permits::new(limit, IN_FLIGHT),
            limit,
            now,
            next: 0,
            innocent: BTreeMap::new(),
            strangers: BTreeSet::new(),
            held: Vec::new(),
            grants: Vec::new(),
            scopes: STRANGERS.map(|stranger| (stranger, 0)).collect(),
            of_strangers: BTreeMap::new(),
            served: BTreeSet::new(),
        };
        model.queue.admit(INNOCENT, HOME, &scope_of(INNOCENT, 0), Gate::OPEN, now);
        STRANGERS.for_each(|stranger| model.declare(stranger));
        model
    }

    fn declare(&mut self, stranger: Tenant) {
        let scope = scope_of(stranger, self.scopes[&stranger]);
        self.queue.admit(stranger, group_of(stranger), &scope, Gate::NEWCOMER, self.now);
    }

    fn waiter(&mut self) -> Waiter {
        self.next += 1;
        self.next
    }

    /// The longest that a device of the accepted integration waits behind so many others of it: each
    /// second call at the most is a stranger's, however many of them there are.
    fn bound(&self, ahead: usize) -> Duration {
        let burst = (self.limit / 120).max(1);
        let between = Duration::from_secs(61) / (self.limit - burst + 1);
        let calls = 2 * (u32::try_from(ahead).unwrap() + 1);
        between * calls + Duration::from_millis(10)
    }

    fn happens(&mut self, what: Happens) {
        match what {
            Happens::Wants(many) => (0..many).for_each(|_| {
                let (waiter, by) = (self.waiter(), self.now + self.bound(self.innocent.len()));
                assert!(self.queue.enqueue(party(INNOCENT), waiter, Lane::New, self.now));
                self.innocent.insert(waiter, by);
            }),
            Happens::StrangerWants(stranger, lane, many) => (0..many).for_each(|_| {
                let waiter = self.waiter();
                assert!(self.queue.enqueue(party(stranger), waiter, lane, self.now));
                self.strangers.insert(waiter);
            }),
            Happens::Edits(stranger, scope) => {
                self.scopes.insert(stranger, scope);
                self.declare(stranger);
            }
            Happens::IsDeclaredAgain(stranger) => {
                let gone = self.queue.dismiss(stranger);
                gone.iter().for_each(|waiter| assert!(self.strangers.remove(waiter), "{waiter} was waiting"));
                self.declare(stranger);
            }
            Happens::CallEnds(which, ended) => {
                if let Some(permit) = self.take(which) {
                    self.queue.finished(permit, ended, self.now);
                }
            }
            Happens::ComesBack => {
                if let Some(at) = self.held.iter().rposition(|permit| permit.granted == self.now) {
                    let permit = self.held.remove(at);
                    self.forget(permit);
                }
            }
            Happens::Millis(millis) => return self.pass(Duration::from_millis(millis)),
        }
        self.grant();
    }

    fn take(&mut self, which: u8) -> Option<Permit> {
        let at = usize::from(which).checked_rem(self.held.len())?;
        Some(self.held.swap_remove(at))
    }

    /// A permit was not used; its device asks again.
    fn forget(&mut self, permit: Permit) {
        self.grants.retain(|(_, number, _)| *number != permit.number);
        self.of_strangers.entry(permit.tenant).or_default().retain(|(_, number)| *number != permit.number);
        self.queue.unused(permit);
        if self.queue.enqueue(party(permit.tenant), permit.waiter, permit.lane, self.now) {
            self.served.remove(&permit.waiter);
            self.strangers.insert(permit.waiter);
        }
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.queue.next_at().filter(|at| *at <= until) {
            self.now = at.max(self.now + Duration::from_micros(1));
            self.grant();
        }
        self.now = until.max(self.now);
        self.grant();
    }

    fn grant(&mut self) {
        while let Some(permit) = self.queue.poll(self.now) {
            assert!(self.served.insert(permit.waiter), "{permit:?} was served before");
            let common = permit.tenant == INNOCENT || self.scopes[&permit.tenant] < 2;
            if common {
                self.grants.push((self.now, permit.number, permit.tenant));
            }
            if permit.tenant == INNOCENT {
                let by = self.innocent.remove(&permit.waiter).unwrap();
                assert!(self.now <= by, "{:?} too late", self.now - by);
                self.queue.finished(permit, Ended::Admitted, self.now);
            } else {
                assert!(self.strangers.remove(&permit.waiter));
                self.of_strangers.entry(permit.tenant).or_default().push((self.now, permit.number));
                self.held.push(permit);
            }
        }
        let late = self.innocent.values().find(|by| **by < self.now);
        assert!(late.is_none(), "a device still waits that should have had its turn");
    }

    /// Every call ends, and all that wait have their turn.
    fn run_out(&mut self) {
        for _ in 0..100_000 {
            while let Some(permit) = self.held.pop() {
                self.queue.finished(permit, Ended::Answered, self.now);
            }
            self.grant();
            if let Some(next) = self.queue.next_at() {
                self.now = next.max(self.now + Duration::from_micros(1));
            } else if self.held.is_empty() {
                return;
            }
        }
    }

    fn most(&self, of: impl Fn(Tenant) -> bool) -> usize {
        let times = self.grants.iter().filter(|(_, _, tenant)| of(*tenant)).map(|(at, _, _)| *at);
        most_in_a_minute(&times.collect::<Vec<_>>())
    }
}

fn party(integration: Tenant) -> Party {
    Party { namespace: 7, integration }
}

fn scope_of(stranger: Tenant, which: u8) -> IdScope {
    let scope = match which {
        0 => "0ne1".to_owned(),
        1 => "0NE1".to_owned(),
        _ => format!("0neX{stranger}"),
    };
    IdScope::parse(&scope).unwrap()
}

/// Strangers that hold all that they may, ask for more and never end a call.
#[test]
fn the_wait_of_an_accepted_integration_does_not_depend_on_how_many_others_misbehave() {
    for limit in [1, 2, 7, 60, 600] {
        for strangers in [1, 3, 11] {
            let mut model = Model::new(limit);
            for stranger in STRANGERS.take(strangers) {
                model.happens(Happens::StrangerWants(stranger, Lane::New, 100));
            }
            for _ in 0..20 {
                model.happens(Happens::Wants(3));
                model.happens(Happens::Millis(20_000));
            }
            model.run_out();
            assert!(model.innocent.is_empty() && model.strangers.is_empty(), "{limit} {strangers}");
        }
    }
}

fn cases() -> u32 {
    if std::env::var("DPS_FAULTS").is_ok_and(|which| which == "all") { 2000 } else { 24 }
}

proptest! {
    #![proptest_config(Config { cases: cases(), failure_persistence: None, ..Config::default() })]
    #[test]
    fn whatever_strangers_do_limits_hold_an_accepted_integration_waits_no_longer_and_nothing_is_lost(
        limit in prop_oneof![1_u32..20, 20_u32..700], what in prop::collection::vec(happens(), 1..300),
    ) {
        let mut model = Model::new(limit);
        what.into_iter().for_each(|what| model.happens(what));
        model.run_out();
        let share = (limit / 10).max(3).min(limit / 2).max(1) as usize;
        prop_assert!(model.most(|_| true) <= limit as usize);
        prop_assert!(model.most(|tenant| tenant != INNOCENT) <= share);
        for (stranger, grants) in &model.of_strangers {
            let times: Vec<Instant> = grants.iter().map(|(at, _)| *at).collect();
            prop_assert!(most_in_a_minute(&times) <= OF_A_STRANGER, "{stranger}");
        }
        prop_assert!(model.innocent.is_empty() && model.strangers.is_empty(), "left: {:?}", model.strangers);
        prop_assert_eq!((model.queue.in_flight(), model.queue.places.len()), (0, 0));
    }
}
