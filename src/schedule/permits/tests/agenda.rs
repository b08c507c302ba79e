//! Scopes that are not looked at have nothing to give.

use proptest::prelude::*;

use super::super::*;
use super::{MINUTE, SECOND, of};

const SCOPES: [&str; 3] = ["0ne1", "0ne2", "0ne3"];

#[derive(Clone, Copy, Debug)]
enum Event {
    Admits(Tenant, usize, Gate),
    Gate(Tenant, Gate),
    Limits(Tenant, Limits),
    Dismisses(Tenant),
    Joins(Tenant, Waiter, Lane),
    Leaves(Waiter),
    CallEnds(usize, Ended),
    ComesBack(usize),
    Admitted(usize),
    Time(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let tenant = || 1..6_u32;
    let gate = || {
        (any::<bool>(), any::<bool>()).prop_map(|(one_at_a_time, own_budget)| Gate {
            one_at_a_time,
            own_budget,
            ..Gate::OPEN
        })
    };
    let limits = (prop::option::of(1..60_u32), any::<bool>()).prop_map(|(share, paused)| Limits {
        share,
        rollout: share,
        paused,
    });
    let lane = prop::sample::select(&Lane::ALL[..]);
    let ended = prop::sample::select(vec![
        Ended::Admitted,
        Ended::Answered,
        Ended::Unanswered,
        Ended::Throttled { retry_after: Some(SECOND) },
    ]);
    prop_oneof![
        2 => (tenant(), 0..SCOPES.len(), gate()).prop_map(|(t, scope, gate)| Event::Admits(t, scope, gate)),
        1 => (tenant(), gate()).prop_map(|(t, gate)| Event::Gate(t, gate)),
        1 => (tenant(), limits).prop_map(|(t, limits)| Event::Limits(t, limits)),
        1 => tenant().prop_map(Event::Dismisses),
        6 => (tenant(), 0..40_u32, lane).prop_map(|(t, waiter, lane)| Event::Joins(t, waiter, lane)),
        1 => (0..40_u32).prop_map(Event::Leaves),
        4 => (0..20_usize, ended).prop_map(|(place, ended)| Event::CallEnds(place, ended)),
        1 => (0..20_usize).prop_map(Event::ComesBack),
        1 => (0..20_usize).prop_map(Event::Admitted),
        4 => (1..20_000_u64).prop_map(Event::Time),
    ]
}

fn happen(queue: &mut Permits, held: &mut Vec<Permit>, event: Event, now: &mut Instant) {
    let taken = |held: &mut Vec<Permit>, place: usize| {
        (!held.is_empty()).then(|| held.swap_remove(place % held.len()))
    };
    match event {
        Event::Admits(tenant, scope, gate) => {
            let scope = IdScope::parse(SCOPES[scope]).unwrap();
            queue.admit(tenant, Group::from(tenant % 2), &scope, gate, *now);
        }
        Event::Gate(tenant, gate) => queue.set_gate(tenant, gate),
        Event::Limits(tenant, limits) => queue.limit(tenant, limits, *now),
        Event::Dismisses(tenant) => drop(queue.dismiss(tenant)),
        Event::Joins(tenant, waiter, lane) => drop(queue.enqueue(of(tenant), waiter, lane, *now)),
        Event::Leaves(waiter) => queue.leave(waiter),
        Event::CallEnds(place, ended) => {
            taken(held, place).into_iter().for_each(|permit| queue.finished(permit, ended, *now));
        }
        Event::ComesBack(place) => taken(held, place).into_iter().for_each(|permit| queue.unused(permit)),
        Event::Admitted(place) => {
            held.get(place % held.len().max(1)).into_iter().for_each(|permit| queue.admitted(permit));
        }
        Event::Time(millis) => *now += Duration::from_millis(millis),
    }
}

/// When there is something to do, an end being later than any time.
fn or_never(at: Option<Instant>, now: Instant) -> Instant {
    at.unwrap_or(now + MINUTE * 60 * 24)
}

proptest! {
    #[test]
    fn a_look_at_all_scopes_finds_no_more(events in prop::collection::vec(event(), 1..120)) {
        let mut now = Instant::now();
        let (mut queue, mut held) = (Permits::new(60, 6), Vec::new());
        for event in events {
            happen(&mut queue, &mut held, event, &mut now);
            held.extend(std::iter::from_fn(|| queue.poll(now)));
            let next = queue.next_at();
            prop_assert_eq!(missed(&mut queue, now), None, "{:?}", event);
            queue.scopes.keys().for_each(|key| queue.agenda.changed(*key));
            prop_assert!(or_never(next, now) <= or_never(queue.next_at(), now), "too late after {:?}", event);
        }
    }
}

/// A call that a look at all scopes would have allowed. Times are rounded up by a microsecond.
fn missed(queue: &mut Permits, now: Instant) -> Option<Permit> {
    queue.scopes.keys().for_each(|key| queue.agenda.changed(*key));
    queue.poll(now - Duration::from_micros(1))
}

#[test]
fn scopes_in_which_nothing_has_changed_are_not_looked_at() {
    let now = Instant::now();
    let mut queue = Permits::new(60, 100);
    for number in 0..1000_u32 {
        let scope = IdScope::parse(&format!("0ne{number}")).unwrap();
        queue.admit(number, 1, &scope, Gate::OPEN, now);
        queue.enqueue(of(number), number, Lane::Fleet, now);
        queue.limit(number, Limits { paused: true, ..Limits::default() }, now);
    }
    assert_eq!((queue.agenda.open().count(), queue.poll(now)), (1000, None));

    queue.enqueue(of(7), 1007, Lane::New, now);

    assert_eq!(queue.agenda.open().count(), 1);
    assert_eq!(queue.poll(now).map(|permit| permit.waiter), Some(1007));
    assert_eq!((queue.poll(now), queue.agenda.open().count(), queue.next_at()), (None, 0, None));
}

#[test]
fn a_scope_that_dps_once_throttled_is_forgotten_when_its_rate_would_be_the_full_one_again() {
    let mut now = Instant::now();
    let mut queue = Permits::new(60, 100);
    queue.admit(1, 1, &IdScope::parse("0ne1").unwrap(), Gate::OPEN, now);
    queue.enqueue(of(1), 1, Lane::New, now);
    let permit = queue.poll(now).unwrap();
    queue.finished(permit, Ended::Throttled { retry_after: Some(MINUTE) }, now);
    queue.dismiss(1);
    let fill = |queue: &mut Permits, now: Instant| {
        for number in 100..300_u32 {
            let scope = IdScope::parse(&format!("0ne{number}")).unwrap();
            queue.admit(number, 1, &scope, Gate::OPEN, now);
            queue.dismiss(number);
        }
    };

    now += MINUTE * 2;
    fill(&mut queue, now);
    // Its pause is over, and its rate is not the full one.
    assert!(queue.scope_keys.contains_key("0ne1"));
    assert_eq!(queue.agenda.are_slowed().len(), 1);

    now += MINUTE * 20;
    fill(&mut queue, now);
    assert!(!queue.scope_keys.contains_key("0ne1"));
    assert_eq!(queue.agenda.are_slowed().len(), 0);
}
