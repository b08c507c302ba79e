//! Instances that do not answer, and what is said of them.

use super::*;
use crate::controller::integration::health::DOWN_FIRST;

#[test]
fn an_instance_that_does_not_answer_is_probed_by_one_device_with_growing_waits() {
    let (mut queue, now) = Driven::new(600, true, 100);
    let grants = queue.run(now, now + MINUTE, Outcome::Unreachable);
    assert_eq!(seconds(&grants, now), [0, 5, 15, 35]);
    let later = now + MINUTE * 2;
    let permit = queue.permits.poll(later).unwrap();
    queue.finished(permit, Outcome::Accepted, later);
    assert_eq!(queue.narrow(), None);
}

#[test]
fn any_answer_shows_that_an_instance_is_there_again() {
    let (mut queue, now) = Driven::new(600, true, 100);
    let permit = queue.permits.poll(now).unwrap();
    queue.finished(permit, Outcome::Unreachable, now);
    let later = now + MINUTE;
    let permit = queue.permits.poll(later).unwrap();
    queue.finished(permit, Outcome::Unknown, later);
    assert_eq!(queue.narrow(), Some(Narrow::Down(1)));
    let permit = queue.permits.poll(later).unwrap();
    queue.finished(permit, Outcome::Answered, later);
    assert_eq!(queue.narrow(), None);
}

#[test]
fn one_device_that_never_gets_an_answer_makes_no_other_wait_for_long() {
    let (mut health, now) = (Health::default(), Instant::now());
    health.configured(one(), known(true));
    let error = DpsError::Unreachable(Unreachable::Broken);
    let mut unreachable = |waiter: u32, at: Instant| {
        let (device, issuer) = (device(waiter), issuer(1));
        let answer = Answer { device, issuer, error: Some(&error), throttled: false, newcomers: false };
        health.answered(&answer, at);
        assert!(health.trouble().is_some() && health.gate().one_at_a_time);
        health.gate().closed_until().unwrap() - at
    };
    for hour in 0..20 {
        assert_eq!(unreachable(1, now + MINUTE * 60 * hour), DOWN_FIRST);
    }
    // Two of a thousand may be such devices.
    let later = now + MINUTE * 60 * 24;
    for hour in 0..20 {
        assert_eq!(unreachable(hour % 2, later + MINUTE * 60 * hour), DOWN_FIRST * 2);
    }
    // Each device finds it: it is the instance.
    let later = later + MINUTE * 60 * 24;
    let waits: Vec<_> = (2..12).map(|number| unreachable(number, later + MINUTE * 60 * number)).collect();
    let seconds = [20, 40, 80, 160, 320, 600, 600, 600, 600, 600].map(Duration::from_secs);
    assert_eq!(waits, seconds);
}

#[test]
fn calls_that_fail_together_count_as_one_outage() {
    let (mut queue, now) = Driven::new(60_000, true, 100);
    let permits: Vec<_> = (0..100).map(|_| queue.permits.poll(now).unwrap()).collect();
    permits.into_iter().for_each(|permit| queue.finished(permit, Outcome::Unreachable, now));
    assert_eq!(queue.narrow(), Some(Narrow::Down(1)));
}

#[test]
fn a_single_server_error_does_not_slow_the_others_down_and_three_in_a_row_do() {
    let (mut queue, now) = Driven::new(600, true, 10);
    for expected in [None, None, Some(Narrow::Down(1))] {
        let permit = queue.permits.poll(now).unwrap();
        queue.finished(permit, Outcome::ServerError, now);
        assert_eq!(queue.narrow(), expected);
    }
}

#[test]
fn what_keeps_dps_from_being_reached_is_said_anew_when_a_later_call_finds_something_else() {
    let (mut health, now) = (Health::default(), Instant::now());
    health.configured(one(), known(true));
    let mut unreachable = |after: u32, why: Unreachable| {
        let error = DpsError::Unreachable(why);
        let (device, issuer) = (device(1), issuer(1));
        let answer = Answer { device, issuer, error: Some(&error), throttled: false, newcomers: false };
        let change = health.answered(&answer, now + MINUTE * after);
        let says = health.trouble().is_some_and(|trouble| trouble.message.contains(why.as_str()));
        (change.report, change.wake_waiting, says)
    };
    assert_eq!(unreachable(0, Unreachable::Dns), (true, true, true));
    assert_eq!(unreachable(0, Unreachable::Timeout), (false, false, false), "it was under way");
    assert_eq!(unreachable(1, Unreachable::Dns), (false, false, true));
    assert_eq!(unreachable(2, Unreachable::ProxyLogin), (true, false, true));
}
