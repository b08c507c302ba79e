//! What has fallen due, and the permit it is done with.

use serde_json::{Value, json};

use super::{SECOND, Situation, after, registered};
use crate::controller::device::facts::{Located, Trigger};
use crate::dps::answer::Assignment;
use crate::dps::ids::{HubHostname, IdScope, RegistrationId};
use crate::engine::devices::{DueWork, HeldPermit};

fn look_up(found: Value) -> DueWork {
    let hub = HubHostname::parse(found["hub"].as_str().unwrap(), &[".azure-devices.net".to_owned()]);
    let assignment = Assignment {
        hub: hub.unwrap(),
        device_id: "truck-0".to_owned(),
        substatus: None,
        etag: None,
        created_time: None,
        last_updated_time: None,
        enrollment_group: None,
        payload: None,
        issued: None,
    };
    let (scope, registration_id) =
        (IdScope::parse("0ne1").unwrap(), RegistrationId::parse("truck-0").unwrap());
    DueWork::Found(Box::new(Located { scope, registration_id, assignment }))
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
fn a_registration_that_is_due_comes_before_a_check_whichever_was_first() {
    let mut situation = Situation::new();
    situation.active.due(0, DueWork::Check);
    situation.active.due(0, DueWork::Periodic);

    situation.active.due(0, DueWork::Check);
    situation.active.checked(0, None);
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
