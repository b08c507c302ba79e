//! Random edits of integrations: nothing that is declared gets more out of a scope than its rate.

use std::collections::HashMap;

use proptest::prelude::*;

use super::super::*;
use super::{MINUTE, most_in_a_minute, of};

const TENANTS: Tenant = 6;
/// Few of them, so that integrations meet.
const SCOPES: [&str; 3] = ["0neA", "0neB", "0NEA"];

/// What users and DPS do.
#[derive(Clone, Copy, Debug)]
enum Happens {
    /// Scope, credential, host or trusted roots are changed.
    Edited(Tenant, usize, Group),
    /// DPS accepts the credential, or refuses it.
    Judged(Tenant, bool),
    Limited(Tenant, Option<u32>, Option<u32>, bool),
    Deleted(Tenant),
    Joins(Tenant, Lane),
    CallEnds(usize, Ended),
    PermitComesBack,
    Time(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    let tenant = || 0..TENANTS;
    let lane = prop_oneof![Just(Lane::New), Just(Lane::Changed), Just(Lane::Fleet), Just(Lane::Last)];
    let ended = prop_oneof![
        4 => Just(Ended::Answered),
        2 => Just(Ended::Admitted),
        1 => Just(Ended::Unanswered),
        1 => Just(Ended::Throttled { retry_after: None }),
        1 => Just(Ended::Throttled { retry_after: Some(Duration::ZERO) }),
    ];
    let number = || prop_oneof![Just(None), (1..50_u32).prop_map(Some)];
    prop_oneof![
        6 => (tenant(), 0..SCOPES.len(), 1..4_u64).prop_map(|(t, scope, group)| Happens::Edited(t, scope, group)),
        3 => (tenant(), any::<bool>()).prop_map(|(t, accepted)| Happens::Judged(t, accepted)),
        2 => (tenant(), number(), number(), any::<bool>()).prop_map(|(t, a, b, p)| Happens::Limited(t, a, b, p)),
        1 => tenant().prop_map(Happens::Deleted),
        8 => (tenant(), lane).prop_map(|(t, lane)| Happens::Joins(t, lane)),
        8 => (any::<usize>(), ended).prop_map(|(which, ended)| Happens::CallEnds(which, ended)),
        1 => Just(Happens::PermitComesBack),
        4 => (1..2000_u64).prop_map(Happens::Time),
    ]
}

/// A call that was begun.
struct Made {
    number: u64,
    at: Instant,
    scope: String,
    tenant: Tenant,
    newcomers: bool,
}

struct World {
    queue: Permits,
    now: Instant,
    /// Where each integration is.
    scopes: HashMap<Tenant, String>,
    held: Vec<Permit>,
    made: Vec<Made>,
    joined: Waiter,
}

impl World {
    fn new(limit: u32) -> Self {
        let now = Instant::now();
        let queue = Permits::new(limit, 1000);
        Self { queue, now, scopes: HashMap::new(), held: Vec::new(), made: Vec::new(), joined: 0 }
    }

    fn happens(&mut self, what: Happens) {
        match what {
            Happens::Edited(tenant, scope, group) => {
                let id = IdScope::parse(SCOPES[scope]).unwrap();
                self.queue.admit(tenant, group, &id, Gate::NEWCOMER, self.now);
                self.scopes.insert(tenant, SCOPES[scope].to_lowercase());
            }
            Happens::Judged(tenant, accepted) => {
                self.queue.set_gate(tenant, if accepted { Gate::OPEN } else { Gate::NEWCOMER });
            }
            Happens::Limited(tenant, share, rollout, paused) => {
                self.queue.limit(tenant, Limits { share, rollout, paused }, self.now);
            }
            Happens::Deleted(tenant) => drop(self.queue.dismiss(tenant)),
            Happens::Joins(tenant, lane) => {
                self.joined += 1;
                self.queue.enqueue(of(tenant), self.joined, lane, self.now);
            }
            Happens::CallEnds(which, ended) => {
                if !self.held.is_empty() {
                    let permit = self.held.swap_remove(which % self.held.len());
                    self.queue.finished(permit, ended, self.now);
                }
            }
            Happens::PermitComesBack => {
                if self.held.last().is_some_and(|permit| permit.granted == self.now) {
                    let permit = self.held.pop().unwrap();
                    self.made.retain(|made| made.number != permit.number);
                    self.queue.unused(permit);
                }
            }
            Happens::Time(millis) => self.now += Duration::from_millis(millis),
        }
        while let Some(permit) = self.queue.poll(self.now) {
            self.made.push(Made {
                number: permit.number,
                at: self.now,
                scope: self.scopes[&permit.tenant].clone(),
                tenant: permit.tenant,
                newcomers: permit.is_newcomers(),
            });
            self.held.push(permit);
        }
        let next = self.queue.next_at();
        assert!(next.is_none_or(|at| at > self.now), "nothing can be granted now");
    }

    fn most(&self, counts: impl Fn(&Made) -> bool) -> usize {
        let times: Vec<Instant> = self.made.iter().filter(|made| counts(made)).map(|made| made.at).collect();
        most_in_a_minute(&times)
    }
}

proptest! {
    #[test]
    fn whatever_is_edited_no_scope_gets_more_than_its_rate_and_newcomers_no_more_than_theirs(
        limit in 1_u32..200, what in prop::collection::vec(happens(), 1..400),
    ) {
        let mut world = World::new(limit);
        what.into_iter().for_each(|what| world.happens(what));
        for scope in ["0nea", "0neb"] {
            prop_assert!(world.most(|made| made.scope == scope) <= limit as usize);
            let newcomers = world.most(|made| made.scope == scope && made.newcomers);
            prop_assert!(newcomers <= (limit as usize / 10).max(3), "{newcomers} of {limit}");
        }
        for tenant in 0..TENANTS {
            prop_assert!(world.most(|made| made.tenant == tenant && made.newcomers) <= 6);
        }
    }
}

#[test]
fn edits_as_fast_as_can_be_get_no_more_than_six_calls_a_minute() {
    let mut world = World::new(600);
    for edit in 0..3600_usize {
        world.happens(Happens::Deleted(1));
        world.happens(Happens::Edited(1, edit % 3, edit as Group));
        world.happens(Happens::Limited(1, Some(10), None, false));
        world.happens(Happens::Joins(1, Lane::New));
        world.happens(Happens::CallEnds(0, Ended::Answered));
        world.happens(Happens::Time(50));
    }
    let made = world.made.len();
    assert!((15..=18).contains(&made), "{made} calls in three minutes");
    assert!(world.most(|_| true) <= 6);
    assert!(world.most(|made| made.at < world.made[0].at + MINUTE / 6) <= 4, "three at once");
}

#[test]
fn a_limit_that_is_taken_away_and_set_again_is_not_full_once_more() {
    let mut world = World::new(600);
    world.happens(Happens::Edited(1, 0, 1));
    world.happens(Happens::Judged(1, true));
    for edit in 0..1200 {
        // Nothing waits while there is no limit.
        world.happens(Happens::Limited(1, None, None, false));
        let (share, rollout) = if edit % 2 == 0 { (Some(6), None) } else { (None, Some(6)) };
        world.happens(Happens::Limited(1, share, rollout, false));
        world.happens(Happens::Joins(1, Lane::Fleet));
        world.happens(Happens::Time(50));
        world.happens(Happens::CallEnds(0, Ended::Answered));
        let left = world.queue.waiters(1);
        left.into_iter().for_each(|waiter| world.queue.leave(waiter));
    }
    assert!(world.most(|_| true) <= 6, "{}", world.most(|_| true));
}
