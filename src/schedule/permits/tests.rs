mod agenda;
mod edits;
mod misbehaving;
mod model;
mod newcomers;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// A namespace.
const HOME: Group = 7;

/// The integration's own devices.
fn of(integration: Tenant) -> Party {
    Party { namespace: 7, integration }
}

fn scope() -> IdScope {
    IdScope::parse("0ne1").unwrap()
}

fn queue(per_minute: u32, gate: Gate, waiters: u32) -> (Permits, Instant) {
    let now = Instant::now();
    let mut queue = Permits::new(per_minute, 1000);
    queue.admit(1, HOME, &scope(), gate, now);
    for waiter in 0..waiters {
        assert!(queue.enqueue(of(1), waiter, Lane::New, now));
    }
    (queue, now)
}

/// Grants everything that may be granted, each call ending at once with `ended`, until `until`;
/// returns the times of the grants.
fn run(queue: &mut Permits, from: Instant, until: Instant, ended: Ended) -> Vec<Instant> {
    let (mut now, mut grants) = (from, Vec::new());
    while now < until {
        while let Some(permit) = queue.poll(now) {
            grants.push(now);
            queue.finished(permit, ended, now);
        }
        now = queue.next_at().unwrap_or(until).max(now + Duration::from_millis(1));
    }
    grants
}

fn most_in_a_minute(grants: &[Instant]) -> usize {
    let (mut most, mut first) = (0, 0);
    for (last, at) in grants.iter().enumerate() {
        while grants[first] + MINUTE <= *at {
            first += 1;
        }
        most = most.max(last - first + 1);
    }
    most
}

#[test]
fn a_probe_that_was_not_used_leaves_the_next_call_to_be_one() {
    let (mut queue, now) = queue(600, Gate::OPEN, 10);
    let permit = queue.poll(now).unwrap();
    queue.finished(permit, Ended::Throttled { retry_after: Some(MINUTE) }, now);
    let later = now + MINUTE;
    let probe = queue.poll(later).unwrap();
    queue.unused(probe);
    assert!(queue.poll(later).is_some());
    assert_eq!(queue.poll(later), None, "one at a time until DPS has taken one");
}

#[test]
fn a_permit_that_was_not_used_costs_nothing() {
    for gate in [Gate::NEWCOMER, Gate::OPEN] {
        let (mut queue, now) = queue(600, gate, 1000);
        for _ in 0..900 {
            let permit = queue.poll(now).unwrap();
            queue.unused(permit);
        }
    }
}

#[test]
fn a_newcomers_permit_that_comes_back_refills_what_it_was_paid_from_and_no_more() {
    let (mut queue, now) = queue(120, Gate::OPEN, 100);
    queue.admit(2, HOME, &scope(), Gate::NEWCOMER, now);
    queue.enqueue(of(2), 1000, Lane::New, now);
    while let Some(permit) = queue.poll(now) {
        if permit.tenant == 1 {
            queue.finished(permit, Ended::Admitted, now);
        } else {
            queue.set_gate(2, Gate::OPEN);
            queue.unused(permit);
        }
    }
    assert_eq!(queue.poll(now), None);
}

#[test]
fn a_permit_that_was_held_too_long_is_not_used_and_its_device_is_next() {
    let (mut queue, now) = queue(600, Gate::OPEN, 3);
    let first = queue.poll(now).unwrap();
    assert!(queue.is_fresh(&first, now + FRESH));
    let late = now + FRESH * 2;
    assert!(!queue.is_fresh(&first, late));
    queue.next_time(first, late);
    assert_eq!(queue.poll(late).map(|permit| permit.waiter), Some(first.waiter));
}

#[test]
fn throttling_pauses_the_whole_scope_for_as_long_as_dps_asks() {
    let (mut queue, now) = queue(600, Gate::OPEN, 10);
    queue.admit(2, HOME, &scope(), Gate::OPEN, now);
    queue.enqueue(of(2), 99, Lane::New, now);
    let permit = queue.poll(now).unwrap();
    queue.finished(permit, Ended::Throttled { retry_after: Some(MINUTE) }, now);
    assert_eq!(queue.poll(now + MINUTE / 2), None);
    assert_eq!(queue.next_at(), Some(now + MINUTE));
    assert!(queue.poll(now + MINUTE).is_some());
}

#[test]
fn after_a_pause_one_call_goes_ahead_and_it_is_the_most_urgent_one() {
    let (mut queue, now) = queue(600, Gate::OPEN, 0);
    (0..10).for_each(|waiter| assert!(queue.enqueue(of(1), waiter, Lane::Fleet, now)));
    let permit = queue.poll(now).unwrap();
    queue.finished(permit, Ended::Throttled { retry_after: Some(MINUTE) }, now);
    queue.enqueue(of(1), 99, Lane::New, now);
    let later = now + MINUTE;
    let probe = queue.poll(later).unwrap();
    assert_eq!((probe.waiter, queue.is_awaited(&probe)), (99, true));
    assert_eq!((queue.poll(later), queue.next_at()), (None, None));
    queue.admitted(&probe);
    assert!(queue.poll(later).is_some());
}

#[test]
fn a_429_that_asks_for_no_wait_has_growing_ones_all_the_same() {
    let (mut queue, now) = queue(600, Gate::OPEN, 1000);
    let (mut at, mut waits) = (now, Vec::new());
    for _ in 0..9 {
        // All that were in flight are refused together.
        let permits: Vec<Permit> = std::iter::from_fn(|| queue.poll(at)).collect();
        for permit in permits {
            queue.finished(permit, Ended::Throttled { retry_after: Some(Duration::ZERO) }, at);
        }
        waits.push((queue.next_at().unwrap() - at).as_secs());
        at = queue.next_at().unwrap();
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(pause(Some(MINUTE * 10), 1), MINUTE * 10, "what DPS asks for is a minimum");
}

/// With nothing but 429 for answers it is never taken for a scope that goes on, however long the pauses.
#[test]
fn a_scope_that_dps_keeps_throttling_uses_none_of_its_rate_until_a_call_goes_through() {
    let (mut queue, mut now) = queue(600, Gate::OPEN, 100);
    assert_eq!(queue.slowest(now), 1.0);
    let mut permit = queue.poll(now).unwrap();
    for _ in 0..20 {
        queue.finished(permit, Ended::Throttled { retry_after: None }, now);
        assert_eq!(queue.slowest(now), 0.0);
        now = queue.next_at().unwrap();
        permit = queue.poll(now).unwrap();
        assert_eq!(queue.slowest(now), 0.0, "one call finds out");
    }
    queue.finished(permit, Ended::Admitted, now);
    assert!(queue.slowest(now) > 0.0);
}

#[test]
fn throttling_halves_the_rate_once_for_all_calls_that_were_in_flight_and_it_is_regained() {
    let rate = |throttled: u32| {
        let (mut queue, now) = queue(60_000, Gate::OPEN, 60_000);
        let permits: Vec<_> = (0..throttled).map(|_| queue.poll(now).unwrap()).collect();
        for permit in permits {
            queue.finished(permit, Ended::Throttled { retry_after: Some(Duration::ZERO) }, now);
        }
        run(&mut queue, now, now + Duration::from_secs(10), Ended::Admitted).len()
    };
    let (full, once, many) = (rate(0), rate(1), rate(100));
    assert!(once * 2 < full + full / 5 && once * 2 > full - full / 5, "{once} of {full}");
    assert!(many.abs_diff(once) <= 100, "{many} and {once}");

    let (mut queue, now) = queue(600, Gate::OPEN, 100_000);
    let mut at = now;
    for _ in 0..20 {
        let permit = queue.poll(at).unwrap();
        queue.finished(permit, Ended::Throttled { retry_after: Some(Duration::ZERO) }, at);
        at = queue.next_at().unwrap();
    }
    let slow = run(&mut queue, at, at + MINUTE, Ended::Admitted).len();
    let regained = at + MINUTE * 15;
    run(&mut queue, at + MINUTE, regained, Ended::Admitted);
    let fast = run(&mut queue, regained, regained + MINUTE, Ended::Admitted).len();
    assert!(slow < 200 && fast > 550, "{slow} and {fast}");
}

#[test]
fn integrations_of_one_scope_take_turns() {
    let (mut queue, now) = queue(600, Gate::OPEN, 5);
    queue.admit(2, HOME, &scope(), Gate::OPEN, now);
    (0..5).for_each(|waiter| assert!(queue.enqueue(of(2), 100 + waiter, Lane::New, now)));
    let tenants: Vec<_> = (0..4).map(|_| queue.poll(now).unwrap().tenant).collect();
    assert_eq!(tenants, [1, 2, 1, 2]);
    assert_eq!(queue.dismiss(2).len(), 3);
    assert!(!queue.enqueue(of(2), 1, Lane::New, now));
}

#[test]
fn any_number_of_integrations_gives_a_namespace_no_more_turns() {
    for lane in Lane::ALL {
        let (mut queue, now) = queue(600, Gate::OPEN, 0);
        for tenant in 0..100 {
            let namespace = if tenant == 0 { HOME } else { HOME + 1 };
            queue.admit(tenant, namespace, &scope(), Gate::OPEN, now);
            (0..10).for_each(|device| assert!(queue.enqueue(of(tenant), 100 * tenant + device, lane, now)));
        }
        let calls = (0..10).map(|call| queue.poll(now + call * SECOND).unwrap().tenant);
        assert_eq!(calls.filter(|tenant| *tenant == 0).count(), 5, "{lane:?}");
    }
}

#[test]
fn any_number_of_devices_gives_a_namespace_no_more_turns_in_an_integration() {
    for (lane, gate) in Lane::ALL.into_iter().zip([Gate::OPEN, Gate::NEWCOMER].into_iter().cycle()) {
        let (mut queue, now) = queue(600, gate, 0);
        (0..1000).for_each(|device| assert!(queue.enqueue(of(1), device, lane, now)));
        let other = Party { namespace: 8, integration: 1 };
        (2000..2002).for_each(|device| assert!(queue.enqueue(other, device, lane, now)));
        let calls = (0..4).map(|call| {
            let at = now + call * MINUTE;
            let permit = queue.poll(at).unwrap();
            queue.finished(permit, Ended::Admitted, at);
            permit.waiter
        });
        assert_eq!(calls.collect::<Vec<_>>(), [0, 2000, 1, 2001], "{lane:?}");
    }
}

#[test]
fn a_share_lowers_the_rate_of_one_integration() {
    let (mut queue, now) = queue(600, Gate::OPEN, 200);
    queue.limit(1, Limits { share: Some(30), ..Limits::default() }, now);
    let grants = run(&mut queue, now, now + MINUTE * 2, Ended::Admitted);
    assert!(most_in_a_minute(&grants) <= 30, "{}", most_in_a_minute(&grants));
    assert!(grants.len() >= 50, "{}", grants.len());
}

#[test]
fn a_rate_is_handed_out_in_full_in_the_long_run_however_low_it_is() {
    for per_minute in [1, 2, 3, 7, 59, 120] {
        // And a share of a higher rate.
        for of in [per_minute, 600] {
            let (mut queue, now) = queue(of, Gate::OPEN, 20 * per_minute);
            let share = (of > per_minute).then_some(per_minute);
            queue.limit(1, Limits { share, ..Limits::default() }, now);
            let calls = run(&mut queue, now, now + Duration::from_secs(10 * 61), Ended::Admitted).len();
            let rate = 10 * per_minute as usize;
            assert!(
                (rate..=rate + 1).contains(&calls),
                "{calls} calls in ten minutes of {per_minute} of {of}"
            );
        }
    }
}

#[test]
fn a_rollout_is_held_or_slowed_and_no_other_work_is() {
    let (mut queue, now) = queue(600, Gate::OPEN, 0);
    (0..200).for_each(|waiter| assert!(queue.enqueue(of(1), waiter, Lane::Fleet, now)));
    queue.limit(1, Limits { paused: true, ..Limits::default() }, now);
    assert_eq!((queue.poll(now), queue.next_at()), (None, None));
    queue.enqueue(of(1), 999, Lane::Changed, now);
    assert_eq!(queue.poll(now).map(|permit| permit.waiter), Some(999));
    queue.limit(1, Limits { rollout: Some(60), ..Limits::default() }, now);
    let grants = run(&mut queue, now, now + MINUTE, Ended::Admitted);
    assert!((55..=60).contains(&grants.len()), "{}", grants.len());
}

#[test]
fn lanes_are_strict_and_a_device_can_be_moved_up() {
    let (mut queue, now) = queue(600, Gate::OPEN, 0);
    for (waiter, lane) in
        [(0, Lane::Last), (1, Lane::Fleet), (2, Lane::Changed), (3, Lane::New), (4, Lane::Fleet)]
    {
        queue.enqueue(of(1), waiter, lane, now);
    }
    queue.enqueue(of(1), 4, Lane::New, now + MINUTE);
    queue.enqueue(of(1), 3, Lane::Fleet, now + MINUTE);
    assert_eq!(queue.waiting_since(4), Some(now));
    let order: Vec<_> = (0..5).map(|_| queue.poll(now).unwrap().waiter).collect();
    assert_eq!(order, [3, 4, 2, 1, 0]);
    assert_eq!(queue.waiting_since(4), None);
}

#[test]
fn a_device_that_has_left_is_granted_nothing() {
    let (mut queue, now) = queue(600, Gate::OPEN, 2);
    queue.leave(0);
    assert_eq!(queue.waiters(1), [1]);
    assert_eq!(queue.poll(now).map(|permit| permit.waiter), Some(1));
    assert_eq!(queue.poll(now), None);
    assert!(queue.enqueue(of(1), 0, Lane::New, now));
    assert!(queue.poll(now).is_some());
}

#[test]
fn operations_in_flight_are_bounded_and_however_long_some_take_there_is_room_for_another_scope() {
    let now = Instant::now();
    let mut queue = Permits::new(6000, 8);
    let mut waiter = 0;
    let mut declare = |queue: &mut Permits, tenant: Tenant| {
        let scope = IdScope::parse(&format!("0ne{tenant}")).unwrap();
        queue.admit(tenant, HOME, &scope, Gate::OPEN, now);
        for _ in 0..20 {
            waiter += 1;
            assert!(queue.enqueue(of(tenant), waiter, Lane::New, now));
        }
    };
    let mut in_flight = Vec::new();
    for (tenant, calls) in [(1, 4), (2, 2), (3, 1), (4, 1)] {
        declare(&mut queue, tenant);
        for _ in 0..calls {
            let permit = queue.poll(now).unwrap();
            assert_eq!(permit.tenant, tenant);
            in_flight.push(permit);
        }
        assert_eq!((queue.poll(now), queue.next_at()), (None, None), "{tenant} holds its part");
    }
    assert_eq!(queue.in_flight(), 8);
    for tenant in [5, 6] {
        declare(&mut queue, tenant);
        assert_eq!(queue.poll(now).map(|permit| permit.tenant), Some(tenant), "one beyond the limit");
        assert_eq!(queue.poll(now), None, "and no more");
    }
    declare(&mut queue, 7);
    assert_eq!((queue.poll(now), queue.in_flight()), (None, 10));
    queue.unused(in_flight.pop().unwrap());
    assert_eq!(queue.poll(now).map(|permit| permit.tenant), Some(7));
}

proptest! {
    #[test]
    fn never_above_the_limit_in_any_sliding_minute_and_everyone_is_served(
        limit in 2_u32..400, waiters in 1_u32..600, minutes in 1_u32..4,
    ) {
        let (mut queue, now) = queue(limit, Gate::OPEN, waiters);
        let steady = limit - (limit / 30).max(1);
        let long = now + Duration::from_secs(62) * (waiters / steady + 1 + minutes);
        let grants = run(&mut queue, now, long, Ended::Admitted);
        prop_assert!(most_in_a_minute(&grants) <= limit as usize);
        prop_assert_eq!(grants.len(), waiters as usize);
    }
}
