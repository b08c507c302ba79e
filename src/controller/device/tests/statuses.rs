use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{NOW, Situation, failure};
use crate::api::conditions::{ConditionType, Reason, find, is_true};
use crate::api::device::ProvisionedDeviceStatus;
use crate::controller::device::decide::Verdict;
use crate::controller::device::facts::{Facts, FailedWork};
use crate::controller::device::status::{is_equal, render};
use crate::fleet::Fleet;

fn status(situation: &Situation, reason: Reason) -> ProvisionedDeviceStatus {
    render(&situation.device, &situation.facts, &Verdict { reason, message: "m".to_owned() }, NOW.wall)
}

/// Status of Ready, then of Registered, then which of the two progress conditions is set.
fn shape(status: &ProvisionedDeviceStatus) -> (String, String, Option<&'static str>) {
    let of = |kind| find(&status.conditions, kind).unwrap().status.clone();
    let progress = ["Reconciling", "Stalled"]
        .into_iter()
        .find(|kind| status.conditions.iter().any(|c| c.type_ == *kind));
    (of(ConditionType::Ready), of(ConditionType::Registered), progress)
}

#[test]
fn the_registration_id_is_shown_of_every_device_and_believed_of_a_registered_one() {
    for (situation, registered) in [(Situation::new_device(), false), (Situation::settled_device(), true)] {
        let status = status(&situation, Reason::DuplicateRegistrationId);
        assert_eq!(status.registration_id.as_deref(), Some(situation.device.registration_id()));
        assert_eq!(Facts::from_status(&status, 1, 0, (NOW.wall, NOW.mono)).registered.is_some(), registered);
        let mut device = situation.device.clone();
        device.status = Some(status.clone());
        let mut fleet = Fleet::default();
        fleet.upsert(&device, Some(1));
        let (_, record) = fleet.iter().next().unwrap();
        assert_eq!((record.is_registered(), record.settled.is_some()), (registered, false));
        // Version 0.1.0 left it out where there was no hub.
        let earlier = ProvisionedDeviceStatus { registration_id: None, ..status.clone() };
        assert_eq!(is_equal(Some(&earlier), &status, None), !registered);
        // It knew no state.
        let earlier = ProvisionedDeviceStatus { state: None, ..status.clone() };
        assert!(is_equal(Some(&earlier), &status, None));
    }
}

#[test]
fn the_table_of_reasons_holds() {
    const R: Option<&str> = Some("Reconciling");
    const S: Option<&str> = Some("Stalled");
    let (new, settled) = (Situation::new_device(), Situation::settled_device());
    // reason; Ready when new; Ready and Registered when provisioned; progress
    let table = [
        (Reason::Queued, "False", "True", "True", R),
        (Reason::Registering, "False", "True", "True", R),
        (Reason::IntegrationNotFound, "False", "True", "Unknown", R),
        (Reason::IntegrationNotReady, "False", "True", "True", R),
        (Reason::ServiceUnavailable, "False", "True", "Unknown", R),
        (Reason::ReferenceNotAllowed, "False", "True", "False", S),
        (Reason::InvalidConfiguration, "False", "True", "False", S),
        (Reason::AllocationFailed, "False", "True", "False", S),
        (Reason::InvalidResponse, "False", "True", "False", S),
        (Reason::Unauthorized, "False", "True", "False", S),
        (Reason::Disabled, "False", "False", "False", S),
        (Reason::EnrollmentNotFound, "False", "False", "False", S),
        (Reason::DuplicateRegistrationId, "False", "False", "False", S),
        (Reason::SecretConflict, "False", "False", "True", S),
        (Reason::CredentialUnavailable, "False", "False", "True", R),
        (Reason::SecretWriteFailed, "False", "False", "True", R),
        (Reason::Suspended, "False", "True", "True", None),
        (Reason::Provisioned, "True", "True", "True", None),
    ];
    for (reason, ready_new, ready, registered, progress) in table {
        let fresh = status(&new, reason);
        assert_eq!((shape(&fresh).0.as_str(), shape(&fresh).2), (ready_new, progress), "{reason:?}");
        assert_eq!(
            shape(&status(&settled, reason)),
            (ready.to_owned(), registered.to_owned(), progress),
            "{reason:?}"
        );
    }
}

#[test]
fn what_stays_is_what_it_was() {
    let mut situation = Situation::settled_device();
    let ready = |status: &ProvisionedDeviceStatus| is_true(&status.conditions, ConditionType::Ready);
    let secret = |status: &ProvisionedDeviceStatus| {
        let condition = find(&status.conditions, ConditionType::SecretReady).unwrap();
        (condition.status.clone(), condition.reason.clone())
    };
    for lost in [
        Reason::SecretConflict,
        Reason::CredentialUnavailable,
        Reason::SecretWriteFailed,
        Reason::Disabled,
        Reason::EnrollmentNotFound,
        Reason::DuplicateRegistrationId,
    ] {
        situation.device.status = Some(status(&situation, lost));
        let before = secret(situation.device.status.as_ref().unwrap());
        for next in [Reason::IntegrationNotFound, Reason::Suspended, Reason::ServiceUnavailable] {
            let kept = status(&situation, next);
            assert!(!ready(&kept), "{lost:?}, then {next:?}");
            assert_eq!(secret(&kept), before, "{lost:?}, then {next:?}");
            situation.device.status = Some(kept);
        }
        assert!(ready(&status(&situation, Reason::Provisioned)));
    }
    // A Secret that was written again ends what was wrong with it.
    situation.device.status = Some(status(&situation, Reason::SecretConflict));
    situation.facts.secret.as_mut().unwrap().version += 1;
    let mended = status(&situation, Reason::Suspended);
    assert!(ready(&mended));
    assert_eq!(secret(&mended), ("True".to_owned(), "Written".to_owned()));
}

/// Its hub may not be allowed any more. A registration that was taken over has no time to tell it by.
#[test]
fn nothing_stays_of_a_registration_that_is_not_believed_any_more() {
    let mut situation = Situation::settled_device();
    situation.facts.registered.as_mut().unwrap().time = None;
    situation.device.status = Some(status(&situation, Reason::Provisioned));
    situation.facts.registered = None;

    let first = status(&situation, Reason::ServiceUnavailable);

    assert_eq!(shape(&first).0, "False");
    situation.device.status = Some(first.clone());
    assert!(is_equal(Some(&first), &status(&situation, Reason::ServiceUnavailable), None));
}

#[test]
fn the_generation_moves_with_every_write_also_on_failure() {
    let mut situation = Situation::new_device();
    situation.device.metadata.generation = Some(4);
    let status = status(&situation, Reason::Unauthorized);
    assert_eq!(status.observed_generation, Some(4));
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(4)));
}

#[test]
fn what_was_written_is_read_back_as_it_was_known() {
    let situation = Situation::settled_device();
    let written = status(&situation, Reason::Provisioned);
    assert!(is_true(&written.conditions, ConditionType::SecretReady));
    assert_eq!(Facts::from_status(&written, 1, 0, (NOW.wall, NOW.mono)), situation.facts);
}

/// Others write times as they like; ours has whole seconds.
#[test]
fn a_time_with_a_fraction_is_read_as_it_is_written() {
    let situation = Situation::settled_device();
    let mut status = status(&situation, Reason::Provisioned);
    let time = Timestamp::from_millisecond(1_767_225_600_123).unwrap();
    status.last_registration_time = Some(Time(time));
    let read = |status: &ProvisionedDeviceStatus| {
        Facts::from_status(status, 1, 0, (NOW.wall, NOW.mono)).registered.unwrap().time
    };
    let written = serde_json::from_value(serde_json::to_value(&status).unwrap()).unwrap();
    assert_eq!(read(&status), read(&written));
}

#[test]
fn a_status_that_says_nothing_new_is_not_written() {
    let mut situation = Situation::settled_device();
    let written = status(&situation, Reason::Provisioned);
    situation.device.status = Some(written.clone());
    let later = Timestamp::from_second(1000).unwrap();
    let verdict = Verdict { reason: Reason::Provisioned, message: "m".to_owned() };
    let again = render(&situation.device, &situation.facts, &verdict, later);
    assert!(is_equal(Some(&written), &again, None));
    assert!(!is_equal(None, &again, None));
    assert!(!is_equal(Some(&written), &status(&situation, Reason::Suspended), None));
}

#[test]
fn attempts_are_written_at_powers_of_two_only() {
    let mut situation = Situation::new_device();
    let mut writes = Vec::new();
    for attempt in 1..=16_u32 {
        situation.facts.fail(failure(FailedWork::Registration, Reason::Disabled), 0, NOW.mono);
        let wanted = status(&situation, Reason::Disabled);
        if !is_equal(situation.device.status.as_ref(), &wanted, situation.facts.failure.as_ref()) {
            situation.device.status = Some(wanted);
            writes.push(attempt);
        }
    }
    assert_eq!(writes, [1, 2, 4, 8, 16]);
}
