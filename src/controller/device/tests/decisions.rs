use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::{NOW, Situation, device, failure, keys, provisioned, secret};
use crate::api::conditions::Reason;
use crate::api::device::ProvisionedDeviceStatus;
use crate::controller::device::decide::{
    Call, Contested, Decision, Delay, Grace, IdStanding, IntegrationState, SecretState, Step, Verdict,
};
use crate::controller::device::facts::{
    FailedWork, NewFailure, RecordedInSecret, ReturnedPayload, ServedRequests,
};
use crate::controller::device::status::render;
use crate::fleet::SecretSeen;
use crate::schedule::permits::Lane;

fn said(decision: &Decision) -> Option<Reason> {
    decision.verdict.as_ref().map(|verdict| verdict.reason)
}

#[test]
fn a_new_device_registers_without_a_word() {
    let decision = Situation::new_device().decide();
    assert_eq!((decision.step, said(&decision)), (Step::Call(Call::Register, Lane::New), None));
}

#[test]
fn a_device_that_waits_long_for_its_turn_says_so_and_a_provisioned_one_does_not() {
    let mut new = Situation { delay: Delay::Queued, ..Situation::new_device() };
    assert_eq!(
        (new.decide().step, said(&new.decide())),
        (Step::Call(Call::Register, Lane::New), Some(Reason::Queued))
    );
    new = Situation { delay: Delay::Queued, ..Situation::settled_device() };
    new.target.terms.credentials = keys(2, None);
    let decision = new.decide();
    let provisioned = Some(Reason::Provisioned);
    assert_eq!((decision.step, said(&decision)), (Step::Call(Call::Register, Lane::Fleet), provisioned));
}

#[test]
fn a_new_device_that_its_integration_keeps_waiting_says_so_and_stays_in_the_queue() {
    let mut situation = Situation { delay: Delay::HeldUp, ..Situation::new_device() };
    let decision = situation.decide();
    assert_eq!(
        (decision.step, said(&decision)),
        (Step::Call(Call::Register, Lane::New), Some(Reason::IntegrationNotReady))
    );
    situation.target.terms.suspended = true;
    let decision = situation.decide();
    assert_eq!((decision.step, said(&decision)), (Step::Nothing, Some(Reason::IntegrationNotReady)));
    let mut provisioned = Situation { delay: Delay::HeldUp, ..Situation::settled_device() };
    provisioned.target.terms.credentials = keys(2, None);
    let decision = provisioned.decide();
    let ready = Some(Reason::Provisioned);
    assert_eq!((decision.step, said(&decision)), (Step::Call(Call::Register, Lane::Fleet), ready));
}

#[test]
fn after_the_registration_the_secret_and_then_the_status() {
    let mut situation = Situation::settled_device();
    situation.facts.secret = None;
    situation.secret.seen = SecretSeen::No;
    assert_eq!(situation.decide().step, Step::WriteSecret);
    let settled = Situation::settled_device().decide();
    assert_eq!((settled.step, said(&settled)), (Step::Nothing, Some(Reason::Provisioned)));
}

#[test]
fn a_device_that_is_being_deleted_is_left_alone() {
    for mut situation in [Situation::new_device(), Situation::settled_device()] {
        situation.device.metadata.deletion_timestamp = Some(Time(NOW.wall));
        situation.secret.seen = SecretSeen::No;
        let decision = situation.decide();
        assert_eq!((decision.step, said(&decision)), (Step::Nothing, None));
    }
}

#[test]
fn a_deleted_or_edited_secret_is_mended_without_dps() {
    for seen in [SecretSeen::No, SecretSeen::Version(99)] {
        let secret = SecretState { read: true, ..secret(seen) };
        let situation = Situation { secret, ..Situation::settled_device() };
        assert_eq!(situation.decide().step, Step::WriteSecret, "{seen:?}");
    }
}

#[test]
fn a_secret_is_mended_from_the_other_key_too_before_the_device_moves_to_the_active_one() {
    let mut situation = Situation { secret: secret(SecretSeen::No), ..Situation::settled_device() };
    situation.target.terms.credentials = keys(2, Some(1));
    assert_eq!(situation.decide().step, Step::WriteSecret);
    situation.secret.seen = SecretSeen::Version(super::SECRET_VERSION);
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::Last));
}

#[test]
fn a_secret_whose_key_is_gone_needs_a_registration() {
    let mut situation = Situation { secret: secret(SecretSeen::No), ..Situation::settled_device() };
    situation.target.terms.credentials = keys(2, None);
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::Changed));
    // Nothing that keeps it from registering hides that its credentials are gone.
    let mut held = Situation { secret: secret(SecretSeen::No), ..Situation::settled_device() };
    held.target.terms.credentials = keys(2, None);
    held.target.terms.suspended = true;
    assert_eq!(said(&held.decide()), Some(Reason::CredentialUnavailable));
    situation.facts.fail(failure(FailedWork::Registration, Reason::Unauthorized), 0, NOW.mono);
    let decision = situation.decide();
    assert_eq!((said(&decision), decision.wake.is_some()), (Some(Reason::CredentialUnavailable), true));
    situation.device = device(json!({"suspend": true}));
    assert_eq!(said(&situation.decide()), Some(Reason::CredentialUnavailable));
}

#[test]
fn a_returned_payload_that_was_lost_with_the_secret_is_fetched_again() {
    let mut situation = Situation { secret: secret(SecretSeen::No), ..Situation::settled_device() };
    let registered = situation.facts.registered.as_mut().unwrap();
    registered.returned_payload = Some(ReturnedPayload::new(json!({"a": 1}).as_object().unwrap()));
    assert_eq!(situation.decide().step, Step::WriteSecret);
    situation.facts.registered.as_mut().unwrap().returned_payload.as_mut().unwrap().json = None;
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::Changed));
    // A device that leaves it out of its Secret does not miss it.
    situation.device = device(json!({"secret": {"keys": {"returnedPayload": ""}}}));
    assert_eq!(situation.decide().step, Step::WriteSecret);
}

#[test]
fn a_changed_payload_registers_and_changed_labels_only_rewrite_the_secret() {
    let mut situation = Situation::settled_device();
    situation.device = device(json!({"payload": {"site": "b"}}));
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::Changed));
    situation.device = device(json!({"secret": {"labels": {"a": "b"}}}));
    assert_eq!(situation.decide().step, Step::WriteSecret);
}

/// The status that says this of a device.
fn reported(situation: &Situation, reason: Reason) -> Option<ProvisionedDeviceStatus> {
    let verdict = Verdict { reason, message: String::new() };
    Some(render(&situation.device, &situation.facts, &verdict, NOW.wall))
}

#[test]
fn hashes_of_another_version_are_no_reason_for_anything_unless_the_user_changes_something() {
    let mut situation = Situation::settled_device();
    situation.device.status = reported(&situation, Reason::Provisioned);
    situation.facts.registered.as_mut().unwrap().hash = None;
    let record = situation.facts.record();
    let secret = situation.facts.secret.as_mut().unwrap();
    (secret.rendered, secret.record) = (None, record);
    let decision = situation.decide();
    assert_eq!((decision.step, said(&decision)), (Step::Nothing, Some(Reason::Provisioned)));
    situation.device.metadata.generation = Some(2);
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::Changed));
}

#[test]
fn what_a_user_asks_of_the_secret_does_not_wait_for_a_rotation_or_for_dps() {
    let formats = json!({"secret": {"formats": [{"type": "Env"}]}});
    let mut rotating = Situation { device: device(formats.clone()), ..Situation::settled_device() };
    rotating.target.terms.credentials = keys(2, Some(1));
    assert_eq!(rotating.decide().step, Step::WriteSecret);
    let mut waiting = Situation { device: device(formats), ..Situation::settled_device() };
    waiting.facts.registered.as_mut().unwrap().scope = "0ne2".to_owned();
    waiting.facts.fail(failure(FailedWork::Registration, Reason::ServiceUnavailable), 0, NOW.mono);
    assert_eq!(waiting.decide().step, Step::WriteSecret);
    // A changed payload and a changed label are one write.
    let both = json!({"payload": {"site": "b"}, "secret": {"labels": {"a": "b"}}});
    let both = Situation { device: device(both), ..Situation::settled_device() };
    assert_eq!(both.decide().step, Step::Call(Call::Register, Lane::Changed));
}

#[test]
fn a_secret_that_was_written_before_the_operator_ended_knows_better_than_the_status() {
    let mut situation = Situation { secret: secret(SecretSeen::Version(99)), ..Situation::settled_device() };
    assert_eq!(situation.decide().step, Step::ReadSecret);
    let mut newer = situation.facts.registered.clone().unwrap();
    newer.hub = "hub-b.azure-devices.net".to_owned();
    newer.time = Some(NOW.wall + Duration::from_secs(60));
    let served = ServedRequests::default();
    let mut older = situation.facts.clone();
    let recorded = RecordedInSecret {
        rendered: None,
        registered: newer.clone(),
        served,
        sealed: true,
        version: 9,
        of_another_key: None,
        agrees: true,
    };
    situation.facts.recall(Some(recorded.clone()), None);
    situation.secret.read = true;
    assert_eq!(situation.facts.previous_hub.as_deref(), Some("hub-a.azure-devices.net"));
    // It is compared with what it should be: the seal says nothing of labels and owners.
    assert_eq!(situation.decide().step, Step::WriteSecret);
    // What DPS has said since, or at a later time, counts for more.
    older.fresh = true;
    older.recall(Some(recorded.clone()), None);
    assert_ne!(older.registered, Some(newer.clone()));
    older.fresh = false;
    older.registered.as_mut().unwrap().time = Some(NOW.wall + Duration::from_secs(120));
    older.recall(Some(recorded), None);
    assert_ne!(older.registered, Some(newer));
}

#[test]
fn a_lost_secret_is_not_hidden_by_settings_that_are_refused() {
    let spec = json!({"payload": nested(1000)});
    let gone =
        Situation { device: device(spec), secret: secret(SecretSeen::No), ..Situation::settled_device() };
    assert_eq!(said(&gone.decide()), Some(Reason::CredentialUnavailable));
    let mut prefixed = Situation { secret: secret(SecretSeen::No), ..Situation::settled_device() };
    prefixed.target.terms.prefixes = vec!["press-".to_owned()];
    assert_eq!(said(&prefixed.decide()), Some(Reason::CredentialUnavailable));
}

#[test]
fn a_new_token_ends_the_wait_at_once() {
    let mut situation = Situation::settled_device();
    situation.target.terms.credentials = keys(2, None);
    situation.facts.fail(failure(FailedWork::Registration, Reason::Unauthorized), 0, NOW.mono);
    assert_eq!(situation.decide().step, Step::Nothing);
    situation.device.metadata.annotations =
        Some([("dps-operator.io/reprovision-requested-at".to_owned(), "1".to_owned())].into());
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::Changed));
}

#[test]
fn another_id_scope_or_key_registers() {
    let mut situation = Situation::settled_device();
    situation.facts.registered.as_mut().unwrap().scope = "0ne2".to_owned();
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::Changed));
    situation = Situation::settled_device();
    situation.target.terms.credentials = keys(2, None);
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::Fleet));
}

#[test]
fn a_secret_that_is_there_is_looked_at_before_anything_is_registered() {
    let mut situation = Situation { secret: secret(SecretSeen::Version(3)), ..Situation::new_device() };
    assert_eq!(situation.decide().step, Step::ReadSecret);
    situation.secret.read = true;
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::New));
    situation = Situation {
        secret: SecretState { watch_is_complete: false, ..secret(SecretSeen::No) },
        ..Situation::new_device()
    };
    assert_eq!(situation.decide().step, Step::ReadSecret);
}

#[test]
fn what_was_read_back_from_a_secret_settles_the_device_without_dps() {
    let secret = SecretState { read: true, ..secret(SecretSeen::Version(3)) };
    let mut situation = Situation { secret, ..Situation::new_device() };
    situation.facts.registered = provisioned(&situation.device, &situation.target).registered;
    assert_eq!(situation.decide().step, Step::WriteSecret);
}

#[test]
fn suspended_devices_and_integrations_start_nothing_but_secrets_are_still_mended() {
    let mut situation = Situation { device: device(json!({"suspend": true})), ..Situation::new_device() };
    assert_eq!(
        (situation.decide().step, said(&situation.decide())),
        (Step::Nothing, Some(Reason::Suspended))
    );
    situation = Situation { secret: secret(SecretSeen::No), ..Situation::settled_device() };
    situation.device = device(json!({"suspend": true}));
    assert_eq!(situation.decide().step, Step::WriteSecret);

    let mut situation = Situation::new_device();
    situation.target.terms.suspended = true;
    assert_eq!((situation.decide().step, said(&situation.decide())), (Step::Nothing, None));
    let mut situation = Situation { secret: secret(SecretSeen::No), ..Situation::settled_device() };
    situation.target.terms.suspended = true;
    assert_eq!(situation.decide().step, Step::WriteSecret);
}

#[test]
fn a_suspended_device_says_what_waits_for_its_end() {
    let waits = |situation: &Situation| {
        situation.decide().verdict.unwrap().message.contains("is registered when it is false again")
    };
    let payload = json!({"suspend": true, "payload": {"site": "b"}});
    let never = json!({"suspend": true, "payload": {"site": "b"}, "reprovision": {"policy": "Never"}});
    for (spec, says) in [(json!({"suspend": true}), false), (payload, true), (never, false)] {
        let mut situation = Situation { device: device(spec.clone()), ..Situation::settled_device() };
        assert_eq!(waits(&situation), says, "{spec}");
        // Another key of the fleet is no news of this device.
        situation.target.terms.credentials = keys(2, None);
        assert_eq!(waits(&situation), says, "{spec}");
    }
    let new = Situation { device: device(json!({"suspend": true})), ..Situation::new_device() };
    assert!(!waits(&new));
}

#[test]
fn a_missing_integration_is_spoken_of_after_a_while() {
    for situation in [Situation::new_device(), Situation::settled_device()] {
        let quiet = situation.decide_with(IntegrationState::Missing(Grace::Running));
        assert_eq!((quiet.step, said(&quiet)), (Step::Nothing, None));
        let over = situation.decide_with(IntegrationState::Missing(Grace::Over));
        assert_eq!((over.step, said(&over)), (Step::Nothing, Some(Reason::IntegrationNotFound)));
    }
    let gone = Situation { secret: secret(SecretSeen::No), ..Situation::settled_device() };
    let decision = gone.decide_with(IntegrationState::Missing(Grace::Over));
    assert_eq!(said(&decision), Some(Reason::CredentialUnavailable));
}

#[test]
fn a_contested_secret_is_left_alone_for_a_while() {
    let until = NOW.mono + Duration::from_secs(4);
    for (report, expected) in [(Grace::Running, None), (Grace::Over, Some(Reason::SecretWriteFailed))] {
        let contested = Some(Contested { until, report });
        let mut situation =
            Situation { contested, secret: secret(SecretSeen::No), ..Situation::settled_device() };
        let decision = situation.decide();
        assert_eq!((decision.step, said(&decision), decision.wake), (Step::Nothing, expected, Some(until)));
        // What the user asks for is not contested.
        situation.secret.seen = SecretSeen::Version(super::SECRET_VERSION);
        situation.secret.read = true;
        situation.device = device(json!({"secret": {"labels": {"a": "b"}}}));
        assert_eq!(situation.decide().step, Step::WriteSecret);
    }
}

#[test]
fn an_integration_that_is_not_ready_leaves_provisioned_devices_in_peace_unless_their_secret_is_gone() {
    let not_ready = IntegrationState::NotReady(Grace::Over);
    assert_eq!(said(&Situation::new_device().decide_with(not_ready)), Some(Reason::IntegrationNotReady));
    assert_eq!(said(&Situation::settled_device().decide_with(not_ready)), None);
    let mut gone = Situation { secret: secret(SecretSeen::No), ..Situation::settled_device() };
    assert_eq!(said(&gone.decide_with(not_ready)), Some(Reason::CredentialUnavailable));
    // A foreign Secret is not shown by the watch, and is not a Secret that is gone.
    let verdict = Verdict { reason: Reason::SecretConflict, message: String::new() };
    gone.device.status = Some(render(&gone.device, &gone.facts, &verdict, NOW.wall));
    assert_eq!(said(&gone.decide_with(not_ready)), None);
}

#[test]
fn references_ids_and_secret_names_that_are_not_allowed_are_refused() {
    let new = Situation::new_device();
    assert_eq!(said(&new.decide_with(IntegrationState::NotAllowed(Grace::Running))), None);
    let refused = new.decide_with(IntegrationState::NotAllowed(Grace::Over));
    assert_eq!((refused.step, said(&refused)), (Step::Nothing, Some(Reason::ReferenceNotAllowed)));
    let settled = Situation::settled_device();
    assert_eq!(
        said(&settled.decide_with(IntegrationState::NotAllowed(Grace::Over))),
        Some(Reason::ReferenceNotAllowed)
    );

    let mut guest = Situation::new_device();
    guest.target.terms.namespace = "platform".to_owned();
    assert_eq!(said(&guest.decide()), Some(Reason::ReferenceNotAllowed));
    guest.target.terms.foreign_prefixes = vec!["{namespace}-".to_owned()];
    assert_eq!(said(&guest.decide()), Some(Reason::ReferenceNotAllowed));
    guest.device = device(json!({"registrationId": "fleet-1"}));
    assert_eq!(guest.decide().step, Step::Call(Call::Register, Lane::New));
    guest.target.terms.prefixes = vec!["press-".to_owned()];
    assert_eq!(said(&guest.decide()), Some(Reason::ReferenceNotAllowed));

    let mut prefixed = Situation::new_device();
    prefixed.target.terms.prefixes = vec!["{namespace}-".to_owned()];
    assert_eq!(said(&prefixed.decide()), Some(Reason::ReferenceNotAllowed));
    prefixed.device = device(json!({"registrationId": "fleet-1"}));
    assert_eq!(prefixed.decide().step, Step::Call(Call::Register, Lane::New));

    let key = Situation {
        secret: SecretState { holds_key: true, ..secret(SecretSeen::No) },
        ..Situation::new_device()
    };
    assert_eq!((key.decide().step, said(&key.decide())), (Step::Nothing, Some(Reason::SecretConflict)));

    let duplicate = Situation { standing: IdStanding::Taken, ..Situation::new_device() };
    let decision = duplicate.decide();
    assert_eq!(said(&decision), Some(Reason::DuplicateRegistrationId));
    let message = decision.verdict.unwrap().message;
    assert!(
        message.contains(&format!("registration id {:?}", duplicate.device.registration_id())),
        "{message}"
    );
}

fn nested(levels: u32) -> Value {
    (0..levels).fold(json!({}), |inner, _| json!({"a": inner}))
}

#[test]
fn what_admission_cannot_see_is_refused() {
    let big = "x".repeat(70_000);
    for spec in [
        json!({"payload": {"big": big}}),
        json!({"payload": nested(1000)}),
        json!({"secret": {"formats": [{"type": "Env"}], "keys": {"deviceId": "IOTHUB_DEVICE_ID"}}}),
        json!({"secret": {"keys": {"deviceId": "hub", "iotHubHostname": "hub"}}}),
    ] {
        let situation = Situation { device: device(spec), ..Situation::new_device() };
        let decision = situation.decide();
        assert_eq!((decision.step, said(&decision)), (Step::Nothing, Some(Reason::InvalidConfiguration)));
    }
    let mut token = Situation::new_device();
    token.device.metadata.annotations =
        Some([("dps-operator.io/reprovision-requested-at".to_owned(), "1".repeat(257))].into());
    assert_eq!(said(&token.decide()), Some(Reason::InvalidConfiguration));
}

#[test]
fn a_failure_is_waited_out_and_spoken_of_unless_it_may_pass_in_a_moment() {
    let mut situation = Situation::new_device();
    situation.facts.fail(failure(FailedWork::Registration, Reason::Unauthorized), 0, NOW.mono);
    let decision = situation.decide();
    assert_eq!((decision.step, said(&decision)), (Step::Nothing, Some(Reason::Unauthorized)));
    assert!(decision.wake.unwrap() >= NOW.mono + Duration::from_secs(60));

    let mut situation = Situation::new_device();
    for expected in [None, None, Some(Reason::ServiceUnavailable)] {
        situation.facts.fail(failure(FailedWork::Registration, Reason::ServiceUnavailable), 0, NOW.mono);
        assert_eq!((situation.decide().step, said(&situation.decide())), (Step::Nothing, expected));
    }

    for (seconds, expected) in [(60, None), (300, None), (301, Some(Reason::ServiceUnavailable))] {
        let mut situation = Situation::new_device();
        let asked = Some(Duration::from_secs(seconds));
        let failure = failure(FailedWork::Registration, Reason::ServiceUnavailable);
        situation.facts.fail(NewFailure { at_least: asked, ..failure }, 0, NOW.mono);
        assert_eq!(said(&situation.decide()), expected, "{seconds}");
    }
}

#[test]
fn a_registration_without_an_end_is_reported_by_a_new_device_and_not_by_a_provisioned_one() {
    let mut situation = Situation::new_device();
    situation.facts.fail(failure(FailedWork::Registration, Reason::Registering), 0, NOW.mono);
    let decision = situation.decide();
    assert_eq!((decision.step, said(&decision)), (Step::Nothing, Some(Reason::Registering)));
    assert!(decision.wake.unwrap() < NOW.mono + Duration::from_secs(10), "it may pass in a moment");

    let mut situation = Situation::settled_device();
    situation.target.terms.credentials = keys(2, None);
    situation.facts.fail(failure(FailedWork::Registration, Reason::Registering), 0, NOW.mono);
    assert_eq!((situation.decide().step, said(&situation.decide())), (Step::Nothing, None));
}

#[test]
fn a_change_of_device_or_integration_ends_the_wait_at_once() {
    let mut situation = Situation::new_device();
    situation.facts.fail(failure(FailedWork::Registration, Reason::Unauthorized), 0, NOW.mono);
    situation.target.revision = 2;
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::New));
    situation.target.revision = 1;
    assert_eq!(situation.decide().step, Step::Nothing);
    situation.device.metadata.generation = Some(2);
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::New));
}

#[test]
fn a_failed_registration_does_not_keep_a_secret_from_being_mended_nor_the_other_way_round() {
    let mut situation = Situation { secret: secret(SecretSeen::No), ..Situation::settled_device() };
    situation.facts.fail(failure(FailedWork::Registration, Reason::ServiceUnavailable), 0, NOW.mono);
    assert_eq!(situation.decide().step, Step::WriteSecret);

    situation.facts.fail(failure(FailedWork::Secret, Reason::SecretConflict), 0, NOW.mono);
    let decision = situation.decide();
    assert_eq!((decision.step, said(&decision)), (Step::Nothing, Some(Reason::SecretConflict)));
}

#[test]
fn a_device_that_failed_goes_on_saying_why_while_it_waits_for_its_next_try() {
    let mut situation = Situation { delay: Delay::HeldUp, ..Situation::new_device() };
    situation.facts.fail(failure(FailedWork::Registration, Reason::Unauthorized), 0, NOW.mono);
    situation.target.revision = 2;
    let decision = situation.decide();
    assert_eq!(
        (decision.step, said(&decision)),
        (Step::Call(Call::Register, Lane::New), Some(Reason::Unauthorized))
    );
}

#[test]
fn labels_and_annotations_outside_the_allowed_prefixes_are_refused_by_name() {
    let mut situation = Situation {
        device: device(
            json!({"secret": {"labels": {"example.com/a": "1"}, "annotations": {"other.io/b": "2"}}}),
        ),
        ..Situation::new_device()
    };
    assert_eq!(said(&situation.decide()), None, "without the flag any will do");
    situation.metadata_prefixes = vec!["example.com/".to_owned()];
    let verdict = situation.decide().verdict.unwrap();
    assert_eq!(verdict.reason, Reason::InvalidConfiguration);
    assert!(verdict.message.contains("\"other.io/b\""), "{}", verdict.message);
    situation.metadata_prefixes.push("other.io/".to_owned());
    assert_eq!(said(&situation.decide()), None);
}
