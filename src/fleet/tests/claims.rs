//! What a claim on a registration id is worth.

use serde_json::{Value, json};

use super::{NONE, add, device};
use crate::fleet::Fleet;
use crate::fleet::registration::Registration;

#[test]
fn claimants_of_a_registration_id_are_found_and_ordered() {
    let mut fleet = Fleet::default();
    let a = add(&mut fleet, "shared", 1);
    let other = device("b", 2, 1, &json!({"spec": {"registrationId": "shared"}}));
    let b = fleet.upsert(&other, Some(1)).0;
    declare(&mut fleet, "A");
    let rivals = |fleet: &Fleet, id| fleet.rivals(id).map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!((rivals(&fleet, a), rivals(&fleet, b)), (vec![b], vec![a]));
    assert!(fleet.get(a).unwrap().has_better_claim_than(fleet.get(b).unwrap()));
    fleet.set_registered(b, Registration::Known);
    assert!(fleet.get(b).unwrap().has_better_claim_than(fleet.get(a).unwrap()));
    fleet.remove(a);
    assert_eq!(rivals(&fleet, b), NONE);
}

/// The integration of all devices is declared for this id scope, and DPS has accepted it.
fn declare(fleet: &mut Fleet, scope: &str) {
    let factory = fleet.names.intern("fleet/factory");
    fleet.set_scope(factory, Some(scope), true, None);
}

/// Two devices that claim one id, the older one first, with these statuses.
fn rivals(fleet: &mut Fleet, version: u64, statuses: [&Value; 2]) -> [u32; 2] {
    let mut shown = |name, uid, status: &Value| {
        let object = json!({"spec": {"registrationId": "shared"}, "status": status});
        fleet.upsert(&device(name, uid, version, &object), Some(1)).0
    };
    [shown("a", 1, statuses[0]), shown("b", 2, statuses[1])]
}

/// True if the claim of the younger one is the better one.
fn is_younger_better(fleet: &Fleet, [a, b]: [u32; 2]) -> bool {
    fleet.get(b).unwrap().has_better_claim_than(fleet.get(a).unwrap())
}

/// As a standby sees it: the Secret first, then the status.
#[test]
fn what_a_status_alone_says_is_worth_less_than_what_a_secret_shows_and_more_than_nothing() {
    let mut fleet = Fleet::default();
    declare(&mut fleet, "A");
    let (none, registered) =
        (json!({}), json!({"assignedHub": "hub-a", "registrationId": "shared", "idScope": "a"}));
    let both = rivals(&mut fleet, 1, [&none, &none]);

    fleet.set_has_its_secret(both[1], "A");
    assert!(!is_younger_better(&fleet, both), "neither is registered");
    rivals(&mut fleet, 2, [&none, &registered]);
    assert!(is_younger_better(&fleet, both));
    rivals(&mut fleet, 3, [&registered, &registered]);
    assert!(is_younger_better(&fleet, both));
    fleet.set_registered(both[0], Registration::Known);
    assert!(!is_younger_better(&fleet, both), "DPS has said so, and it is the older one");
}

#[test]
fn a_registration_counts_in_its_own_id_scope_whoever_says_so() {
    let none = json!({});
    let in_scope = json!({"assignedHub": "hub-a", "registrationId": "shared", "idScope": "A"});
    let as_another = json!({"assignedHub": "hub-a", "registrationId": "b", "idScope": "A"});
    type Say = fn(&mut Fleet, u32);
    let nothing: Say = |_, _| ();
    for (status, say, is_said) in [
        (&none, nothing, false),
        (&as_another, nothing, false),
        (&in_scope, nothing, true),
        (&none, (|fleet, id| fleet.set_registered(id, Registration::Known)) as Say, true),
        (&none, |fleet, id| fleet.set_registered(id, Registration::Said), true),
        (&in_scope, |fleet, id| fleet.set_has_its_secret(id, "a"), true),
    ] {
        let mut fleet = Fleet::default();
        declare(&mut fleet, "A");
        let both = rivals(&mut fleet, 1, [&none, status]);
        say(&mut fleet, both[1]);
        let mut seen = vec![];
        for scope in ["A", "B", "a"] {
            declare(&mut fleet, scope);
            seen.push(is_younger_better(&fleet, both));
        }
        assert_eq!(seen, [is_said, false, is_said], "{status}");
        let factory = fleet.names.get("fleet/factory").unwrap();
        fleet.set_scope(factory, None, false, None);
        assert!(!is_younger_better(&fleet, both) && fleet.scopes.is_empty());
    }
}

#[test]
fn what_is_known_is_worth_no_more_than_what_is_shown_until_dps_has_accepted_the_integration() {
    let here = json!({"assignedHub": "hub-a", "registrationId": "shared", "idScope": "A"});
    let mut fleet = Fleet::default();
    let both @ [a, b] = rivals(&mut fleet, 1, [&here, &here]);
    let factory = fleet.names.get("fleet/factory").unwrap();
    fleet.set_scope(factory, Some("A"), false, None);
    fleet.set_has_its_secret(a, "A");
    fleet.set_registered(b, Registration::Known);
    assert!(!is_younger_better(&fleet, both));
    fleet.set_scope(factory, Some("A"), true, None);
    assert!(is_younger_better(&fleet, both));
    // Its Secret was read, and has no seal.
    fleet.set_registered(a, Registration::Said);
    fleet.set_registered(b, Registration::Said);
    assert_eq!([a, b].map(|id| fleet.get(id).unwrap().registration()), [Registration::Said; 2]);
}

#[test]
fn a_device_can_be_verified_while_its_secret_is_unread_or_its_integration_has_called_nobody() {
    let here = json!({"assignedHub": "hub-a", "registrationId": "a", "idScope": "A"});
    for (shown, sealed, proven, read, may) in [
        (false, false, false, false, false),
        (true, false, true, false, true),
        (true, false, true, true, false),
        (true, false, false, true, true),
        (true, true, false, true, true),
        (true, true, false, false, true),
        (true, true, true, false, false),
    ] {
        let mut fleet = Fleet::default();
        let id = fleet.upsert(&device("a", 1, 1, &json!({"status": here})), Some(1)).0;
        let factory = fleet.names.get("fleet/factory").unwrap();
        fleet.set_scope(factory, Some("A"), proven, None);
        if shown {
            fleet.secret_seen("fleet", "a-hub", 5);
            fleet.set_has_its_secret(id, "A");
        }
        if sealed {
            fleet.set_registered(id, Registration::Known);
        }
        let record = fleet.get(id).unwrap();
        assert_eq!(record.may_be_verified(read), may, "{shown} {sealed} {proven} {read}");
    }
}

#[test]
fn a_secret_vouches_for_the_id_scope_that_it_was_written_for() {
    let none = json!({});
    let here = json!({"assignedHub": "hub-a", "registrationId": "shared", "idScope": "A"});
    for (written_for, better) in [("A", true), ("B", false)] {
        let mut fleet = Fleet::default();
        declare(&mut fleet, "A");
        let both = rivals(&mut fleet, 1, [&here, &none]);
        fleet.set_has_its_secret(both[1], written_for);
        rivals(&mut fleet, 2, [&here, &here]);
        assert_eq!(is_younger_better(&fleet, both), better, "{written_for}");
    }
}

#[test]
fn a_device_with_its_own_credential_has_no_claim_before_it_is_registered() {
    let mut fleet = Fleet::default();
    let alone = json!({"spec": {
        "registrationId": "shared", "attestation": {"symmetricKey": {"primaryKeyRef": {"name": "x"}}},
    }});
    let a = fleet.upsert(&device("a", 1, 1, &alone), Some(1)).0;
    let b = fleet.upsert(&device("b", 2, 1, &json!({"spec": {"registrationId": "shared"}})), Some(1)).0;
    declare(&mut fleet, "A");
    let may = |fleet: &Fleet| fleet.get(a).unwrap().may_have_its_id();
    assert!(!may(&fleet) && is_younger_better(&fleet, [a, b]), "it is the older one");
    assert!(!fleet.get(a).unwrap().holds_against_others(), "its integration stands for others");

    fleet.set_registered(a, Registration::Known);

    assert!(may(&fleet) && !is_younger_better(&fleet, [a, b]));
    assert!(fleet.get(a).unwrap().is_proven(), "DPS has said so of its own credential");
}
