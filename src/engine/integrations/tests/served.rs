//! Which devices are served.

use serde_json::json;

use super::{NOTHING, Situation, for_tenant_a};
use crate::api::references::Referred;
use crate::controller::integration::consent::Consent;
use crate::engine::integrations::Change;

#[test]
fn devices_of_other_namespaces_are_served_if_they_are_admitted() {
    for (from, serves_other) in [("Same", false), ("All", true)] {
        let mut situation = Situation::usable(json!({}));

        let change = situation.declare(json!({"allowedNamespaces": {"from": from}}));

        let before = serves_other.then_some(Consent::OwnNamespace);
        assert_eq!(change, Change { wake_devices: serves_other, before, ..NOTHING });
        assert_eq!((situation.serves("fleet"), situation.serves("other")), (true, serves_other));
        situation.delete();
        assert_eq!((situation.serves("fleet"), situation.serves("other")), (false, false));
    }
}

#[test]
fn a_namespace_is_admitted_by_its_labels_while_they_are_known() {
    let mut situation = Situation::usable(for_tenant_a());
    assert!(situation.serves("fleet") && !situation.serves("other"));
    for (tenant, serves) in [("b", false), ("a", true), ("b", false), ("a", true)] {
        let labels = [("tenant".to_owned(), tenant.to_owned())].into();

        let is_news = [(), ()].map(|()| situation.registry.labels_observed("other", &labels));

        assert_eq!((is_news, situation.serves("other")), ([true, false], serves));
    }
    situation.registry.labels_gone("other");
    assert!(!situation.serves("other"));
}

#[test]
fn the_scope_that_dps_has_accepted_stands_while_the_integration_is_declared() {
    let mut situation = Situation::usable(json!({}));
    assert_eq!(situation.registry.accepted_scope(situation.factory), None);

    situation.accept();

    situation.write();
    situation.show_keys(Referred::Missing);
    let mut restarted = Situation::new();
    restarted.observe(situation.object());
    for mut situation in [situation, restarted] {
        assert_eq!(situation.registry.accepted_scope(situation.factory), Some("0ne1"));
        situation.delete();
        assert_eq!(situation.registry.accepted_scope(situation.factory), None);
    }
}

#[test]
fn of_one_that_cannot_be_used_it_is_told_when_other_claims_count() {
    for (what, spec, claims) in [
        ("prefixes", json!({"registrationIdPrefixes": ["a-"]}), true),
        ("prefixes of others", json!({"allowedNamespaces": {"registrationIdPrefixes": ["a-"]}}), true),
        ("another id scope", json!({"idScope": "0ne2"}), true),
        ("nothing that matters", json!({"deviceDefaults": {"payload": {"a": 1}}}), false),
    ] {
        let mut situation = Situation::accepted(json!({}));
        situation.show_keys(Referred::Missing);

        let change = situation.declare(spec);

        assert_eq!(change, Change { claims, ..NOTHING }, "{what}");
    }
}
