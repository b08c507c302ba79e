//! When a device is reported as queued, unusable or contested, and when its Secret is compared.

use std::time::Duration;

use tokio::time::Instant;

use super::{MINUTE, OTHER_PARTY, PARTY, SECOND, Situation, after};
use crate::controller::device::decide::Grace;
use crate::fleet::DeviceId;

impl Situation {
    /// All whose turn has come.
    fn turns(&mut self, now: Instant) -> Vec<DeviceId> {
        std::iter::from_fn(|| self.active.next_turn(now)).collect()
    }
}

#[test]
fn a_device_is_reported_as_queued_after_five_minutes_and_not_before() {
    let mut situation = Situation::with_devices(1);
    let since = situation.now.mono;

    let at = situation.active.plan_queued_report(0, PARTY, since, since).unwrap();

    assert_eq!(at, since + 5 * MINUTE);
    assert_eq!(situation.turns(at), [] as [DeviceId; 0], "it takes its turn when it is reconciled");
    assert_eq!(situation.active.plan_queued_report(0, PARTY, since, at), None);
    assert!(!situation.active.is_queued_long(0, Some(since)));
    assert_eq!(situation.turns(at), [0]);
    assert!(situation.active.is_queued_long(0, Some(since)));
    assert_eq!(situation.active.plan_queued_report(0, PARTY, since, at), None, "nothing more to wait for");
}

#[test]
fn a_fleet_is_reported_one_device_after_the_other_and_keeps_no_other_party_waiting() {
    let mut situation = Situation::with_devices(101);
    let since = situation.now.mono;
    let due = since + 5 * MINUTE;
    (0..100).for_each(|id| assert!(situation.active.plan_queued_report(id, PARTY, since, due).is_none()));
    situation.active.plan_queued_report(100, OTHER_PARTY, since, due);

    assert_eq!(situation.turns(due), [0]);
    assert_eq!(situation.turns(due + SECOND / 50), [100]);
    assert_eq!(situation.turns(due + SECOND).len(), 49, "fifty a second");
}

#[test]
fn a_new_wait_in_line_is_timed_afresh() {
    let mut situation = Situation::with_devices(1);
    let since = situation.now.mono;
    let first = since + 5 * MINUTE;
    situation.active.plan_queued_report(0, PARTY, since, first);

    situation.active.left_line(0);
    assert_eq!(situation.turns(first), [] as [DeviceId; 0]);
    let again = situation.active.plan_queued_report(0, PARTY, first, first);

    assert_eq!(again, Some(first + 5 * MINUTE));
    situation.active.plan_queued_report(0, PARTY, first, first + 5 * MINUTE);
    assert_eq!(situation.turns(first + 5 * MINUTE), [0]);
    assert!(!situation.active.is_queued_long(0, None), "a device that is not in line is not queued");
}

#[test]
fn an_unusable_integration_is_reported_after_thirty_seconds_and_then_in_turn() {
    let mut situation = Situation::with_devices(2);
    let now = situation.now.mono;
    let grace_over = now + 30 * SECOND;
    let plan = |situation: &mut Situation, id, at| situation.active.plan_report(id, PARTY, Some(now), at);

    assert_eq!([0, 1].map(|id| plan(&mut situation, id, now)), [Some(grace_over); 2]);
    assert_eq!([0, 1].map(|id| plan(&mut situation, id, grace_over)), [None; 2]);
    assert_eq!(situation.active.grace(0), Grace::Running, "its turn is still to come");

    assert_eq!(situation.turns(grace_over), [0]);
    assert_eq!([0, 1].map(|id| situation.active.grace(id)), [Grace::Over, Grace::Running]);
    assert_eq!(situation.turns(grace_over + SECOND / 50), [1]);
    assert_eq!(situation.active.grace(1), Grace::Over);
}

#[test]
fn a_fleet_whose_integration_is_unusable_keeps_no_other_party_waiting() {
    let mut situation = Situation::with_devices(101);
    let since = situation.now.mono;
    let over = since + 30 * SECOND;
    (0..100).for_each(|id| assert!(situation.active.plan_report(id, PARTY, Some(since), over).is_none()));
    situation.active.plan_report(100, OTHER_PARTY, Some(since), over);

    assert_eq!(situation.turns(over), [0]);
    assert_eq!(situation.turns(over + SECOND / 50), [100]);
    assert_eq!(situation.turns(over + SECOND).len(), 49, "fifty a second");
}

#[test]
fn the_grace_counts_from_when_the_integration_became_unusable() {
    let mut situation = Situation::with_devices(1);
    let now = situation.now.mono + 10 * MINUTE;

    let at = situation.active.plan_report(0, PARTY, Some(now - 20 * SECOND), now);

    assert_eq!(at, Some(now + 10 * SECOND));
}

#[test]
fn a_changed_integration_gets_its_grace_once_more_and_its_fleets_line_is_gone() {
    let mut situation = Situation::with_devices(1000);
    let now = situation.now.mono;
    let over = now + 30 * SECOND;
    (0..1000).for_each(|id| assert!(situation.active.plan_report(id, PARTY, Some(now), over).is_none()));
    assert_eq!((situation.turns(over), situation.active.grace(0)), (vec![0], Grace::Over));

    (0..1000).for_each(|id| situation.active.restart_grace(id));

    assert_eq!(situation.active.grace(0), Grace::Running);
    let again = over + 30 * SECOND;
    assert_eq!(situation.active.plan_report(0, PARTY, Some(over), over), Some(again));
    situation.active.plan_report(7, PARTY, Some(over), again);
    assert_eq!(situation.turns(again), [7], "who was withdrawn costs no time");
}

#[test]
fn a_device_that_settles_without_an_integration_is_reported_all_the_same() {
    let mut situation = Situation::with_devices(1);
    let now = situation.now.mono;
    let at = situation.active.plan_report(0, PARTY, None, now).unwrap();

    situation.active.settle_keeping_grace(0);

    assert!(situation.active.work(0).is_none());
    situation.active.plan_report(0, PARTY, None, at);
    assert_eq!((situation.turns(at), situation.active.grace(0)), (vec![0], Grace::Over));
}

#[test]
fn a_hundred_secrets_are_compared_at_once_and_then_ten_a_second_whoever_elses_they_are() {
    let mut situation = Situation::new();
    let now = situation.now.mono;

    (0..1000).for_each(|id| assert!(!situation.active.take_verification(id, PARTY, now)));
    assert_eq!(situation.turns(now).len(), 101);
    assert!(situation.active.take_verification(0, PARTY, now));
    assert!(!situation.active.take_verification(0, PARTY, now), "a turn is used up");
    assert!(!situation.active.take_verification(2000, OTHER_PARTY, now));

    let soon = now + Duration::from_millis(200);
    assert_eq!(situation.turns(soon), [101, 2000]);
    assert!(situation.active.take_verification(2000, OTHER_PARTY, now));
}

#[test]
fn twenty_secrets_that_could_not_be_written_are_looked_at_at_once_and_then_ten_a_second() {
    let mut situation = Situation::new();
    let now = situation.now.mono;

    (0..1000).for_each(|id| assert!(!situation.active.take_look(id, PARTY, now)));
    assert_eq!(situation.turns(now).len(), 21);
    assert!(situation.active.take_look(0, PARTY, now));
    assert!(!situation.active.take_look(0, PARTY, now), "a turn is used up");
    assert!(!situation.active.take_look(2000, OTHER_PARTY, now));

    let soon = now + Duration::from_millis(200);
    assert_eq!(situation.turns(soon), [21, 2000], "of several parties");
}

#[test]
fn a_secret_that_is_left_alone_is_no_longer_contested() {
    let mut situation = Situation::new();
    let now = situation.now;
    (0..10).for_each(|_| situation.active.restored(0, now.mono));
    let contested = situation.active.contested(0, now.mono).unwrap();
    assert_eq!((contested.report, contested.until > now.mono), (Grace::Over, true));
    let calm = after(now, 20 * MINUTE);
    assert!(situation.active.contested(0, calm.mono).is_none());

    situation.active.forget_calm(calm.mono);

    assert!(situation.active.entries.is_empty());
}
