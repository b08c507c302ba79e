//! A device is new until it has its Secret, whatever changes meanwhile.

use serde_json::json;

use super::{Situation, device, failure, keys, registered, secret};
use crate::api::conditions::Reason;
use crate::controller::device::decide::{Call, Step};
use crate::controller::device::facts::{
    Facts, FailedWork, RecordedInSecret, Registered, ServedRequests, WrittenSecret,
};
use crate::fleet::SecretSeen;
use crate::schedule::permits::Lane;

/// What happens before its Secret is written.
type Change = fn(&mut Situation);

/// DPS has just accepted its first registration.
fn accepted(spec: serde_json::Value) -> Situation {
    let new = Situation { device: device(spec), ..Situation::new_device() };
    let registered = registered(&new.device, &new.target);
    Situation { facts: Facts { registered: Some(registered), fresh: true, ..Facts::default() }, ..new }
}

#[test]
fn its_secret_is_written_at_once_as_long_as_its_key_is_at_hand() {
    let cases: [(&str, Change); 6] = [
        ("nothing has changed", |_| {}),
        ("the other slot is in use", |s| s.target.terms.credentials = keys(2, Some(1))),
        ("a token of the fleet", |s| s.target.terms.token = Some("1".to_owned())),
        ("a changed payload", |s| s.device.spec.payload = device(json!({"payload": {"a": 1}})).spec.payload),
        ("suspended since", |s| s.device.spec.suspend = true),
        ("an integration suspended since", |s| s.target.terms.suspended = true),
    ];
    for (what, change) in cases {
        for policy in ["OnChange", "Never"] {
            let mut situation = accepted(json!({"reprovision": {"policy": policy}}));
            change(&mut situation);
            assert_eq!(situation.decide().step, Step::WriteSecret, "{what}, {policy}");
        }
    }
}

#[test]
fn what_it_was_registered_with_is_of_no_use_any_more_and_it_is_still_new() {
    let cases: [(&str, Change); 3] = [
        ("both keys were replaced", |s| s.target.terms.credentials = keys(2, Some(3))),
        ("the key was replaced", |s| s.target.terms.credentials = keys(2, None)),
        ("another id scope", |s| s.facts.registered.as_mut().unwrap().scope = "0ne2".to_owned()),
    ];
    for (what, change) in cases {
        for (spec, call) in [
            (json!({}), Call::Register),
            (json!({"reprovision": {"policy": "Never"}}), Call::Adopt),
            (json!({"registration": {"onCreate": "LookupFirst"}}), Call::Adopt),
        ] {
            let mut situation = accepted(spec.clone());
            change(&mut situation);
            assert_eq!(situation.decide().step, Step::Call(call, Lane::New), "{what}, {spec}");
        }
    }
}

#[test]
fn a_secret_that_cannot_be_written_keeps_no_request_waiting() {
    let mut situation = accepted(json!({}));
    situation.facts.fail(failure(FailedWork::Secret, Reason::SecretConflict), 0, super::NOW.mono);
    assert_eq!(situation.decide().step, Step::Nothing);
    let annotations = situation.device.metadata.annotations.get_or_insert_default();
    annotations.insert("dps-operator.io/reprovision-requested-at".to_owned(), "1".to_owned());
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::Changed));
}

#[test]
fn a_device_without_status_says_what_its_secret_says_and_then_waits_for_the_rotation() {
    let mut situation = Situation {
        secret: super::SecretState { read: true, ..secret(SecretSeen::Version(3)) },
        ..Situation::new_device()
    };
    let registered = registered(&situation.device, &situation.target);
    situation.target.terms.credentials = keys(2, None);
    let served = ServedRequests::default();
    let record = registered.record(&served);
    let name = "truck-1-hub".to_owned();
    let written = WrittenSecret { name, version: 3, rendered: None, record, binding: false };
    let found = Registered {
        time: None,
        credential: Some(situation.target.credentials.in_use()),
        ..registered.clone()
    };
    let recorded = RecordedInSecret {
        rendered: None,
        registered,
        served,
        sealed: false,
        version: 9,
        of_another_key: Some(written),
        agrees: true,
    };
    situation.facts.recall(Some(recorded), None);
    // Nobody vouches for it any more.
    assert_eq!(situation.decide().step, Step::Call(Call::Adopt, Lane::New));
    let mut elsewhere = situation.facts.clone();
    situation.facts.register(found.clone(), ServedRequests::default());

    let decision = situation.decide();

    assert_eq!(decision.step, Step::Call(Call::Register, Lane::Fleet));
    assert_eq!(decision.verdict.unwrap().reason, Reason::Provisioned);

    // A Secret that names another hub than DPS does could not be put right.
    let hub = "hub-b.azure-devices.net".to_owned();
    elsewhere.register(Registered { hub, ..found }, ServedRequests::default());
    situation.facts = elsewhere;
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::New));
}
