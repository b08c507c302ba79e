//! What is believed of a Secret: what bears the operator's seal, and nothing that DPS has contradicted.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::secrets::{desired_of, existing};
use super::{NOW, SECRET_VERSION, Situation, device, keys, registered, secret, target};
use crate::api::conditions::Reason;
use crate::api::device::ProvisionedDeviceStatus;
use crate::controller::device::decide::{Call, IdStanding, Step};
use crate::controller::device::facts::{Doubt, Facts, RecordedInSecret, ServedRequests, Trigger, Trust};
use crate::controller::device::secret::read_back;
use crate::controller::integration::target::Target;
use crate::dps::ids::IdScope;
use crate::fleet::SecretSeen;
use crate::schedule::permits::Lane;

const ASSIGNMENT: &str = "dps-operator.io/assignment";

fn annotated(key: &str, value: Value) -> Value {
    json!({"metadata": {"annotations": {key: value}}})
}

/// What is read from the Secret as it was written, changed by a merge.
fn recorded(change: &Value, target: &Target) -> Option<RecordedInSecret> {
    let device = device(json!({}));
    read_back(&existing(&desired_of(&device), change), &device, target)
}

fn is_sealed(change: &Value, target: &Target) -> bool {
    recorded(change, target).is_some_and(|recorded| recorded.sealed)
}

/// The seal covers what the operator wrote, and that was no payload.
#[test]
fn a_returned_payload_that_others_have_added_is_not_believed_under_the_seal() {
    let target = target();
    let added = json!({"data": {"returnedPayload": BASE64_STANDARD.encode(r#"{"site":"b"}"#)}});
    let recorded = recorded(&added, &target).unwrap();
    assert!(recorded.sealed);
    assert_eq!(recorded.registered.returned_payload, None);
}

#[test]
fn every_edit_of_what_the_operator_wrote_breaks_the_seal_and_no_addition_does() {
    let target = target();
    assert!(is_sealed(&json!({}), &target));
    let assignment = json!({"hub": "hub-b.azure-devices.net", "deviceId": "truck-1"}).to_string();
    let far =
        json!({"hub": "hub-a.azure-devices.net", "deviceId": "truck-1", "time": "2099-01-01T00:00:00Z"});
    let edits = [
        annotated(ASSIGNMENT, json!(assignment)),
        annotated(ASSIGNMENT, json!(far.to_string())),
        annotated("dps-operator.io/rendered-hash", json!("v1:0000000000000000")),
        annotated("dps-operator.io/registered-hash", json!("v1:0000000000000000")),
        annotated("dps-operator.io/registered-hash", Value::Null),
        annotated("dps-operator.io/credential-fingerprint", json!("0000000000000000")),
        annotated("dps-operator.io/credential-fingerprint", Value::Null),
        annotated("dps-operator.io/managed-keys", json!("deviceId")),
        annotated("dps-operator.io/managed-keys", Value::Null),
        annotated("dps-operator.io/seal", Value::Null),
        annotated("dps-operator.io/seal", json!("v1:00000000000000000000000000000000")),
        annotated("dps-operator.io/seal", json!("v2:00000000000000000000000000000000")),
        json!({"data": null}),
    ];
    for edit in edits {
        assert!(!is_sealed(&edit, &target), "{edit}");
    }
    for key in
        ["connectionString", "iotHubHostname", "deviceId", "sharedAccessKey", "registrationId", "idScope"]
    {
        for value in [json!("eA=="), json!(""), Value::Null] {
            assert!(!is_sealed(&json!({"data": {key: value}}), &target), "{key} {value}");
        }
    }
    for addition in [
        json!({"data": {"theirs": "eA=="}}),
        json!({"metadata": {"labels": {"team": "a"}}}),
        annotated("example.com/note", json!("hello")),
    ] {
        assert!(is_sealed(&addition, &target), "{addition}");
    }
}

#[test]
fn a_seal_is_checked_with_both_keys_and_not_believed_without_its_key() {
    for (keys, believed) in [(keys(1, Some(2)), true), (keys(2, Some(1)), true), (keys(2, None), false)] {
        let mut target = target();
        target.terms.credentials = keys;
        assert_eq!(recorded(&json!({}), &target).is_some_and(|recorded| recorded.sealed), believed);
    }
}

#[test]
fn the_sealed_record_of_another_device_or_id_scope_is_not_read() {
    let (one, mut other) = (device(json!({})), device(json!({})));
    other.metadata.name = Some("truck-2".to_owned());
    let theirs = serde_json::to_value(desired_of(&other).object()).unwrap();
    // All of it, and all of it but the marks that say whose it is.
    for kept in [json!({}), json!({"dps-operator.io/device": "fleet/truck-1"})] {
        let mut swapped = theirs.clone();
        for (key, value) in kept.as_object().unwrap() {
            swapped["metadata"]["annotations"][key] = value.clone();
        }
        let read = read_back(&serde_json::from_value(swapped).unwrap(), &one, &target());
        assert_eq!(read, None, "{kept}");
    }
    let mut renamed = theirs;
    renamed["metadata"]["annotations"]["dps-operator.io/device"] = json!("fleet/truck-1");
    renamed["metadata"]["annotations"]["dps-operator.io/registration"] = json!("0ne1/truck-1");
    assert!(
        read_back(&serde_json::from_value(renamed).unwrap(), &one, &target()).is_none_or(|read| !read.sealed)
    );
    let mut elsewhere = target();
    elsewhere.terms.instance.scope = IdScope::parse("0ne2").unwrap();
    assert_eq!(recorded(&json!({}), &elsewhere), None);
}

/// A record that says this, of so many seconds later than what is known.
pub(super) fn record(hub: &str, seconds: u64, sealed: bool) -> RecordedInSecret {
    let mut registered = registered(&device(json!({})), &target());
    registered.hub = hub.to_owned();
    registered.time = Some(NOW.wall + Duration::from_secs(seconds));
    RecordedInSecret {
        rendered: None,
        registered,
        served: ServedRequests::default(),
        sealed,
        version: 9,
        of_another_key: None,
        agrees: true,
    }
}

pub(super) const KNOWN: &str = "hub-a.azure-devices.net";
const OTHER: &str = "hub-b.azure-devices.net";

#[test]
fn a_status_is_contradicted_by_a_newer_sealed_secret_only() {
    for (hub, seconds, sealed, believed, doubted) in [
        (OTHER, 70, true, OTHER, false),
        (OTHER, 70, false, KNOWN, false),
        // One that was put back, or a status that was edited.
        (OTHER, 50, true, KNOWN, true),
        (KNOWN, 50, true, KNOWN, false),
        (OTHER, 60, true, KNOWN, true),
        (OTHER, 60, false, KNOWN, false),
        (KNOWN, 60, true, KNOWN, false),
    ] {
        let mut situation =
            Situation { secret: secret(SecretSeen::Version(99)), ..Situation::settled_device() };
        situation.secret.read = true;
        situation.facts.registered.as_mut().unwrap().time = Some(NOW.wall + Duration::from_secs(60));
        situation.facts.recall(Some(record(hub, seconds, sealed)), None);
        let case = format!("{hub} {seconds} {sealed}");
        assert_eq!(situation.facts.registered.as_ref().unwrap().hub, believed, "{case}");
        let step = if doubted { Step::Call(Call::Lookup, Lane::Changed) } else { Step::WriteSecret };
        assert_eq!(situation.decide().step, step, "{case}");
    }
}

#[test]
fn while_dps_may_not_be_asked_a_contradiction_is_left_as_it_is() {
    let mut situation = Situation { secret: secret(SecretSeen::Version(99)), ..Situation::settled_device() };
    situation.secret.read = true;
    situation.facts.recall(Some(record(OTHER, 0, true)), None);
    situation.target.terms.suspended = true;
    assert_eq!(situation.decide().step, Step::Nothing);
    situation.device = device(json!({"suspend": true}));
    let decision = situation.decide();
    let reason = decision.verdict.map(|verdict| verdict.reason);
    assert_eq!((decision.step, reason), (Step::Nothing, Some(Reason::Suspended)));
}

#[test]
fn without_a_status_a_sealed_secret_is_believed_and_of_another_dps_is_asked() {
    let mut situation = Situation::new_device();
    situation.secret = secret(SecretSeen::Version(9));
    situation.secret.read = true;
    let new = situation.facts.clone();
    situation.facts.recall(Some(record(KNOWN, 0, true)), None);
    assert_eq!(situation.decide().step, Step::WriteSecret, "to add what a restore leaves out");

    situation.facts = new.clone();
    situation.facts.recall(Some(record(OTHER, 0, false)), None);
    assert_eq!(situation.facts.registered, None);
    assert_eq!(situation.decide().step, Step::Call(Call::Adopt, Lane::New));
    // DPS knows none.
    situation.facts.not_found();
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::New));

    // What an allocation function returned cannot be looked up.
    let mut with_payload = record(OTHER, 0, false);
    let payload = json!({"a": 1});
    with_payload.registered.returned_payload =
        Some(crate::controller::device::facts::ReturnedPayload::new(payload.as_object().unwrap()));
    situation.facts = new;
    situation.facts.recall(Some(with_payload), None);
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::New));
}

#[test]
fn a_payload_that_changed_before_a_confirmed_restore_is_still_handed_over() {
    let target = target();
    let old = registered(&device(json!({"payload": {"site": "a"}})), &target);
    let device = device(json!({"payload": {"site": "b"}}));
    let mut found = registered(&device, &target);
    found.time = None;
    let recorded = RecordedInSecret { registered: old.clone(), ..record(KNOWN, 0, false) };
    let mut facts = Facts { doubt: Some(Doubt::Unsealed(Box::new(recorded))), ..Facts::default() };
    facts.register(found, ServedRequests::default());
    assert_eq!((facts.registered.unwrap().hash, facts.doubt), (old.hash, None));
}

#[test]
fn requests_that_a_secret_records_are_not_served_again() {
    let served = ServedRequests { token: Some("2".to_owned()), ..ServedRequests::default() };
    let earlier = ServedRequests { token: Some("1".to_owned()), ..ServedRequests::default() };
    let (new, settled) = (Situation::new_device().facts, Situation::settled_device().facts);
    for (facts, seconds) in [(&new, 0), (&settled, 0), (&settled, 60)] {
        let mut facts = Facts { served: earlier.clone(), ..facts.clone() };
        facts.recall(Some(RecordedInSecret { served: served.clone(), ..record(KNOWN, seconds, true) }), None);
        assert_eq!(facts.served.token.as_deref(), Some("2"), "{seconds}");
    }
    // Of one registration the Secret counts, and not the status.
    let mut edited = settled.clone();
    edited.registered.as_mut().unwrap().hash = None;
    edited.recall(Some(record(KNOWN, 0, true)), None);
    assert_eq!(edited.registered, settled.registered);
    // But not what somebody wrote into it.
    let mut facts = Facts { served: earlier, ..settled };
    facts.recall(Some(RecordedInSecret { served, ..record(KNOWN, 60, false) }), None);
    assert_eq!(facts.served.token.as_deref(), Some("1"));
}

#[test]
fn nothing_is_written_from_a_status_before_the_secret_was_compared_with_it() {
    let settled =
        Situation { secret: secret(SecretSeen::Version(SECRET_VERSION)), ..Situation::settled_device() };
    let mut forged = Situation { ..settled };
    forged.facts.registered.as_mut().unwrap().hub = OTHER.to_owned();
    assert_eq!(forged.decide().step, Step::ReadSecret);
    let (facts, mut unsealed) = (forged.facts.clone(), record(KNOWN, 0, false));
    unsealed.version = SECRET_VERSION;
    for recorded in [record(KNOWN, 0, true), unsealed] {
        forged.facts = facts.clone();
        forged.secret.read = true;
        forged.facts.recall(Some(recorded), None);
        assert_eq!(forged.decide().step, Step::Call(Call::Lookup, Lane::Changed));
        let other = Situation::settled_device().facts.of_registration("truck-2");
        assert_eq!(other.registered, None);
    }
}

#[test]
fn what_the_secret_has_told_is_said_at_once_where_the_fleets_work_waits_and_nothing_due_is_forgotten() {
    for (trust, trigger, says) in [
        (Trust::Nothing, None, false),
        (Trust::Sealed, None, true),
        (Trust::Sealed, Some(Trigger::NotFound), false),
        (Trust::Sealed, Some(Trigger::Periodic), false),
    ] {
        let mut settled = Situation::settled_device();
        settled.target.terms.token = Some("fleet-1".to_owned());
        let observed_generation = settled.device.metadata.generation;
        settled.device.status =
            Some(ProvisionedDeviceStatus { observed_generation, ..ProvisionedDeviceStatus::default() });
        (settled.facts.trust, settled.facts.trigger) = (trust, trigger);
        let decision = settled.decide();
        assert_eq!(decision.step, Step::Call(Call::Register, Lane::Fleet));
        assert_eq!(decision.verdict.is_some(), says, "{trust:?} {trigger:?}");
    }
}

#[test]
fn a_device_whose_id_another_seems_to_have_gives_way_only_after_a_look_at_both_records() {
    let settled = || Situation { standing: IdStanding::Unverified, ..Situation::settled_device() };
    let mut unread = settled();
    unread.secret.read = false;
    assert_eq!(unread.decide().step, Step::ReadSecret);
    assert_eq!(settled().decide().step, Step::Call(Call::Lookup, Lane::Changed));
    let mut touched = settled();
    touched.secret.seen = SecretSeen::Version(SECRET_VERSION + 1);
    assert_eq!(touched.decide().step, Step::Call(Call::Lookup, Lane::Changed), "nothing is written before");
    let mut suspended = settled();
    suspended.device.spec.suspend = true;
    let decision = suspended.decide();
    assert_eq!((decision.step, decision.verdict.unwrap().reason), (Step::Nothing, Reason::Suspended));
    let taken = Situation { standing: IdStanding::Taken, ..Situation::settled_device() };
    assert_eq!(taken.decide().verdict.unwrap().reason, Reason::DuplicateRegistrationId);
}
