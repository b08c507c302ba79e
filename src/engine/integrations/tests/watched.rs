//! What is watched for them.

use std::collections::BTreeSet;

use serde_json::json;

use super::{FACTORY, Situation, config_map, for_tenant_a, object, secret, with_bundle};
use crate::api::references::Referred;

#[test]
fn exactly_what_integrations_refer_to_is_read() {
    let mut situation = Situation::usable(json!({}));
    situation.declare(with_bundle());
    let (factory, registry) = (situation.factory, &mut situation.registry);
    let wanted = BTreeSet::from([secret("keys"), config_map("ca")]);
    assert_eq!((registry.references(), registry.references_are_read()), (wanted, false));

    let users = ["ca", "other"].map(|name| registry.referred_observed(&config_map(name), Referred::Missing));

    assert_eq!((users, registry.references_are_read()), ([vec![factory], vec![]], true));
}

#[test]
fn references_that_are_new_are_unread_and_those_that_are_gone_are_forgotten() {
    let mut situation = Situation::usable(json!({}));
    let registry = &mut situation.registry;
    let wanted = BTreeSet::from([secret("others"), config_map("keys")]);

    let mut changed = registry.refer_to(&wanted);

    changed.sort();
    assert_eq!(changed, [secret("keys"), secret("others"), config_map("keys")]);
    assert!(!registry.references_are_read() && registry.refer_to(&wanted).is_empty());
    let is_group_key = |namespace, name: &str| registry.is_group_key(namespace, name.to_owned());
    assert!(is_group_key("fleet", "others") && !is_group_key("other", "others"));
    assert!(!is_group_key("fleet", "keys"), "that is a ConfigMap now");
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
