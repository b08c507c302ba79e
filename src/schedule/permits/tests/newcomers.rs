//! Integrations that DPS has not accepted, beside one that it has.

use super::*;

/// A namespace of somebody else.
const ELSEWHERE: Group = 8;

/// An accepted integration with devices that wait, and strangers in its scope.
fn beside_strangers(per_minute: u32, strangers: u32) -> (Permits, Instant) {
    let (mut queue, now) = queue(per_minute, Gate::OPEN, 10_000);
    for stranger in 0..strangers {
        declare(&mut queue, 100 + stranger, ELSEWHERE, now);
    }
    (queue, now)
}

/// A newcomer with more devices than it may ever try.
fn declare(queue: &mut Permits, tenant: Tenant, group: Group, now: Instant) {
    queue.admit(tenant, group, &scope(), Gate::NEWCOMER, now);
    for device in 0..100 {
        queue.enqueue(of(tenant), tenant * 1000 + device, Lane::New, now);
    }
}

/// Grants what may be granted until `until`, each call ending at once.
fn run_all(queue: &mut Permits, from: Instant, until: Instant) -> Vec<(Instant, Tenant)> {
    let (mut now, mut grants) = (from, Vec::new());
    while now < until {
        while let Some(permit) = queue.poll(now) {
            grants.push((now, permit.tenant));
            queue.finished(permit, Ended::Answered, now);
        }
        now = queue.next_at().unwrap_or(until).max(now + Duration::from_millis(1));
    }
    grants
}

#[test]
fn a_429_to_a_newcomer_pauses_and_slows_nobody_else() {
    for retry_after in [None, Some(Duration::ZERO), Some(MINUTE * 60)] {
        let (mut queue, now) = beside_strangers(600, 1);
        let stranger = loop {
            let permit = queue.poll(now).unwrap();
            if permit.tenant != 1 {
                break permit;
            }
        };
        queue.finished(stranger, Ended::Throttled { retry_after }, now);
        assert_eq!(queue.slowest(now), 1.0);
        assert_eq!(queue.throttled_scopes(now), 0);
        assert!(queue.next_at().is_some_and(|at| at < now + SECOND));
    }
}

#[test]
fn a_newcomer_neither_finds_out_whether_a_pause_is_over_nor_learns_of_it() {
    let (mut queue, now) = beside_strangers(600, 1);
    let own = loop {
        let permit = queue.poll(now).unwrap();
        if permit.tenant == 1 {
            break permit;
        }
        queue.finished(permit, Ended::Answered, now);
    };
    queue.finished(own, Ended::Throttled { retry_after: Some(MINUTE) }, now);
    assert_eq!(queue.paused_until(100), None);
    assert_eq!(queue.paused_until(1), Some(now + MINUTE));
    assert_eq!(queue.poll(now + MINUTE / 2), None, "DPS has asked the scope to wait");
    let probe = queue.poll(now + MINUTE).unwrap();
    assert_eq!((probe.tenant, queue.is_awaited(&probe)), (1, true));
    assert_eq!(queue.poll(now + MINUTE), None);
}

#[test]
fn newcomers_without_an_accepted_integration_go_on_after_a_pause() {
    let (mut queue, now) = queue(600, Gate::OPEN, 1);
    let permit = queue.poll(now).unwrap();
    queue.finished(permit, Ended::Throttled { retry_after: Some(SECOND) }, now);
    declare(&mut queue, 100, ELSEWHERE, now);
    let later = queue.next_at().unwrap();
    assert!(later <= now + SECOND * 2 && queue.poll(later).is_some());
}

#[test]
fn many_strangers_use_a_tenth_of_the_rate_and_one_in_another_namespace_takes_turns_with_them() {
    let (mut queue, now) = beside_strangers(600, 200);
    declare(&mut queue, 2, HOME, now);

    let grants = run_all(&mut queue, now, now + MINUTE * 2);

    let of = |is: fn(Tenant) -> bool| -> Vec<Instant> {
        grants.iter().filter(|(_, tenant)| is(*tenant)).map(|(at, _)| *at).collect()
    };
    let (accepted, strangers, other) = (of(|t| t == 1), of(|t| t >= 100), of(|t| t == 2));
    assert!(most_in_a_minute(&strangers) <= 60, "{}", most_in_a_minute(&strangers));
    assert!(accepted.len() >= 540, "{} of the accepted one", accepted.len());
    assert!(other[2] <= now + SECOND, "three canaries of the other one go at once");
    assert!(most_in_a_minute(&other) <= 6 && other.len() >= 9, "{}", other.len());
    let all: Vec<Instant> = grants.iter().map(|(at, _)| *at).collect();
    assert!(most_in_a_minute(&all) <= 600, "{}", most_in_a_minute(&all));
}

#[test]
fn however_a_scope_is_written_it_has_one_rate() {
    let (mut queue, now) = queue(600, Gate::OPEN, 0);
    for (stranger, written) in ["0ne1", "0NE1", "0Ne1", "0nE1"].into_iter().enumerate() {
        for one in 0..10 {
            let tenant = u32::try_from(100 * stranger + one + 100).unwrap();
            queue.admit(tenant, ELSEWHERE, &IdScope::parse(written).unwrap(), Gate::NEWCOMER, now);
            (0..10)
                .for_each(|device| assert!(queue.enqueue(of(tenant), tenant * 100 + device, Lane::New, now)));
        }
    }
    let grants = run(&mut queue, now, now + MINUTE, Ended::Answered);
    assert!(most_in_a_minute(&grants) <= 60, "{}", most_in_a_minute(&grants));
}

#[test]
fn at_the_lowest_rate_newcomers_and_others_take_turns() {
    let (mut queue, now) = beside_strangers(1, 5);
    let grants = run_all(&mut queue, now, now + MINUTE * 8);
    let accepted = grants.iter().filter(|(_, tenant)| *tenant == 1).count();
    assert!(accepted.abs_diff(grants.len() - accepted) <= 1, "{grants:?}");
}

#[test]
fn newcomers_whose_calls_have_no_end_leave_room_in_flight_for_another_namespace_and_for_others() {
    let now = Instant::now();
    let mut queue = Permits::new(60_000, 64);
    for stranger in 0..200 {
        let scope = IdScope::parse(&format!("0neX{stranger}")).unwrap();
        queue.admit(100 + stranger, ELSEWHERE, &scope, Gate::NEWCOMER, now);
        queue.enqueue(of(100 + stranger), 1000 + stranger, Lane::New, now);
    }
    while queue.poll(now).is_some() {}
    assert!(queue.in_flight() <= 16 && queue.next_at().is_none(), "{}", queue.in_flight());

    declare(&mut queue, 2, HOME, now);
    assert_eq!(queue.poll(now).map(|permit| permit.tenant), Some(2));
    queue.admit(1, HOME, &IdScope::parse("0ne2").unwrap(), Gate::OPEN, now);
    (0..20).for_each(|device| assert!(queue.enqueue(of(1), device, Lane::New, now)));
    (0..20).for_each(|_| assert_eq!(queue.poll(now).map(|permit| permit.tenant), Some(1)));
}

#[test]
fn what_was_declared_and_taken_back_is_not_kept_for_ever_and_what_it_used_is() {
    let (mut queue, mut now) = queue(600, Gate::OPEN, 0);
    for stranger in 0..5000_u32 {
        now += Duration::from_millis(100);
        let scope = IdScope::parse(&format!("0neX{stranger}")).unwrap();
        queue.admit(100 + stranger, ELSEWHERE, &scope, Gate::NEWCOMER, now);
        queue.enqueue(of(100 + stranger), stranger, Lane::New, now);
        let permit = queue.poll(now).unwrap();
        queue.finished(permit, Ended::Answered, now);
        queue.dismiss(100 + stranger);
    }
    // What the last minute has used of budgets.
    assert!(queue.scopes.len() + queue.members.len() < 5000, "{}", queue.scopes.len());
    declare(&mut queue, 100, ELSEWHERE, now + MINUTE * 2);
    assert_eq!(run(&mut queue, now + MINUTE * 2, now + MINUTE * 2 + SECOND, Ended::Answered).len(), 3);
}

#[test]
fn however_long_the_calls_of_one_groups_newcomers_take_there_is_room_for_those_of_another() {
    let now = Instant::now();
    let mut queue = Permits::new(6000, 32);
    let mut next = 0;
    let mut declare_ten = |queue: &mut Permits, group: Group| {
        for _ in 0..10 {
            next += 1;
            // Each with a rate of its own.
            let scope = IdScope::parse(&format!("0ne{next}")).unwrap();
            queue.admit(next, group, &scope, Gate::NEWCOMER, now);
            queue.enqueue(of(next), next, Lane::New, now);
        }
    };
    for (group, calls) in [(HOME, 4), (ELSEWHERE, 2), (9, 1), (10, 1), (11, 0)] {
        declare_ten(&mut queue, group);
        let begun = std::iter::from_fn(|| queue.poll(now)).count();
        assert_eq!(begun, calls, "a quarter for all newcomers, and of that what it leaves free for {group}");
    }
}

#[test]
fn refusals_of_the_shared_credential_hold_no_device_that_has_its_own() {
    let now = Instant::now();
    let closed = Gate { shared_not_before: Some(now + MINUTE), ..Gate::NEWCOMER };
    let mut queue = Permits::new(600, 1000);
    queue.admit(1, HOME, &scope(), closed, now);
    for waiter in 0..3 {
        queue.enqueue(of(1), waiter, Lane::New, now);
    }
    assert_eq!((queue.poll(now), queue.next_at()), (None, Some(now + MINUTE)));
    queue.enqueue_alone(of(1), 10, Lane::Fleet, now);
    let permit = queue.poll(now).unwrap();
    assert_eq!((permit.waiter, permit.lane()), (10, Lane::Fleet));
    queue.next_time(permit, now);
    let permit = queue.poll(now).unwrap();
    assert_eq!(permit.waiter, 10, "also if it came too late the first time");
    queue.finished(permit, Ended::Answered, now);
    assert_eq!(queue.poll(now), None);

    // What DPS asks of all holds it, too.
    queue.enqueue_alone(of(1), 11, Lane::New, now);
    queue.set_gate(1, Gate { not_before: Some(now + MINUTE), ..Gate::NEWCOMER });
    assert_eq!((queue.poll(now), queue.next_at()), (None, Some(now + MINUTE)));
}

#[test]
fn both_kinds_of_devices_take_turns_and_canaries_go_before_the_others_of_theirs_only() {
    let now = Instant::now();
    let mut queue = Permits::new(6000, 1000);
    let gate = Gate { others_not_before: Some(now + MINUTE), ..Gate::OPEN };
    queue.admit(1, HOME, &scope(), gate, now);
    for waiter in 0..4 {
        queue.enqueue(of(1), waiter, Lane::New, now);
        queue.enqueue_alone(of(1), 10 + waiter, Lane::New, now);
    }
    let order = |queue: &mut Permits, at: Instant, most: usize| -> Vec<u32> {
        let mut times = (0..).map(|step| at + Duration::from_millis(20) * step);
        let mut next = || queue.poll(times.next().unwrap()).map(|permit| permit.waiter);
        (0..2 * most).filter_map(|_| next()).take(most).collect()
    };
    assert_eq!(order(&mut queue, now, 2), [10, 11], "those of the shared credential wait for canaries");
    let later = now + MINUTE;
    let mixed = order(&mut queue, later, 6);
    assert_eq!(mixed, [0, 12, 1, 13, 2, 3]);
}

#[test]
fn a_device_that_gets_a_credential_of_its_own_waits_among_those() {
    let (mut queue, now) = queue(600, Gate { shared_not_before: None, ..Gate::NEWCOMER }, 2);
    queue.set_gate(1, Gate { shared_not_before: Some(now + MINUTE), ..Gate::NEWCOMER });
    assert_eq!(queue.poll(now), None);
    queue.enqueue_alone(of(1), 1, Lane::New, now);
    assert_eq!(queue.poll(now).map(|permit| permit.waiter), Some(1));
    queue.leave(0);
    assert!(queue.waiters(1).is_empty());
}

#[test]
fn a_canary_that_had_a_credential_of_its_own_goes_before_those_that_share_one() {
    let now = Instant::now();
    let (mut queue, _) = queue(600, Gate { others_not_before: Some(now + MINUTE), ..Gate::OPEN }, 2);
    queue.enqueue_alone(of(1), 10, Lane::New, now);
    let permit = queue.poll(now).unwrap();
    assert_eq!(permit.waiter, 10);
    queue.next_time(permit, now);
    queue.set_gate(1, Gate { shared_not_before: Some(now + MINUTE), ..Gate::OPEN });
    queue.enqueue_first(of(1), 10, Lane::New, now);
    assert_eq!(queue.poll(now), None, "it shares the credential that is refused");
}
