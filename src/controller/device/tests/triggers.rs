//! What is done although nothing has changed: tokens, lookups, policies.

use serde_json::{Value, json};

use super::{NOW, Situation, device, failure, keys, registered, secret};
use crate::api::conditions::Reason;
use crate::api::integration::DeviceDefaults;
use crate::controller::device::decide::{Call, Decision, Step, Verdict};
use crate::controller::device::facts::{
    Facts, FailedWork, Located, NewFailure, RecordedInSecret, ServedRequests, Trigger,
};
use crate::controller::device::status::render;
use crate::dps::answer::Assignment;
use crate::dps::ids::{HubHostname, IdScope, RegistrationId};
use crate::fleet::SecretSeen;
use crate::schedule::permits::Lane;

const TOKEN: &str = "dps-operator.io/reprovision-requested-at";
const RECONCILE: &str = "reconcile.fluxcd.io/requestedAt";

fn annotate(situation: &mut Situation, key: &str, value: &str) {
    let annotations = situation.device.metadata.annotations.get_or_insert_default();
    annotations.insert(key.to_owned(), value.to_owned());
}

fn with_spec(spec: Value) -> Situation {
    let settled = Situation::settled_device();
    Situation { device: device(spec), ..settled }
}

fn message(decision: &Decision) -> String {
    decision.verdict.as_ref().map(|verdict| verdict.message.clone()).unwrap_or_default()
}

/// What a lookup of the device finds.
fn found(hub: &str) -> Located {
    located("0ne1", "truck-1", hub)
}

fn located(scope: &str, registration_id: &str, hub: &str) -> Located {
    let assignment = Assignment {
        hub: HubHostname::parse(hub, &[".azure-devices.net".to_owned()]).unwrap(),
        device_id: registration_id.to_owned(),
        substatus: None,
        etag: crate::dps::scrub::Shown::etag("new"),
        created_time: None,
        last_updated_time: None,
        enrollment_group: None,
        payload: None,
        issued: None,
    };
    let scope = IdScope::parse(scope).unwrap();
    Located { scope, registration_id: RegistrationId::parse(registration_id).unwrap(), assignment }
}

#[test]
fn a_new_token_registers_once_and_a_removed_one_means_nothing() {
    let mut situation = Situation::settled_device();
    annotate(&mut situation, TOKEN, "1");
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::Changed));
    let handled = ServedRequests::now(&situation.device, None, &situation.facts.served);
    let again = registered(&situation.device, &situation.target);
    situation.facts.register(again, handled);
    // The Secret records what was served, so that a restart before the status does not serve it again.
    assert_eq!(situation.decide().step, Step::WriteSecret);
    situation.facts.secret.as_mut().unwrap().record = situation.facts.record();
    assert_eq!(situation.decide().step, Step::Nothing);
    situation.device.metadata.annotations = None;
    assert_eq!(situation.decide().step, Step::Nothing);
    assert_eq!(situation.facts.served.token.as_deref(), Some("1"));
}

#[test]
fn an_integrations_token_concerns_the_fleet_and_not_devices_that_came_after_it() {
    let mut situation = Situation::settled_device();
    situation.target.terms.token = Some("1".to_owned());
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::Fleet));
    let token = situation.target.token.clone();
    situation.facts.served = ServedRequests::now(&situation.device, token.as_ref(), &situation.facts.served);
    situation.facts.secret.as_mut().unwrap().record = situation.facts.record();
    assert_eq!(situation.decide().step, Step::Nothing);
    situation.target.terms.token = None;
    assert_eq!(situation.decide().step, Step::Nothing);
    // A restored device serves no request again.
    let mut facts = Facts::default();
    let registered = registered(&situation.device, &situation.target);
    let served = ServedRequests { integration_token: token.clone(), ..ServedRequests::default() };
    let recorded = RecordedInSecret {
        registered,
        served,
        sealed: true,
        version: 9,
        rendered: None,
        of_another_key: None,
        agrees: true,
    };
    facts.recall(Some(recorded), None);
    assert_eq!(facts.served.integration_token, token);
}

#[test]
fn a_request_to_look_again_looks_and_does_not_register() {
    let mut situation = Situation::settled_device();
    annotate(&mut situation, RECONCILE, "now");
    assert_eq!(situation.decide().step, Step::Call(Call::Lookup, Lane::Changed));
    situation.facts.look_up(found("hub-a.azure-devices.net"), Some("now".to_owned()));
    assert_eq!(situation.decide().step, Step::Nothing);
}

#[test]
fn a_hub_that_a_lookup_finds_is_followed_and_not_fought() {
    let mut situation = Situation::settled_device();
    situation.facts.look_up(found("hub-b.azure-devices.net"), None);
    assert_eq!(situation.decide().step, Step::WriteSecret);
    assert_eq!(situation.facts.previous_hub.as_deref(), Some("hub-a.azure-devices.net"));
    // Only etag or times: the Secret stays, the status shows them.
    let mut situation = Situation::settled_device();
    situation.facts.look_up(found("hub-a.azure-devices.net"), None);
    assert_eq!(situation.decide().step, Step::Nothing);
    assert_eq!(situation.facts.registered.unwrap().assignment.etag.as_deref(), Some("new"));
}

#[test]
fn what_was_found_of_another_registration_changes_nothing() {
    let before = Situation::settled_device().facts;
    for (scope, id) in [("0ne2", "truck-1"), ("0ne1", "truck-2"), ("0NE1", "truck-1")] {
        let mut facts = before.clone();
        facts.look_up(located(scope, id, "hub-b.azure-devices.net"), Some("now".to_owned()));
        assert_eq!(facts, before, "{scope} {id}");
    }
}

#[test]
fn a_device_that_stays_registered_in_another_scope_is_not_looked_up_in_this_one() {
    for trigger in [None, Some(Trigger::DriftCheck)] {
        let mut never = with_spec(json!({"reprovision": {"policy": "Never"}}));
        never.facts.registered.as_mut().unwrap().scope = "0ne2".to_owned();
        never.facts.trigger = trigger;
        annotate(&mut never, RECONCILE, "now");
        assert!(!matches!(never.decide().step, Step::Call(..)));
    }
}

#[test]
fn a_device_that_dps_no_longer_knows_is_registered_again() {
    let mut situation = Situation::settled_device();
    situation.facts.trigger = Some(Trigger::NotFound);
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::Fleet));
    let mut never = with_spec(json!({"reprovision": {"policy": "Never"}}));
    never.facts.trigger = Some(Trigger::NotFound);
    let decision = never.decide();
    assert_eq!(decision.step, Step::Nothing);
    assert!(message(&decision).contains("DPS has no assignment"), "{}", message(&decision));
}

#[test]
fn lookup_first_adopts_what_is_there_and_registers_only_what_is_not() {
    for spec in
        [json!({"registration": {"onCreate": "LookupFirst"}}), json!({"reprovision": {"policy": "Never"}})]
    {
        let mut new = Situation { device: device(spec), ..Situation::new_device() };
        assert_eq!(new.decide().step, Step::Call(Call::Adopt, Lane::New));
        new.facts.trigger = Some(Trigger::NotFound);
        assert_eq!(new.decide().step, Step::Call(Call::Register, Lane::New));
    }
    let provisioned = with_spec(json!({"registration": {"onCreate": "LookupFirst"}}));
    assert_eq!(provisioned.decide().step, Step::Nothing);
}

#[test]
fn policy_never_registers_for_a_token_only_and_says_what_it_leaves_out() {
    let mut situation = with_spec(json!({"reprovision": {"policy": "Never"}, "payload": {"site": "b"}}));
    situation.target.terms.credentials = keys(2, Some(1));
    let decision = situation.decide();
    assert_eq!(decision.verdict.as_ref().map(|verdict| verdict.reason), Some(Reason::Provisioned));
    assert!(
        message(&decision).contains("payload") && message(&decision).contains("key"),
        "{}",
        message(&decision)
    );
    annotate(&mut situation, TOKEN, "1");
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::Changed));
    // Its credentials cannot be brought back without a registration that is not allowed.
    let mut gone = with_spec(json!({"reprovision": {"policy": "Never"}}));
    gone.target.terms.credentials = keys(2, None);
    gone.secret = secret(SecretSeen::No);
    let decision = gone.decide();
    let reason = decision.verdict.as_ref().map(|verdict| verdict.reason);
    assert_eq!((decision.step, reason), (Step::Nothing, Some(Reason::CredentialUnavailable)));
    assert!(message(&decision).contains(TOKEN), "it says how to have that done: {}", message(&decision));
}

#[test]
fn a_period_that_is_over_registers_in_the_fleets_lane() {
    let mut situation = with_spec(json!({"reprovision": {"policy": "Periodic", "interval": "1h"}}));
    assert_eq!(situation.decide().step, Step::Nothing);
    situation.facts.trigger = Some(Trigger::Periodic);
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::Fleet));
    let again = registered(&situation.device, &situation.target);
    situation.facts.register(again, ServedRequests::default());
    assert_eq!(situation.decide().step, Step::Nothing);
}

#[test]
fn changed_defaults_wait_behind_a_change_of_the_device_itself() {
    let mut situation = Situation::settled_device();
    let verdict = Verdict { reason: Reason::Provisioned, message: String::new() };
    situation.device.status = Some(render(&situation.device, &situation.facts, &verdict, NOW.wall));
    let defaults: DeviceDefaults = serde_json::from_value(json!({"payload": {"site": "b"}})).unwrap();
    situation.target.terms.defaults = Some(defaults.into());
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::Fleet));
    situation.device.spec.payload = serde_json::from_value(json!({"site": "own"})).unwrap();
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::Changed));
}

#[test]
fn a_request_to_look_again_ends_every_wait_once() {
    for work in [FailedWork::Registration, FailedWork::Secret] {
        let mut situation = Situation::settled_device();
        situation.facts.secret = None;
        situation.secret.seen = SecretSeen::No;
        if work == FailedWork::Registration {
            situation.facts.registered = None;
        }
        let failed =
            || NewFailure { reconcile_at: Some("1".to_owned()), ..failure(work, Reason::SecretConflict) };
        annotate(&mut situation, RECONCILE, "1");
        situation.facts.served.reconcile_at = Some("1".to_owned());
        situation.facts.fail(failed(), 0, NOW.mono);
        assert_eq!(situation.decide().step, Step::Nothing, "{work:?}");
        annotate(&mut situation, RECONCILE, "2");
        assert_ne!(situation.decide().step, Step::Nothing, "{work:?}");
    }
}
