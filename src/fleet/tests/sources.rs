//! Secrets that devices' own keys and certificates are read from.

use serde_json::{Value, json};

use super::device;
use crate::fleet::{Fleet, SourceKey, SourceList};

const LABELLED: SourceList = SourceList::Labelled;

/// A device whose keys are in these Secrets; `credential`: what its status says of the one it has.
fn own(active: &str, secrets: [&str; 2], credential: &Value) -> Value {
    let keys = json!({
        "primaryKeyRef": {"name": secrets[0]}, "secondaryKeyRef": {"name": secrets[1]}, "active": active,
    });
    json!({"spec": {"attestation": {"symmetricKey": keys}}, "status": {"credential": credential}})
}

fn looked_at(secret: &str, slot: &str, version: &str) -> Value {
    json!({
        "type": "SymmetricKey", "slot": slot, "fingerprint": "0000000000000001", "secretName": secret,
        "secretResourceVersion": version,
    })
}

fn key(fleet: &mut Fleet, secret: &str) -> SourceKey {
    (fleet.names.intern("fleet"), secret.into())
}

/// The Secrets that are named from now on, and those that no longer are.
fn changes(fleet: &mut Fleet) -> [Vec<String>; 2] {
    let changes = fleet.take_source_changes();
    [changes.begin, changes.end].map(|keys| {
        let mut names: Vec<String> = keys.iter().map(|key| key.1.to_string()).collect();
        names.sort();
        names
    })
}

#[test]
fn a_secret_is_followed_while_a_device_names_it_for_the_slot_that_it_uses() {
    let mut fleet = Fleet::default();
    let show = |fleet: &mut Fleet, name: &str, version, object: &Value| {
        fleet.upsert(&device(name, name.as_bytes()[0], version, object), Some(1)).0
    };
    let none: [Vec<String>; 2] = Default::default();
    show(&mut fleet, "plain", 1, &json!({}));
    assert_eq!(changes(&mut fleet), none);
    let a = show(&mut fleet, "a", 1, &own("Primary", ["x", "y"], &Value::Null));
    let b = show(&mut fleet, "b", 1, &own("Primary", ["x", "x"], &Value::Null));
    assert_eq!(changes(&mut fleet), [vec!["x".to_owned()], vec![]]);

    show(&mut fleet, "a", 2, &own("Secondary", ["x", "y"], &Value::Null));
    assert_eq!(changes(&mut fleet), [vec!["y".to_owned()], vec![]]);
    show(&mut fleet, "a", 3, &json!({}));
    assert_eq!(changes(&mut fleet), [vec![], vec!["y".to_owned()]]);
    assert!(!fleet.get(a).unwrap().has_own_credential() && fleet.get(b).unwrap().has_own_credential());
    fleet.remove(b);
    assert_eq!(changes(&mut fleet), [vec![], vec!["x".to_owned()]]);
    // Come and gone in between.
    show(&mut fleet, "a", 4, &own("Primary", ["x", "x"], &Value::Null));
    fleet.remove(a);
    assert_eq!(changes(&mut fleet), none);
}

#[test]
fn a_key_is_outdated_while_its_secret_has_another_version_than_the_one_that_was_looked_at() {
    let mut fleet = Fleet::default();
    let show = |fleet: &mut Fleet, version, object: &Value| {
        fleet.upsert(&device("a", 1, version, object), Some(1)).0
    };
    let a = show(&mut fleet, 1, &own("Primary", ["x", "x"], &looked_at("x", "Primary", "7")));
    let x = key(&mut fleet, "x");
    assert!(!fleet.is_source_outdated(a), "nothing has shown the Secret");
    assert_eq!(fleet.source_seen(&x, 7), super::NONE);
    assert!(!fleet.is_source_outdated(a));
    assert_eq!(fleet.source_seen(&x, 9), [a]);
    assert!(fleet.is_source_outdated(a));
    assert_eq!(fleet.source_seen(&x, 9), super::NONE, "once");
    // Read, and it is another key; then registered.
    fleet.source_read(a, 10, false);
    assert!(fleet.is_source_outdated(a));
    fleet.source_judged(a, 10);
    assert!(!fleet.is_source_outdated(a));
    // A status that is written later need not say so.
    show(&mut fleet, 2, &own("Primary", ["x", "x"], &looked_at("x", "Primary", "7")));
    assert!(!fleet.is_source_outdated(a));
    // An earlier version is another one, too: the API server may have gone back.
    assert_eq!(fleet.source_seen(&x, 3), [a]);
    // A Secret that is not there.
    fleet.source_read(a, 0, false);
    assert!(!fleet.is_source_outdated(a));
    let other = key(&mut fleet, "other");
    assert_eq!(fleet.source_seen(&other, 5), super::NONE);
}

#[test]
fn what_a_status_says_of_another_secret_or_slot_says_nothing_of_this_one() {
    for (status, is_known) in [
        (looked_at("x", "Primary", "7"), true),
        (looked_at("y", "Primary", "7"), false),
        (looked_at("x", "Secondary", "7"), false),
        (json!({"type": "SymmetricKey", "slot": "Primary", "fingerprint": "0000000000000001"}), false),
        (Value::Null, false),
    ] {
        let mut fleet = Fleet::default();
        let a = fleet.upsert(&device("a", 1, 1, &own("Primary", ["x", "x"], &status)), Some(1)).0;
        let x = key(&mut fleet, "x");
        fleet.source_seen(&x, 7);
        assert_eq!(fleet.is_source_outdated(a), !is_known, "{status}");
    }
}

#[test]
fn another_object_of_the_name_is_looked_at_afresh() {
    let mut fleet = Fleet::default();
    let declared = own("Primary", ["x", "x"], &Value::Null);
    let a = fleet.upsert(&device("a", 1, 1, &declared), Some(1)).0;
    let x = key(&mut fleet, "x");
    fleet.source_seen(&x, 7);
    fleet.source_judged(a, 7);
    fleet.upsert(&device("a", 2, 2, &declared), Some(1));
    assert_eq!(fleet.source_seen(&x, 7), [a]);
}

#[test]
fn a_secret_with_our_label_is_not_followed_until_a_list_or_its_end_says_that_it_has_none() {
    let mut fleet = Fleet::default();
    let mut devices = Vec::new();
    for (name, uid, secret) in [("a", 1, "x"), ("b", 2, "y")] {
        let declared = own("Primary", [secret, secret], &Value::Null);
        devices.push(fleet.upsert(&device(name, uid, 1, &declared), Some(1)).0);
    }
    let [x, y] = ["x", "y"].map(|secret| key(&mut fleet, secret));
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let none: [Vec<String>; 2] = Default::default();
    assert_eq!(changes(&mut fleet), [names(&["x", "y"]), vec![]]);
    for namespace in [None, Some("fleet")] {
        fleet.begin_source_list(LABELLED, namespace);
        fleet.source_listed(LABELLED, &x);
        fleet.source_listed(LABELLED, &y);
        assert_eq!(fleet.end_source_list(LABELLED, namespace), super::NONE);
        assert_eq!(changes(&mut fleet), [vec![], names(&["x", "y"])]);
        fleet.begin_source_list(LABELLED, namespace);
        fleet.source_listed(LABELLED, &y);
        assert_eq!(fleet.end_source_list(LABELLED, namespace), [devices[0]]);
        assert_eq!(changes(&mut fleet), [names(&["x"]), vec![]]);
        assert_eq!(fleet.source_unlabelled(&y), [devices[1]]);
        assert_eq!(changes(&mut fleet), [names(&["y"]), vec![]]);
    }
    fleet.source_listed(LABELLED, &y);
    fleet.begin_source_list(LABELLED, Some("elsewhere"));
    assert_eq!(fleet.end_source_list(LABELLED, Some("elsewhere")), super::NONE);
    assert_eq!(changes(&mut fleet), [vec![], names(&["y"])]);

    // Read with the label, which the watch has shown before the device was there.
    fleet.source_read(devices[0], 7, false);
    assert_eq!(changes(&mut fleet), none);
    fleet.source_read(devices[0], 7, true);
    assert_eq!(changes(&mut fleet), [vec![], names(&["x"])]);
    // One that nobody follows need not be left.
    fleet.remove(devices[0]);
    assert_eq!(changes(&mut fleet), none);
}

#[test]
fn where_the_list_may_not_be_read_no_label_counts() {
    let none: [Vec<String>; 2] = Default::default();
    for namespace in [None, Some("fleet")] {
        let mut fleet = Fleet::default();
        let a = fleet.upsert(&device("a", 1, 1, &own("Primary", ["x", "x"], &Value::Null)), Some(1)).0;
        let x = key(&mut fleet, "x");
        fleet.source_listed(LABELLED, &x);
        fleet.take_source_changes();
        assert_eq!(fleet.forbid_source_list(LABELLED, namespace), [a]);
        assert_eq!(changes(&mut fleet), [vec!["x".to_owned()], vec![]]);
        fleet.source_read(a, 7, true);
        assert_eq!(changes(&mut fleet), none);
        // Once it may be read, it does.
        fleet.begin_source_list(LABELLED, namespace);
        fleet.source_read(a, 7, true);
        assert_eq!(changes(&mut fleet), [vec![], vec!["x".to_owned()]]);
    }
}

#[test]
fn the_secret_that_a_device_writes_may_be_one_that_another_reads_its_key_from() {
    let mut fleet = Fleet::default();
    let writer = fleet.upsert(&device("w", 1, 1, &json!({})), Some(1)).0;
    let source = key(&mut fleet, "w-hub");
    fleet.source_seen(&source, 7);
    assert!(!fleet.writes_to_source(writer));
    let reader =
        fleet.upsert(&device("a", 2, 1, &own("Primary", ["w-hub", "w-hub"], &Value::Null)), Some(1)).0;
    assert!(!fleet.writes_to_source(writer), "it is only named");
    fleet.source_seen(&source, 7);
    assert!(fleet.writes_to_source(writer));
    fleet.source_missing(&source);
    assert!(!fleet.writes_to_source(writer));
    fleet.source_read(reader, 8, false);
    assert!(fleet.writes_to_source(writer));
    assert_eq!(fleet.devices_of_source(&source), [reader]);
}

#[test]
fn a_device_with_its_own_credential_is_never_made_from_its_record() {
    let condition = |kind: &str, reason: &str| json!({"type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = |credential: Value| {
        json!({
            "observedGeneration": 1, "registrationId": "a", "deviceId": "a", "assignedHub": "hub-a",
            "credential": credential,
            "conditions": [
                condition("Ready", "Provisioned"), condition("Registered", "Registered"),
                condition("SecretReady", "Written"),
            ],
        })
    };
    let group = || json!({"type": "SymmetricKey", "slot": "Primary", "fingerprint": "0000000000000001"});
    for (spec, credential, is_plain) in [
        (json!({}), group(), true),
        (own("Primary", ["x", "x"], &Value::Null)["spec"].take(), group(), false),
        (json!({}), looked_at("x", "Primary", "7"), false),
    ] {
        let mut fleet = Fleet::default();
        let object = json!({"spec": spec, "status": status(credential)});
        let a = fleet.upsert(&device("a", 1, 1, &object), Some(1)).0;
        assert_eq!(fleet.get(a).unwrap().plain_since.is_some(), is_plain, "{object}");
    }
}

/// A device whose certificate is in this Secret, or where its integration says; `credential`: as above.
fn certified(secret: Option<&str>, credential: &Value) -> Value {
    let x509 = secret.map_or(json!({}), |name| json!({"secretRef": {"name": name}}));
    json!({"spec": {"attestation": {"x509": x509}}, "status": {"credential": credential}})
}

fn presented(secret: &str, version: &str) -> Value {
    json!({
        "type": "X509", "fingerprint": "0000000000000001", "notAfter": "2030-01-01T00:00:00Z",
        "secretName": secret, "secretResourceVersion": version,
    })
}

const CERTIFICATES: SourceList = SourceList::Certificates;

#[test]
fn certificates_are_shown_by_one_watch_and_followed_one_by_one_only_where_that_is_not_allowed() {
    let mut fleet = Fleet::default();
    let none: [Vec<String>; 2] = Default::default();
    let both = || vec!["a-tls".to_owned(), "b-tls".to_owned()];
    let [a, b] = ["a", "b"].map(|name| {
        let status = presented(&format!("{name}-tls"), "7");
        fleet.upsert(&device(name, name.as_bytes()[0], 1, &certified(None, &status)), Some(1)).0
    });
    let changes_of = fleet.take_source_changes();
    assert!(changes_of.certificates && !changes_of.keys && changes_of.begin.is_empty());

    fleet.begin_to_list_certificates();
    fleet.begin_source_list(CERTIFICATES, None);
    let [of_a, of_b] = ["a-tls", "b-tls"].map(|secret| key(&mut fleet, secret));
    fleet.source_listed(CERTIFICATES, &of_a);
    assert_eq!(fleet.source_seen(&of_a, 9), [a]);
    assert_eq!(fleet.source_seen(&of_b, 7), super::NONE);
    assert_eq!(fleet.end_source_list(CERTIFICATES, None), super::NONE);
    assert!(fleet.is_source_outdated(a));
    // The list has not shown it.
    assert_eq!(fleet.source_seen(&of_b, 9), [b]);
    assert_eq!(changes(&mut fleet), none);

    fleet.forbid_source_list(CERTIFICATES, None);
    assert_eq!(changes(&mut fleet), [both(), vec![]]);
    fleet.begin_source_list(CERTIFICATES, None);
    assert_eq!(changes(&mut fleet), [vec![], both()]);
}

#[test]
fn one_that_is_named_while_certificates_are_watched_is_looked_at_once() {
    let mut fleet = Fleet::default();
    let none: [Vec<String>; 2] = Default::default();
    fleet.begin_to_list_certificates();
    fleet.begin_source_list(CERTIFICATES, None);
    let declared = certified(Some("x"), &presented("x", "7"));
    let a = fleet.upsert(&device("a", 1, 1, &declared), Some(1)).0;
    let x = key(&mut fleet, "x");
    assert_eq!(fleet.end_source_list(CERTIFICATES, None), super::NONE);
    assert_eq!(changes(&mut fleet), [vec!["x".to_owned()], vec![]], "the list may have passed it");
    assert_eq!(fleet.source_seen(&x, 9), [a]);
    assert_eq!(changes(&mut fleet), [vec![], vec!["x".to_owned()]]);
    fleet.source_seen(&x, 10);
    assert_eq!(changes(&mut fleet), none);
    fleet.remove(a);
    assert_eq!(changes(&mut fleet), none);
}

#[test]
fn a_secret_with_a_key_for_one_and_a_certificate_for_another_is_followed_for_the_key() {
    let mut fleet = Fleet::default();
    let a = fleet.upsert(&device("a", 1, 1, &certified(Some("x"), &Value::Null)), Some(1)).0;
    assert_eq!(changes(&mut fleet), <[Vec<String>; 2]>::default());
    let b = fleet.upsert(&device("b", 2, 1, &own("Primary", ["x", "x"], &Value::Null)), Some(1)).0;
    assert_eq!(changes(&mut fleet), [vec!["x".to_owned()], vec![]]);
    let x = key(&mut fleet, "x");
    assert_eq!(fleet.source_seen(&x, 3), [a, b]);
    fleet.remove(b);
    assert_eq!(changes(&mut fleet), [vec![], vec!["x".to_owned()]]);
}

#[test]
fn an_integration_names_the_certificates_of_devices_that_do_not_do_so_themselves() {
    let mut fleet = Fleet::default();
    let ours = fleet.upsert(&device("a", 1, 1, &json!({})), Some(1)).0;
    let named = fleet.upsert(&device("b", 2, 1, &certified(Some("mine"), &Value::Null)), Some(1)).0;
    let sym = fleet.get(ours).unwrap().integration;
    let own = |fleet: &Fleet| [ours, named].map(|id| fleet.get(id).unwrap().has_own_credential());
    assert_eq!(own(&fleet), [false, true]);

    for template in ["{name}-tls", "cert.{name}"] {
        fleet.set_scope(sym, Some("0ne1"), true, Some(template));
        let secret = key(&mut fleet, &template.replace("{name}", "a"));
        assert_eq!((own(&fleet), fleet.devices_of_source(&secret)), ([true, true], vec![ours]));
    }
    let [former, mine] = ["a-tls", "mine"].map(|secret| key(&mut fleet, secret));
    assert_eq!(fleet.devices_of_source(&former), super::NONE);
    assert_eq!(fleet.devices_of_source(&mine), [named]);
    // One that comes later.
    let later = fleet.upsert(&device("c", 3, 1, &json!({})), Some(1)).0;
    let secret = key(&mut fleet, "cert.c");
    assert_eq!(fleet.devices_of_source(&secret), [later]);

    fleet.set_scope(sym, Some("0ne1"), true, None);
    assert_eq!(own(&fleet), [false, true]);
    assert_eq!(fleet.devices_of_source(&secret), super::NONE);
}

#[test]
fn what_one_device_reads_is_news_to_others_of_the_same_secret() {
    let mut fleet = Fleet::default();
    let [a, b] = [("a", 1), ("b", 2)].map(|(name, uid)| {
        fleet.upsert(&device(name, uid, 1, &certified(Some("x"), &presented("x", "7"))), Some(1)).0
    });
    let x = key(&mut fleet, "x");
    assert_eq!(fleet.source_seen(&x, 7), super::NONE);
    assert_eq!(fleet.source_read(b, 9, false), [a]);
    assert_eq!(fleet.source_seen(&x, 9), super::NONE, "it was told");
    assert_eq!(fleet.source_read(a, 9, false), super::NONE);
}
