//! What is kept of devices, without a cluster and with times that are made up.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Active, CROWD, DueWork, Freshness, HeldPermit};
use crate::api::device::ProvisionedDevice;
use crate::clock::{self, Now};
use crate::controller::device::decide::Grace;
use crate::controller::device::facts::Trigger;
use crate::dps::ids::IdScope;
use crate::fleet::DeviceId;
use crate::schedule::Share;
use crate::schedule::permits::{Gate, Lane, Permit, Permits};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn device(number: DeviceId, generation: i64) -> ProvisionedDevice {
    serde_json::from_value(json!({
        "apiVersion": "dps-operator.io/v1alpha1", "kind": "ProvisionedDevice",
        "metadata": {
            "name": format!("truck-{number}"), "namespace": "fleet", "uid": format!("uid-{number}"),
            "generation": generation, "resourceVersion": generation.to_string(),
        },
        "spec": {"integrationRef": {"name": "factory"}},
        "status": {"observedGeneration": -1},
    }))
    .unwrap()
}

fn registered(number: DeviceId) -> ProvisionedDevice {
    let mut device = device(number, 1);
    device.status = Some(
        serde_json::from_value(json!({
            "observedGeneration": 1, "registrationId": format!("truck-{number}"), "idScope": "0ne1",
            "assignedHub": "hub-a.azure-devices.net", "deviceId": format!("truck-{number}"),
        }))
        .unwrap(),
    );
    device
}

/// So much later.
fn after(now: Now, wait: Duration) -> Now {
    Now { wall: now.wall.checked_add(wait).unwrap(), mono: now.mono + wait }
}

fn permit(waiter: DeviceId, now: Instant) -> Permit {
    let mut permits = Permits::new(600, 10);
    permits.admit(1, IdScope::parse("0ne1").unwrap(), Gate::OPEN, now);
    permits.enqueue(1, waiter, Lane::New, now);
    permits.poll(now).unwrap()
}

struct Situation {
    active: Active,
    now: Now,
}

impl Situation {
    fn new() -> Self {
        Self { active: Active::new(Arc::from([".azure-devices.net".to_owned()])), now: clock::now() }
    }

    /// With devices that have work, as the watch shows them.
    fn with_devices(count: DeviceId) -> Self {
        let mut situation = Self::new();
        (0..count).for_each(|id| situation.observe(id, device(id, 1)));
        situation
    }

    fn observe(&mut self, id: DeviceId, device: ProvisionedDevice) {
        self.active.observed(id, device, false, self.now);
    }

    fn hold(&mut self, id: DeviceId, used: bool) -> Permit {
        let permit = permit(id, self.now.mono);
        self.active.hold(id, HeldPermit { permit, used });
        permit
    }
}

/// An effect that is in flight until it is aborted.
fn in_flight() -> tokio::task::JoinHandle<()> {
    tokio::spawn(std::future::pending())
}

#[tokio::test]
async fn a_device_that_is_gone_leaves_nothing_behind() {
    let mut situation = Situation::with_devices(1);
    let (active, now) = (&mut situation.active, situation.now);
    let task = in_flight();
    active.started(0, task.abort_handle());
    active.due(0, DueWork::Check);
    active.restored(0, now.mono);
    active.unanswered(0);
    active.plan_report(0, None, now.mono);
    active.plan_queued_report(0, now.mono, now.mono);
    let turns: Vec<_> = (0..200).rev().map(|id| active.take_verification(id, now.mono)).collect();
    assert!(turns[199].is_err(), "it has a turn to wait for");
    let held = situation.hold(0, false);

    let returned = situation.active.remove(0);

    assert_eq!(returned.map(|held| held.permit), Some(held));
    assert!(task.await.unwrap_err().is_cancelled());
    let active = &mut situation.active;
    assert!(active.work(0).is_none() && active.permit(0).is_none() && active.due_work(0).is_none());
    assert_eq!((active.in_flight(), active.working), (0, 0));
    assert!(active.contested(0, now).is_none());
    assert_eq!(active.unanswered(0), 1, "counting starts afresh");
    assert_eq!(active.timers(0).queued, None);
}

#[tokio::test]
async fn a_device_that_settles_keeps_what_was_done_lately_and_nothing_else() {
    let mut situation = Situation::with_devices(1);
    let now = situation.now;
    (0..4).for_each(|_| situation.active.restored(0, now.mono));
    situation.active.due(0, DueWork::Periodic);
    let held = situation.hold(0, true);

    let returned = situation.active.settle(0);

    assert_eq!(returned.map(|held| (held.permit, held.used)), Some((held, true)));
    assert!(situation.active.work(0).is_none() && situation.active.due_work(0).is_none());
    assert!(situation.active.contested(0, now).is_some(), "its Secret was reverted a moment ago");
}

#[test]
fn a_settled_device_of_which_nothing_is_remembered_costs_nothing() {
    let mut situation = Situation::with_devices(1);

    situation.active.settle(0);

    assert!(situation.active.entries.is_empty() && situation.active.dormant.is_empty());
}

#[test]
fn a_settled_device_that_is_observed_has_no_work() {
    let mut situation = Situation::new();

    situation.active.observed(0, registered(0), true, situation.now);

    assert!(situation.active.work(0).is_none() && situation.active.entries.is_empty());
}

#[test]
fn a_changed_object_replaces_the_one_that_was_kept_and_what_is_known_stays() {
    let mut situation = Situation::with_devices(1);
    let work = situation.active.work_mut(0).unwrap();
    work.facts.trigger = Some(Trigger::NotFound);
    work.secret_read = true;
    work.share = Share::Fleet;
    work.freshness = Freshness::Stale;

    situation.observe(0, device(0, 2));

    let work = situation.active.work(0).unwrap();
    assert_eq!((work.device.metadata.generation, work.freshness), (Some(2), Freshness::Current));
    assert_eq!(work.facts.trigger, Some(Trigger::NotFound));
    assert!(!work.secret_read && work.share == Share::Device, "another generation is one device's wish");
}

#[test]
fn a_new_version_of_the_same_generation_keeps_what_was_read() {
    let mut situation = Situation::with_devices(1);
    let work = situation.active.work_mut(0).unwrap();
    work.secret_read = true;
    work.share = Share::Fleet;

    situation.observe(0, device(0, 1));

    let work = situation.active.work(0).unwrap();
    assert!(work.secret_read && work.share == Share::Fleet);
}

#[test]
fn an_object_that_was_read_does_not_replace_a_newer_one_that_was_observed() {
    let mut situation = Situation::with_devices(1);
    situation.observe(0, device(0, 3));

    situation.active.read(0, device(0, 2), true, Share::Fleet, situation.now);

    let work = situation.active.work(0).unwrap();
    assert_eq!((work.device.metadata.generation, work.share), (Some(3), Share::Device));
}

#[test]
fn a_device_that_is_read_begins_its_work_with_a_clean_count_of_failures() {
    let mut situation = Situation::new();
    situation.active.unanswered(0);
    situation.active.unanswered(0);

    situation.active.read(0, device(0, 1), false, Share::Fleet, situation.now);

    assert_eq!(situation.active.work(0).map(|work| work.share), Some(Share::Fleet));
    assert_eq!(situation.active.unanswered(0), 1);
}

#[test]
fn the_real_object_of_a_revived_device_takes_over_and_what_happened_meanwhile_stays() {
    let mut situation = Situation::new();
    situation.active.revived(0, device(0, 1), situation.now);
    situation.active.work_mut(0).unwrap().facts.trigger = Some(Trigger::Periodic);

    situation.observe(0, registered(0));

    let work = situation.active.work(0).unwrap();
    assert_eq!((work.freshness, work.facts.trigger), (Freshness::Current, Some(Trigger::Periodic)));
    assert!(work.facts.registered.is_some());
}

#[tokio::test]
async fn one_effect_of_a_device_is_in_flight_at_most() {
    let mut situation = Situation::with_devices(2);
    let (first, second) = (in_flight(), in_flight());

    situation.active.started(0, first.abort_handle());
    situation.active.started(1, second.abort_handle());
    assert_eq!(situation.active.in_flight(), 2);
    situation.active.ended(0);
    situation.active.ended(0);
    assert_eq!(situation.active.in_flight(), 1);
    situation.active.abort_all();

    assert!(second.await.unwrap_err().is_cancelled());
    first.abort();
}

#[tokio::test]
async fn an_effect_of_a_device_without_work_is_aborted() {
    let mut situation = Situation::new();
    let task = in_flight();

    situation.active.started(0, task.abort_handle());

    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(situation.active.in_flight(), 0);
}

#[test]
fn new_devices_beyond_a_crowd_sleep_and_come_back_as_they_were() {
    let crowd = DeviceId::try_from(CROWD).unwrap();
    let mut situation = Situation::with_devices(crowd + 10);
    assert_eq!(situation.active.dormant.len(), 10);
    let last = crowd + 9;
    assert!(situation.active.work(last).is_none() && !situation.active.entries.contains_key(&last));

    situation.active.wake(last, situation.now);

    let work = situation.active.work(last).unwrap();
    assert_eq!(work.device.metadata.name, Some(format!("truck-{last}")));
    assert_eq!((situation.active.dormant.len(), situation.active.working), (9, CROWD + 1));
}

#[test]
fn a_device_with_a_permit_stays_awake_in_a_crowd() {
    let crowd = DeviceId::try_from(CROWD).unwrap();
    let mut situation = Situation::with_devices(crowd + 1);
    situation.active.wake(crowd, situation.now);
    situation.hold(0, false);

    situation.active.sleep_in_a_crowd(0);
    situation.active.sleep_in_a_crowd(1);

    assert!(situation.active.work(0).is_some() && situation.active.work(1).is_none());
}

#[test]
fn what_was_planned_for_a_sleeping_device_is_not_forgotten() {
    let crowd = DeviceId::try_from(CROWD).unwrap();
    let mut situation = Situation::with_devices(crowd + 1);
    let now = situation.now;
    situation.active.wake(crowd, now);
    let id = crowd - 1;
    let planned = situation.active.plan_queued_report(id, now.mono, now.mono);
    situation.active.sleep_in_a_crowd(id);
    assert!(situation.active.work(id).is_none());

    assert!(!situation.active.is_queued_long(id, Some(now.mono), now.mono));
    assert!(situation.active.is_queued_long(id, Some(now.mono), planned.unwrap()));

    situation.active.wake(id, now);
    assert!(situation.active.is_queued_long(id, Some(now.mono), planned.unwrap()));
}

#[test]
fn a_standby_keeps_the_newest_object_of_a_device_that_will_need_work_as_text() {
    let mut situation = Situation::new();
    let now = situation.now;
    situation.active.stand_by(0, device(0, 1), false, now);
    situation.active.stand_by(0, device(0, 2), false, now);
    assert!(situation.active.work(0).is_none());

    situation.active.wake(0, now);
    assert_eq!(situation.active.work(0).unwrap().device.metadata.generation, Some(2));

    situation.active.stand_by(0, registered(0), true, now);
    situation.active.wake(0, now);
    assert!(situation.active.work(0).is_none(), "it is settled by now");
}

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

fn look_up(found: Value) -> DueWork {
    let hub = crate::dps::ids::HubHostname::parse(
        found["hub"].as_str().unwrap(),
        &[".azure-devices.net".to_owned()],
    );
    DueWork::Found(Box::new(crate::dps::answer::Assignment {
        hub: hub.unwrap(),
        device_id: "truck-0".to_owned(),
        substatus: None,
        etag: None,
        created_time: None,
        last_updated_time: None,
        enrollment_group: None,
        payload: None,
    }))
}

#[test]
fn what_a_drift_check_has_come_to_becomes_a_fact() {
    for (drift, trigger) in [
        (DueWork::Check, Some(Trigger::DriftCheck)),
        (DueWork::Periodic, Some(Trigger::Periodic)),
        (DueWork::NotFound, Some(Trigger::NotFound)),
        (look_up(json!({"hub": "hub-b.azure-devices.net"})), None),
    ] {
        let mut situation = Situation::new();
        situation.observe(0, registered(0));
        let moved = matches!(drift, DueWork::Found(_));
        situation.active.set_due(0, Some(drift));

        situation.active.absorb_due(0);

        let work = situation.active.work(0).unwrap();
        assert_eq!((work.facts.trigger, work.unreported), (trigger, true));
        let hub = work.facts.registered.as_ref().map(|registered| registered.hub.as_str());
        let expected = if moved { "hub-b.azure-devices.net" } else { "hub-a.azure-devices.net" };
        assert_eq!(hub, Some(expected));
        assert!(situation.active.due_work(0).is_none());
    }
}

#[test]
fn what_is_due_already_is_not_replaced_by_a_lesser_check() {
    let mut situation = Situation::new();
    situation.active.due(0, DueWork::Periodic);

    situation.active.due(0, DueWork::Check);
    situation.active.absorb_due(0);

    assert!(matches!(situation.active.due_work(0), Some(DueWork::Periodic)), "without its object it waits");
}

#[test]
fn a_permit_is_held_used_and_released() {
    let mut situation = Situation::new();
    let permit = situation.hold(0, false);
    assert_eq!(situation.active.unused_permit(0), Some(permit));

    situation.active.hold(0, HeldPermit { permit, used: true });

    assert_eq!(situation.active.unused_permit(0), None);
    assert!(situation.active.holds(0, permit) && !situation.active.holds(1, permit));
    assert_eq!(situation.active.release(0).map(|held| held.used), Some(true));
    assert!(situation.active.release(0).is_none());
    situation.active.tidy(0);
    assert!(situation.active.entries.is_empty());
}

#[test]
fn it_is_found_out_every_ten_seconds_what_has_fallen_due() {
    let mut situation = Situation::new();
    let now = situation.now;
    let seconds = now.wall.as_second();

    let first = situation.active.ticks.tick(now).unwrap();
    let soon = situation.active.ticks.tick(after(now, 9 * SECOND));
    let next = situation.active.ticks.tick(after(now, 10 * SECOND)).unwrap();

    assert_eq!((first.after, first.until), (seconds, seconds), "what was due before is due in an interval");
    assert_eq!(soon, None);
    assert_eq!((next.after, next.until), (seconds, seconds + 10));
    assert_eq!(situation.active.ticks.next(), Some(now.mono + 20 * SECOND));
}
