//! What the status says after a start.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::{
    FACTORY, MINUTE, Situation, admitted, and, both_keys, certificate, closed_until, config_map, key, key_id,
    keys, object, present, reason, secret, with_bundle, with_payload,
};
use crate::api::attestation::KeySlot::{Primary, Secondary};
use crate::api::conditions::Reason;
use crate::api::references::Referred;
use crate::engine::integrations::PermitChange;
use crate::schedule::permits::Gate;

#[test]
fn a_recorded_fallback_is_used_after_a_start_without_a_call() {
    let mut situation = Situation::new();
    situation.observe(Situation::fallen_back().object());

    let change = situation.show_keys(keys(1, 2));

    assert_eq!(change, admitted(Gate::NEWCOMER), "one call shows that DPS accepts it, not a status");
    assert_eq!(situation.target().credentials.in_use(), key_id(2));
    assert_eq!(situation.accept().permits, Some(PermitChange::Gate(Gate::OPEN)));
    assert!(situation.target().as_recorded && situation.registry.gauges()[0].fallen_back);
}

#[test]
fn a_start_while_the_other_key_is_tried_begins_with_the_one_that_was_asked_for() {
    let mut before = Situation::usable(both_keys(Primary));
    before.refuse_three();
    let status = before.write();
    assert_eq!(
        (reason(&status), status.credentials.unwrap().in_use),
        (Some(Reason::Unauthorized), Some(Primary))
    );
    let mut situation = Situation::new();
    situation.observe(before.object());

    let change = situation.show_keys(keys(1, 2));

    assert_eq!(change, admitted(Gate { others_not_before: None, ..closed_until(situation.now + MINUTE) }));
    assert_eq!(situation.target().credentials.in_use(), key_id(1));
    assert_eq!(situation.trouble(), (Some(Reason::Unauthorized), Some(situation.now)));
    situation.now += MINUTE;
    situation.refuse(1);
    situation.accept();
    situation.refuse(1);
    assert_eq!(situation.target().credentials.in_use(), key_id(2));
}

#[test]
fn a_slot_that_was_in_use_for_another_spec_is_no_fallback_after_a_start() {
    let mut before = Situation::accepted(both_keys(Primary));
    before.write();
    // The CA bundle is not there yet.
    let mut changed = object(FACTORY, and(both_keys(Secondary), with_bundle()));
    changed.metadata.generation = Some(2);
    before.observe(changed);
    before.show(&config_map("ca"), Referred::Missing);
    let status = before.write();
    assert_eq!(reason(&status), Some(Reason::CaBundleNotFound));
    let mut situation = Situation::new();
    situation.observe(before.object());
    situation.show_keys(keys(1, 2));

    situation.show(&config_map("ca"), present(&[("ca.crt", &certificate())]));

    assert_eq!(situation.target().credentials.in_use(), key_id(2));
    assert!(!situation.registry.gauges()[0].fallen_back);
}

#[test]
fn a_recorded_refusal_closes_the_gate_after_a_start_for_exactly_this_spec_and_key() {
    let mut before = Situation::usable(json!({}));
    before.refuse_three();
    before.write();
    for (generation, primary, stands) in [(1, 1, true), (2, 1, false), (1, 3, false)] {
        let mut situation = Situation::new();
        let mut recorded = before.object();
        recorded.metadata.generation = Some(generation);
        situation.observe(recorded);

        let change = situation.show_keys(keys(primary, 2));

        let closed = Gate { others_not_before: None, ..closed_until(situation.now + MINUTE) };
        let gate = if stands { closed } else { Gate::NEWCOMER };
        assert_eq!(change, admitted(gate), "generation {generation}, key {primary}");
        let trouble = (stands.then_some(Reason::Unauthorized), stands.then_some(situation.now));
        assert_eq!(situation.trouble(), trouble);
    }
}

#[test]
fn a_recorded_pause_stands_after_a_start_for_this_spec_or_an_accepted_key_and_is_recalled_once() {
    let until = Timestamp::from_second(1800).unwrap();
    for (accepted, generation, stands) in
        [(false, 1, true), (false, 2, false), (true, 1, true), (true, 2, true)]
    {
        let mut before = if accepted { Situation::accepted } else { Situation::usable }(json!({}));
        before.write();
        let mut recorded = before.object();
        recorded.metadata.generation = Some(generation);
        recorded.status.as_mut().unwrap().throttled_until = Some(Time(until));
        let mut situation = Situation::new();
        situation.observe(recorded);

        let change = situation.show_keys(keys(1, 2));

        let case = format!("accepted {accepted}, generation {generation}");
        assert_eq!(change.recall_pause.map(|pause| pause.until), stands.then_some(until), "{case}");
        let paused = situation.now + MINUTE * 30;
        let gate = situation.registry.recall_pause(situation.factory, paused);
        assert_eq!(gate.map(|gate| gate.not_before), Some(Some(paused)), "{case}");
        // What stands there later others may have written.
        assert_eq!(situation.declare(with_payload()).recall_pause, None, "{case}");
    }
}

#[test]
fn a_replica_that_takes_over_knows_only_what_the_status_says() {
    let mut situation = Situation::usable(json!({"allowedNamespaces": {"from": "All"}}));
    situation.write();
    situation.refuse_three();

    situation.registry.forget_answers(situation.factory);
    let change = situation.registry.evaluate(situation.factory, situation.now);

    assert_eq!(change, admitted(Gate::NEWCOMER));
    assert!(situation.target().revision == 2 && situation.target().as_recorded);
    assert!(situation.is_due() && situation.serves("other"));
}

#[test]
fn one_key_in_both_slots_is_not_told_because_a_status_calls_it_accepted() {
    let spec = json!({"attestation": {"symmetricKey": {
        "primaryKeyRef": {"name": "keys", "key": "primaryKey"},
        "secondaryKeyRef": {"name": "more", "key": "secondaryKey"},
    }}});
    let show = |situation: &mut Situation| {
        situation.show(&secret("keys"), present(&[("primaryKey", &key(1))]));
        situation.show(&secret("more"), present(&[("secondaryKey", &key(1))]));
    };
    let mut before = Situation::new();
    before.declare(spec);
    show(&mut before);
    before.accept();
    before.write();
    let mut situation = Situation::new();
    situation.observe(before.object());
    show(&mut situation);
    assert!(situation.registry.warnings(situation.factory).is_none());
    situation.accept();
    assert!(situation.registry.warnings(situation.factory).is_some());
}
