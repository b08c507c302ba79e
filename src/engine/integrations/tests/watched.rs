//! What is watched for them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::{
    FACTORY, MINUTE, Situation, and, certificate, config_map, for_tenant_a, key, keys, object, present,
    secret, with_bundle,
};
use crate::api::conditions::{self, ConditionType};
use crate::api::references::Referred;
use crate::controller::events::EventReason;
use crate::engine::integrations::ReferenceChanges;

#[test]
fn exactly_what_integrations_refer_to_is_read() {
    let mut situation = Situation::usable(json!({}));
    situation.declare(with_bundle());
    let (factory, registry) = (situation.factory, &mut situation.registry);
    let keys = |key: &str| BTreeSet::from([key.to_owned()]);
    let begin = BTreeMap::from([(secret("keys"), keys("primaryKey")), (config_map("ca"), keys("ca.crt"))]);
    assert_eq!(registry.take_reference_changes(), ReferenceChanges { begin, end: BTreeSet::new() });
    assert!(!registry.references_are_read());

    let users = ["ca", "other"].map(|name| registry.referred_observed(&config_map(name), Referred::Missing));

    assert_eq!((users, registry.references_are_read()), ([vec![factory], vec![]], true));
}

#[test]
fn references_that_are_new_are_unread_and_those_that_are_gone_are_forgotten() {
    let mut situation = Situation::usable(json!({}));
    situation.registry.take_reference_changes();
    let others = json!({"attestation": {"symmetricKey": {"primaryKeyRef": {"name": "others"}}}});

    situation.declare(and(others, json!({"caBundleRef": {"name": "keys"}})));

    let registry = &mut situation.registry;
    let changes = registry.take_reference_changes();
    let begun: BTreeSet<_> = changes.begin.into_keys().collect();
    assert_eq!(begun, [secret("others"), config_map("keys")].into());
    assert_eq!(changes.end, [secret("keys")].into());
    assert!(
        !registry.references_are_read() && registry.take_reference_changes() == ReferenceChanges::default()
    );
    let is_group_key = |namespace, name: &str| registry.is_group_key(namespace, name.to_owned());
    assert!(is_group_key("fleet", "others") && !is_group_key("other", "others"));
    assert!(!is_group_key("fleet", "keys"), "that is a ConfigMap now");
}

#[test]
fn a_status_that_is_written_changes_no_watch() {
    let mut situation = Situation::usable(json!({}));
    situation.registry.take_reference_changes();
    for number in 0..5 {
        situation.overwrite(|status| status.observed_generation = Some(number));
    }
    assert_eq!(situation.registry.take_reference_changes(), ReferenceChanges::default());
}

#[test]
fn an_integration_that_is_gone_is_forgotten_after_a_while() {
    let mut situation = Situation::usable(json!({}));
    situation.delete();
    situation.count();
    assert_eq!(situation.registry.integrations.len(), 1, "its devices are about to say so");
    situation.now += MINUTE;
    situation.count();
    assert!(situation.registry.integrations.is_empty());
    situation.declare(json!({}));
    situation.show_keys(keys(1, 2));
    assert!(situation.registry.target(situation.factory).is_some());
}

#[test]
fn labels_of_namespaces_are_asked_for_once_and_waited_for() {
    let mut situation = Situation::usable(json!({}));
    assert!(!situation.registry.begins_to_need_labels(2));
    situation.declare(for_tenant_a());
    let registry = &mut situation.registry;

    assert!(registry.begins_to_need_labels(2) && !registry.begins_to_need_labels(2));
    assert!(!registry.references_are_read());
    registry.labels_read();
    assert!(!registry.references_are_read());
    registry.labels_read();
    assert!(registry.references_are_read());
}

#[test]
fn integrations_that_a_list_no_longer_shows_are_declared_and_of_its_namespace() {
    let mut situation = Situation::new();
    for key in ["fleet/listed", "fleet/deleted", FACTORY, "fleet-2/factory"] {
        situation.observe(object(key, json!({})));
    }
    let deleted = situation.fleet.names.intern("fleet/deleted");
    situation.registry.gone(deleted, situation.now);
    let names = &situation.fleet.names;
    let listed = BTreeSet::from(["fleet/listed".to_owned()]);

    let unlisted = [Some("fleet"), None].map(|only| situation.registry.unlisted(&listed, only, names));

    let keys = unlisted.map(|syms| syms.into_iter().map(|sym| names.text(sym)).collect::<BTreeSet<_>>());
    assert_eq!(keys, [[FACTORY].into(), [FACTORY, "fleet-2/factory"].into()]);
}

#[test]
fn a_bundle_with_a_damaged_certificate_is_used_and_what_is_wrong_with_it_is_said_once() {
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let (good, mut situation) = (certificate(), Situation::usable(with_bundle()));
    let said = |situation: &mut Situation| {
        let notes =
            situation.registry.warnings(situation.factory).map(|(_, notes)| notes).unwrap_or_default();
        notes.into_iter().map(|note| (note.reason, note.note)).collect::<Vec<_>>()
    };
    let show = |situation: &mut Situation, pem: &str| {
        situation.show(&config_map("ca"), present(&[("ca.crt", pem)]));
        conditions::find(&situation.write().conditions, ConditionType::Ready).unwrap().message.clone()
    };

    let message = show(&mut situation, &format!("{damaged}{good}"));

    let [(reason, note)] = &said(&mut situation)[..] else { panic!("it is said") };
    let place =
        "Key \"ca.crt\" of ConfigMap \"ca\" is used as CA bundle, but certificate 1 of 2 (line 1) is damaged";
    assert!(note.starts_with(place) && message.ends_with(note), "{note} {message}");
    assert_eq!((*reason, situation.trouble().0), (EventReason::CaBundleFlawed, None));
    assert_eq!(said(&mut situation), []);
    // What is damaged now is something else.
    let message = show(&mut situation, &format!("{good}{damaged}"));
    assert!(message.contains("certificate 2 of 2") && said(&mut situation).len() == 1, "{message}");
    let message = show(&mut situation, &good);
    assert!(!message.contains("ca.crt") && said(&mut situation).is_empty(), "{message}");
    let message = show(&mut situation, damaged);
    assert!(
        message.contains("none of its certificates can be used") && message.contains("\"ca\""),
        "{message}"
    );
    assert_eq!(said(&mut situation), []);
}

#[test]
fn one_key_in_both_slots_is_said_once_and_of_two_secrets_only_when_dps_has_accepted_it() {
    let refs = |primary: &str, name: &str, key: &str| {
        json!({"attestation": {"symmetricKey": {
            "primaryKeyRef": {"name": "keys", "key": primary}, "secondaryKeyRef": {"name": name, "key": key},
            "active": "Secondary",
        }}})
    };
    let (pasted, spaced) = (key(1), format!("  {}\n{}\n", &key(1)[..9], &key(1)[9..]));
    let proven = "(secondaryKeyRef) hold one and the same group key";
    for (spec, secondary, before, after) in [
        (refs("primaryKey", "keys", "secondaryKey"), &key(2), None, None),
        (refs("primaryKey", "keys", "secondaryKey"), &pasted, Some(proven), Some(proven)),
        (refs("primaryKey", "keys", "secondaryKey"), &spaced, Some(proven), Some(proven)),
        (refs("primaryKey", "keys", "primaryKey"), &pasted, Some("both name key"), Some("both name key")),
        // Who may not read the other Secret learns nothing of it by a guess in his own.
        (refs("primaryKey", "more", "secondaryKey"), &spaced, None, Some(proven)),
    ] {
        let mut situation = Situation::new();
        situation.declare(spec.clone());
        let data = present(&[("primaryKey", &key(1)), ("secondaryKey", secondary)]);
        situation.show(&secret("keys"), data);
        if spec.to_string().contains("more") {
            situation.show(&secret("more"), present(&[("secondaryKey", secondary)]));
        }
        let mut told = 0;
        for (accepted, said) in [(false, before), (true, after)] {
            if accepted {
                situation.accept();
            }
            let notes = situation.registry.warnings(situation.factory).map(|(_, notes)| notes);
            let notes = notes.unwrap_or_default();
            told += notes.len();
            let status = situation.write();
            let message = &conditions::find(&status.conditions, ConditionType::Ready).unwrap().message;
            assert_eq!(message.contains("Before a rotation"), said.is_some(), "{spec} {message}");
            assert!(
                said.is_none_or(|said| message.contains(said)) && !message.contains(&pasted),
                "{message}"
            );
            assert!(notes.iter().all(|note| note.reason == EventReason::KeyInBothSlots
                && note.reason.is_warning()
                && message.ends_with(&note.note)));
        }
        assert_eq!(told, usize::from(after.is_some()), "{spec}");
    }
}
