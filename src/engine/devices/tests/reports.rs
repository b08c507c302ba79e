//! When a device is reported as queued, unusable or contested.

use std::time::Duration;

use super::{MINUTE, SECOND, Situation, after};
use crate::controller::device::decide::Grace;

#[test]
fn a_device_is_reported_as_queued_after_five_minutes_and_not_before() {
    let mut situation = Situation::with_devices(1);
    let since = situation.now.mono;

    let at = situation.active.plan_queued_report(0, since, since).unwrap();

    assert_eq!(at, since + 5 * MINUTE);
    assert!(!situation.active.is_queued_long(0, Some(since), at - SECOND));
    assert!(situation.active.is_queued_long(0, Some(since), at));
    assert_eq!(situation.active.plan_queued_report(0, since, at), None, "there is nothing more to wait for");
}

#[test]
fn a_fleet_is_reported_as_queued_one_device_after_the_other() {
    let mut situation = Situation::with_devices(100);
    let since = situation.now.mono;
    let due = since + 5 * MINUTE;

    let planned: Vec<_> =
        (0..100).map(|id| situation.active.plan_queued_report(id, since, since).unwrap()).collect();

    assert_eq!((planned[0], planned[50], planned[99]), (due, due + SECOND, due + SECOND * 99 / 50));
}

#[test]
fn a_new_wait_in_line_is_timed_afresh() {
    let mut situation = Situation::with_devices(1);
    let since = situation.now.mono;
    let first = situation.active.plan_queued_report(0, since, since).unwrap();

    situation.active.left_line(0);
    assert!(!situation.active.is_queued_long(0, Some(since), first));
    let again = situation.active.plan_queued_report(0, first, first).unwrap();

    assert!(again >= first + 5 * MINUTE);
    assert!(!situation.active.is_queued_long(0, None, again), "a device that is not in line is not queued");
}

#[test]
fn an_unusable_integration_is_reported_after_thirty_seconds_and_then_in_turn() {
    let mut situation = Situation::with_devices(2);
    let now = situation.now.mono;
    let grace_over = now + 30 * SECOND;

    assert_eq!(situation.active.plan_report(0, Some(now), now), grace_over);
    assert_eq!(situation.active.plan_report(1, Some(now), now), grace_over);
    assert_eq!(situation.active.grace(0, grace_over), Grace::Running, "its turn is still to come");
    let turns = [0, 1].map(|id| situation.active.plan_report(id, Some(now), grace_over));

    assert_eq!(turns, [grace_over, grace_over + SECOND / 50]);
    assert_eq!(situation.active.grace(0, grace_over), Grace::Over);
    assert_eq!(situation.active.grace(1, grace_over), Grace::Running);
    assert_eq!(situation.active.grace(1, turns[1]), Grace::Over);
}

#[test]
fn the_grace_counts_from_when_the_integration_became_unusable() {
    let mut situation = Situation::with_devices(1);
    let now = situation.now.mono + 10 * MINUTE;

    let at = situation.active.plan_report(0, Some(now - 20 * SECOND), now);

    assert_eq!(at, now + 10 * SECOND);
}

#[test]
fn a_changed_integration_gets_its_grace_once_more() {
    let mut situation = Situation::with_devices(1);
    let now = situation.now.mono;
    situation.active.plan_report(0, Some(now), now);
    let over = situation.active.plan_report(0, Some(now), now + MINUTE);
    assert_eq!(situation.active.grace(0, over), Grace::Over);

    situation.active.restart_grace(0);

    assert_eq!(situation.active.grace(0, over), Grace::Running);
    assert_eq!(situation.active.plan_report(0, Some(over), over), over + 30 * SECOND);
}

#[test]
fn a_device_that_settles_without_an_integration_is_reported_all_the_same() {
    let mut situation = Situation::with_devices(1);
    let now = situation.now.mono;
    let at = situation.active.plan_report(0, None, now);

    situation.active.settle_keeping_grace(0);

    assert!(situation.active.work(0).is_none());
    let turn = situation.active.plan_report(0, None, at);
    assert_eq!((turn, situation.active.grace(0, turn)), (at, Grace::Over));
}

#[test]
fn a_hundred_secrets_are_compared_at_once_and_then_ten_a_second() {
    let mut situation = Situation::new();
    let now = situation.now.mono;

    let turns: Vec<_> = (0..130).map(|id| situation.active.take_verification(id, now)).collect();

    assert_eq!(turns.iter().filter(|turn| turn.is_ok()).count(), 101);
    assert_eq!(turns[129], Err(now + Duration::from_millis(2900)));
    let its_turn = now + Duration::from_millis(2900);
    assert_eq!(situation.active.take_verification(129, now), Err(its_turn), "it has its turn already");
    assert_eq!(situation.active.take_verification(129, its_turn), Ok(()));
}

#[test]
fn a_secret_that_is_left_alone_is_no_longer_contested() {
    let mut situation = Situation::new();
    let now = situation.now;
    (0..10).for_each(|_| situation.active.restored(0, now.mono));
    let contested = situation.active.contested(0, now).unwrap();
    assert_eq!((contested.report, contested.until > now.wall), (Grace::Over, true));
    let calm = after(now, 20 * MINUTE);
    assert!(situation.active.contested(0, calm).is_none());

    situation.active.forget_calm(calm.mono);

    assert!(situation.active.entries.is_empty());
}
