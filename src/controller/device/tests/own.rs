//! Devices with a key of their own.

use super::*;
use crate::controller::device::decide::Verdict;
use crate::controller::device::decide::{Call, Grace, Step};
use crate::controller::device::facts::{Doubt, RecordedInSecret, Unresolved};
use crate::controller::device::status::render;
use crate::controller::integration::unusable::Unusable;
use crate::fleet::credential;
use crate::schedule::permits::Lane;

/// A device's own credentials: a key made of this byte.
fn own(filler: u8) -> Credentials {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode([filler; 64]).into_bytes();
    let data = [("primaryKey".to_owned(), Zeroizing::new(text))].into();
    let secret = Referred::Present { data, generated: false, version: "7".to_owned() };
    let attestation = serde_json::from_value(attestation()["symmetricKey"].clone()).unwrap();
    Credentials::resolve_own(&attestation, |_| &secret).unwrap()
}

fn attestation() -> serde_json::Value {
    json!({"symmetricKey": {"primaryKeyRef": {"name": "mine", "key": "primaryKey"}}})
}

fn with_own(filler: u8) -> Situation {
    let mut situation =
        Situation { device: device(json!({"attestation": attestation()})), ..Situation::new_device() };
    situation.target.terms.credentials = own(filler);
    situation
}

fn registered_with(filler: u8) -> Situation {
    let mut situation = with_own(filler);
    situation.facts = provisioned(&situation.device, &situation.target);
    situation.facts.registered.as_mut().unwrap().key_secret = Some("mine".to_owned());
    situation.secret = SecretState { read: true, ..secret(SecretSeen::Version(SECRET_VERSION)) };
    situation
}

fn said(decision: &Decision) -> Option<Reason> {
    decision.verdict.as_ref().map(|verdict| verdict.reason)
}

#[test]
fn its_key_is_read_before_anything_else_is_done_and_after_what_needs_no_key() {
    let situation = with_own(1);
    let read = situation.decide_with(IntegrationState::Unread(&situation.target));
    assert_eq!((read.step, said(&read)), (Step::ReadCredential, None));
    let taken = Situation { standing: IdStanding::Taken, ..with_own(1) };
    let decision = taken.decide_with(IntegrationState::Unread(&taken.target));
    assert_eq!((decision.step, said(&decision)), (Step::Nothing, Some(Reason::DuplicateRegistrationId)));
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::New));
}

#[test]
fn what_is_wrong_with_it_is_said_and_that_its_secret_is_gone_as_well() {
    let missing = Unusable::new(Reason::KeySecretNotFound, "there is none");
    for mut situation in [with_own(1), registered_with(1)] {
        let keyless = |situation: &Situation| {
            situation.decide_with(IntegrationState::Keyless(&situation.target, &missing, Grace::Over))
        };
        let decision = keyless(&situation);
        assert_eq!((decision.step, said(&decision)), (Step::Nothing, Some(Reason::KeySecretNotFound)));
        if situation.facts.registered.is_some() {
            situation.secret.seen = SecretSeen::No;
            let decision = keyless(&situation);
            assert_eq!(said(&decision), Some(Reason::CredentialUnavailable));
            assert!(decision.verdict.unwrap().message.contains("there is none"));
        }
    }
}

#[test]
fn without_one_it_cannot_do_where_nothing_is_shared() {
    let mut situation = Situation::new_device();
    let attestation = serde_json::from_value(json!({"perDevice": {}})).unwrap();
    situation.target.terms.credentials = Credentials::resolve(&attestation, |_| &Referred::Missing).unwrap();
    assert_eq!(said(&situation.decide()), Some(Reason::InvalidConfiguration));
}

#[test]
fn another_key_is_registered_with_what_a_user_changed_before_what_concerns_a_fleet() {
    let mut situation = registered_with(1);
    assert_eq!(situation.decide().step, Step::Nothing);
    situation.target.terms.credentials = own(2);
    situation.device.status = Some(serde_json::from_value(json!({"observedGeneration": 1})).unwrap());
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::Fleet), "its Secret was changed");
    situation.device.status = Some(serde_json::from_value(json!({"observedGeneration": 0})).unwrap());
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::Changed), "it names another one");
}

fn recorded(situation: &Situation, sealed: bool) -> RecordedInSecret {
    RecordedInSecret {
        registered: situation.facts.registered.clone().unwrap(),
        served: ServedRequests::default(),
        sealed,
        version: SECRET_VERSION,
        rendered: None,
        of_another_key: None,
        agrees: true,
    }
}

#[test]
fn a_seal_of_its_own_key_is_no_proof_for_a_device_without_status() {
    let situation = registered_with(1);
    let mut facts = Facts::default();
    facts.recall(Some(recorded(&situation, true)), None);
    assert!(facts.registered.is_none() && matches!(facts.doubt, Some(Doubt::Unsealed(_))));
    let without = Situation { facts, ..registered_with(1) };
    assert_eq!(without.decide().step, Step::Call(Call::Adopt, Lane::New));

    // A group's seal is.
    let group = Situation::settled_device();
    let mut facts = Facts::default();
    facts.recall(Some(recorded(&group, true)), None);
    assert!(facts.registered.is_some() && facts.unresolved == Unresolved::Nothing);
}

#[test]
fn its_status_names_the_secret_of_its_key_and_is_read_back_as_its_own() {
    let verdict = Verdict { reason: Reason::Provisioned, message: "m".to_owned() };
    let mut situation = registered_with(1);
    situation.facts.credential_read(&own(1));
    let shown = |situation: &Situation| {
        render(&situation.device, &situation.facts, &verdict, NOW.wall).credential.unwrap()
    };
    let status = shown(&situation);
    assert_eq!(
        (status.secret_name.as_deref(), status.secret_resource_version.as_deref()),
        (Some("mine"), Some("7"))
    );
    assert_eq!(credential::read(&status), Some(own(1).in_use()));
    // The key was changed and is not registered: which one it has, and where the next one was looked at.
    situation.facts.credential_read(&own(2));
    let status = shown(&situation);
    assert_eq!(credential::read(&status), Some(own(1).in_use()));
    assert_eq!(status.secret_resource_version, None, "a settled device has to look at it again");

    let mut new = with_own(1);
    new.facts.credential_read(&own(1));
    let status = shown(&new);
    assert_eq!((status.fingerprint, status.secret_name.as_deref()), (None, Some("mine")));

    // A device of a group shows none, whatever it read before.
    let mut group = Situation::settled_device();
    group.facts.credential_read(&own(1));
    let status = shown(&group);
    assert_eq!((status.secret_name, status.secret_resource_version), (None, None));
}
