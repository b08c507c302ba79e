use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{NOW, Situation, registered, target};
use crate::api::conditions::Reason;
use crate::api::device::{LastError, ProvisionedDeviceStatus};
use crate::controller::device::decide::{Call, Step, Verdict};
use crate::controller::device::facts::{Facts, FailedWork, NewFailure, ServedRequests};
use crate::controller::device::status::render;
use crate::schedule::permits::Lane;

fn refused(at_least: Option<Duration>) -> NewFailure {
    NewFailure {
        work: FailedWork::Registration,
        reason: Reason::Unauthorized,
        message: "refused".to_owned(),
        error: Some(LastError { code: Some(401_002), time: Some(Time(NOW.wall)), ..LastError::default() }),
        at_least,
        generation: 1,
        revision: 1,
        token: None,
        reconcile_at: None,
    }
}

#[test]
fn a_move_to_another_hub_is_remembered() {
    let situation = Situation::settled_device();
    let mut facts = situation.facts.clone();
    let mut moved = registered(&situation.device, &target());
    moved.hub = "hub-b.azure-devices.net".to_owned();
    facts.register(moved.clone(), ServedRequests::default());
    assert_eq!(facts.previous_hub.as_deref(), Some("hub-a.azure-devices.net"));
    facts.register(moved, ServedRequests::default());
    assert_eq!(facts.previous_hub.as_deref(), Some("hub-a.azure-devices.net"));
}

#[test]
fn failures_in_a_row_wait_longer_and_a_word_of_dps_is_a_minimum() {
    let mut facts = Facts::default();
    facts.fail(refused(None), 0, NOW.mono);
    facts.fail(refused(None), 0, NOW.mono);
    let twice = facts.failure.clone().unwrap();
    assert_eq!(twice.attempts, 2);
    assert!(twice.not_before >= NOW.mono + Duration::from_secs(120));
    facts.fail(refused(Some(Duration::from_secs(3000))), 0, NOW.mono);
    assert!(facts.failure.unwrap().not_before >= NOW.mono + Duration::from_secs(3000));
}

/// A new device that DPS has refused a moment ago, and its status.
fn refused_once() -> (Situation, ProvisionedDeviceStatus) {
    let mut situation = Situation::new_device();
    situation.facts.fail(refused(None), 0, NOW.mono);
    let verdict = Verdict { reason: Reason::Unauthorized, message: "refused".to_owned() };
    let written = render(&situation.device, &situation.facts, &verdict, NOW.wall);
    (situation, written)
}

#[test]
fn of_a_wait_that_a_status_tells_of_only_what_is_left_is_waited_and_never_more_than_all() {
    let (situation, written) = refused_once();
    let left = |seconds: i64| {
        let wall = NOW.wall + SignedDuration::from_secs(seconds);
        let restored = Facts::from_status(&written, 1, 0, (wall, NOW.mono));
        (restored.failure.unwrap().not_before - NOW.mono).as_secs()
    };
    let whole = (situation.facts.failure.as_ref().unwrap().not_before - NOW.mono).as_secs();
    // The last two clocks are behind the one that wrote the status.
    assert_eq!([0, 20, 3600, -20, -7200].map(left), [whole, whole - 20, 0, whole, whole]);
}

#[test]
fn a_restart_does_not_forget_how_long_to_wait() {
    let (mut situation, written) = refused_once();
    let restored = Facts::from_status(&written, 1, 0, (NOW.wall, NOW.mono));
    let (before, after) = (situation.facts.failure.as_ref().unwrap(), restored.failure.as_ref().unwrap());
    assert_eq!(
        (after.attempts, after.not_before, after.reason),
        (before.attempts, before.not_before, before.reason)
    );
    situation.facts = restored;
    assert_eq!(situation.decide().step, Step::Nothing);
    situation.target.as_recorded = false;
    assert_eq!(
        situation.decide().step,
        Step::Call(Call::Register, Lane::New),
        "the key was changed meanwhile"
    );
    situation.target.as_recorded = true;
    situation.device.metadata.generation = Some(2);
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::New));
}

#[test]
fn a_status_that_was_tampered_with_is_not_believed() {
    let situation = Situation::settled_device();
    let verdict = Verdict { reason: Reason::Provisioned, message: String::new() };
    let good = render(&situation.device, &situation.facts, &verdict, NOW.wall);
    for (hub, device_id) in [("evil;x.azure-devices.net", "truck-1"), ("hub-a.azure-devices.net", "truck-2")]
    {
        let mut status = good.clone();
        (status.assigned_hub, status.device_id) = (Some(hub.to_owned()), Some(device_id.to_owned()));
        assert_eq!(
            Facts::from_status(&status, 1, 0, (NOW.wall, NOW.mono)).registered,
            None,
            "{hub} {device_id}"
        );
    }
}

#[test]
fn a_hub_that_would_not_be_accepted_from_dps_is_not_taken_from_a_secret_either() {
    let facts = Situation::settled_device().facts;
    assert!(facts.clone().without_foreign_hub(&[".azure-devices.net".to_owned()]).registered.is_some());
    assert!(facts.without_foreign_hub(&[".azure-devices.us".to_owned()]).registered.is_none());
}
