//! What is kept of a device while it has work, sleeps or has settled.

use std::sync::Arc;

use super::{MINUTE, PARTY, Situation, after, device, in_flight, registered};
use crate::controller::device::facts::{ServedRequests, Trigger, Unresolved};
use crate::controller::device::open_registration::{OpenRegistration, RegisteredTerms};
use crate::dps::attestation::{CredentialId, CredentialKind};
use crate::dps::host::AllowedHosts;
use crate::dps::ids::{IdScope, RegistrationId};
use crate::dps::operation::{OpenOperation, Registrant};
use crate::engine::devices::{CROWD, DueWork, Freshness, Load};
use crate::fleet::DeviceId;
use crate::fleet::hash::Hash;
use crate::schedule::Share;

#[tokio::test]
async fn a_device_that_is_gone_leaves_nothing_behind() {
    let mut situation = Situation::with_devices(1);
    let (active, now) = (&mut situation.active, situation.now);
    let task = in_flight();
    active.started(0, task.abort_handle(), Load::Call);
    active.due(0, DueWork::Check);
    active.restored(0, now.mono);
    active.unanswered(0);
    active.plan_report(0, PARTY, None, now.mono);
    active.plan_queued_report(0, PARTY, now.mono, now.mono);
    assert!(!active.take_verification(0, PARTY, now.mono), "it has a turn to wait for");
    let held = situation.hold(0, false);

    let returned = situation.active.remove(0);

    assert_eq!(returned.map(|held| held.permit), Some(held));
    assert!(task.await.unwrap_err().is_cancelled());
    let active = &mut situation.active;
    assert!(active.work(0).is_none() && active.permit(0).is_none() && active.due_work(0).is_none());
    assert_eq!((active.in_flight(), active.working), (0, 0));
    assert!(active.contested(0, now.mono).is_none());
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
    assert!(situation.active.contested(0, now.mono).is_some(), "its Secret was reverted a moment ago");
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

    situation.active.started(0, first.abort_handle(), Load::Call);
    situation.active.started(1, second.abort_handle(), Load::Call);
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

    situation.active.started(0, task.abort_handle(), Load::Call);

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

    let now = situation.now;
    situation.active.sleep_in_a_crowd(0, now);
    situation.active.sleep_in_a_crowd(1, now);

    assert!(situation.active.work(0).is_some() && situation.active.work(1).is_none());
}

#[test]
fn what_was_planned_for_a_sleeping_device_is_not_forgotten() {
    let crowd = DeviceId::try_from(CROWD).unwrap();
    let mut situation = Situation::with_devices(crowd + 1);
    let now = situation.now;
    situation.active.wake(crowd, now);
    let id = crowd - 1;
    let since = now.mono;
    let planned = situation.active.plan_queued_report(id, PARTY, since, since).unwrap();
    situation.active.plan_queued_report(id, PARTY, since, planned);
    situation.active.sleep_in_a_crowd(id, now);
    assert!(situation.active.work(id).is_none());

    assert!(!situation.active.is_queued_long(id, Some(since)));
    assert_eq!(situation.active.next_turn(planned), Some(id));
    assert!(situation.active.is_queued_long(id, Some(since)));

    situation.active.wake(id, now);
    assert!(situation.active.is_queued_long(id, Some(since)));
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

impl Situation {
    /// DPS has accepted the device's registration and wants to be asked later how that ended.
    fn registering(&mut self, id: DeviceId) -> Arc<OpenRegistration> {
        let registrant = Registrant {
            endpoint: AllowedHosts::parse(["x.example"]).unwrap().check("x.example").unwrap(),
            scope: IdScope::parse("0ne1").unwrap(),
            registration_id: RegistrationId::parse(&format!("truck-{id}")).unwrap(),
            credential: CredentialId::parse(CredentialKind::GroupKey, "0000000000000001").unwrap(),
        };
        let operation = OpenOperation::of(registrant, self.now, after(self.now, MINUTE));
        let terms = RegisteredTerms { slot: None, hash: Hash::of("test", []) };
        let facts = &mut self.active.work_mut(id).unwrap().facts;
        facts.registering(OpenRegistration { operation, terms, served: ServedRequests::default() });
        facts.open.clone().unwrap()
    }

    fn open(&self, id: DeviceId) -> Option<&Arc<OpenRegistration>> {
        self.active.work(id)?.facts.open.as_ref()
    }
}

#[test]
fn a_registration_that_goes_on_outlives_sleep_and_what_the_watch_shows_meanwhile() {
    let crowd = DeviceId::try_from(CROWD).unwrap();
    let mut situation = Situation::with_devices(crowd + 2);
    let now = situation.now;
    (crowd..crowd + 2).for_each(|id| situation.active.wake(id, now));
    let (new, settled) = (0, 1);
    let open = [new, settled].map(|id| situation.registering(id));
    [new, settled].into_iter().for_each(|id| situation.active.sleep_in_a_crowd(id, now));
    for id in [new, settled] {
        assert!(situation.active.work(id).is_none() && situation.active.has_begun_to_register(id));
    }

    situation.observe(new, device(new, 2));
    situation.active.observed(settled, registered(settled), true, now);

    // In a crowd both sleep again.
    [new, settled].into_iter().for_each(|id| situation.active.wake(id, now));
    for (id, open) in [new, settled].into_iter().zip(open) {
        assert_eq!(situation.open(id), Some(&open));
        assert!(situation.active.has_begun_to_register(id));
    }
    situation.active.settle(new);
    assert!(!situation.active.has_begun_to_register(new));
}

#[test]
fn nor_is_it_lost_when_the_object_of_a_revived_device_comes() {
    let mut situation = Situation::new();
    situation.active.revived(0, device(0, 1), situation.now);
    let open = situation.registering(0);

    situation.observe(0, registered(0));

    assert_eq!(situation.open(0), Some(&open));
}

#[test]
fn a_registration_whose_end_is_not_known_is_remembered_awake_asleep_and_when_the_object_comes() {
    let crowd = DeviceId::try_from(CROWD).unwrap();
    let mut situation = Situation::with_devices(crowd + 2);
    let now = situation.now;
    let (settled, revived) = (1, crowd + 2);
    situation.active.remove(settled);
    situation.observe(settled, registered(settled));
    situation.active.wake(settled, now);
    situation.active.work_mut(settled).unwrap().facts.unresolved = Unresolved::Begun;
    situation.active.revived(revived, device(revived, 1), now);
    situation.active.work_mut(revived).unwrap().facts.unresolved = Unresolved::Begun;

    let known = |situation: &Situation, id| situation.active.has_begun_to_register(id);
    assert!(known(&situation, settled) && situation.active.superseded(settled, now).is_some());
    situation.active.observed(settled, registered(settled), true, now);
    situation.active.observed(revived, registered(revived), true, now);
    assert!(known(&situation, settled) && known(&situation, revived));

    situation.active.sleep_in_a_crowd(settled, now);
    assert!(situation.active.work(settled).is_none() && known(&situation, settled));
    assert!(situation.active.superseded(settled, now).is_some());
    situation.active.observed(settled, registered(settled), true, now);
    assert!(known(&situation, settled));
    situation.active.wake(settled, now);
    assert_eq!(situation.active.work(settled).unwrap().facts.unresolved, Unresolved::Begun);
}
