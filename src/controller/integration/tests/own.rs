//! Integrations whose devices share nothing, and what a device brings itself.

use serde_json::{Value, json};

use super::keys::{key, present};
use super::{good_keys, integration, resolved};
use crate::api::attestation::{KeySlot, SymmetricKey};
use crate::api::conditions::Reason;
use crate::api::references::Referred;
use crate::controller::integration::credentials::Credentials;
use crate::controller::integration::key_source::KeySource;
use crate::controller::integration::resolve::references;
use crate::controller::integration::status::was_accepted;
use crate::dps::attestation::seal::Statement;
use crate::dps::attestation::{CredentialId, CredentialKind};
use crate::dps::ids::RegistrationId;

fn of(keys: Value) -> SymmetricKey {
    serde_json::from_value(keys).unwrap()
}

fn both(active: &str) -> SymmetricKey {
    of(json!({"primaryKeyRef": {"name": "mine"}, "secondaryKeyRef": {"name": "other"}, "active": active}))
}

#[test]
fn an_integration_whose_devices_share_nothing_is_usable_without_any_key() {
    let declared = integration(json!({"attestation": {"perDevice": {}}}));
    assert_eq!(references("fleet", &declared.spec).len(), 0);
    let usable = resolved(&declared, Referred::Missing, Referred::Missing).unwrap().unwrap();
    let credentials = &usable.terms.credentials;
    let id = RegistrationId::parse("a").unwrap();
    assert!(!credentials.are_shared());
    assert_eq!(credentials.in_use(), CredentialId::OF_EACH_DEVICE);
    assert!(credentials.for_device(&id).is_none() && credentials.other().is_none());
    assert!(credentials.seal(None, &Statement::of("test", [])).is_none());
    let accepted = |scope: &str| {
        let mut declared = integration(json!({"attestation": {"perDevice": {}}}));
        let status = json!({"observedGeneration": 3, "acceptedIdScope": scope, "conditions": []});
        declared.status = Some(serde_json::from_value(status).unwrap());
        was_accepted(&declared, credentials)
    };
    assert!(accepted("0ne1") && !accepted("0ne2"));
    let two = json!({"perDevice": {}, "symmetricKey": {"primaryKeyRef": {"name": "keys"}}});
    for attestation in [two, json!({})] {
        let refused = resolved(&integration(json!({"attestation": attestation})), good_keys(), good_keys());
        assert_eq!(refused.unwrap_err().reason, Reason::InvalidConfiguration);
    }
}

#[test]
fn a_devices_own_key_is_taken_from_the_slot_that_it_asks_for_and_its_source_is_known() {
    let find = |name: &str| {
        static FOUND: std::sync::LazyLock<[Referred; 2]> = std::sync::LazyLock::new(|| {
            [present(&[("primaryKey", &key(1))]), present(&[("secondaryKey", &key(2))])]
        });
        if name == "mine" { &FOUND[0] } else { &FOUND[1] }
    };
    for (active, slot, secret) in
        [("Primary", KeySlot::Primary, "mine"), ("Secondary", KeySlot::Secondary, "other")]
    {
        let own = Credentials::resolve_own(&both(active), find).unwrap();
        assert_eq!((own.slot(), own.in_use().kind()), (Some(slot), CredentialKind::IndividualKey));
        let source = own.source().unwrap();
        assert_eq!((source.secret.as_str(), source.version.is_some()), (secret, true));
        assert!(own.other().is_some_and(|other| own.has(other) && other != own.in_use()));
    }
}

#[test]
fn what_is_wrong_with_a_devices_own_key_names_its_enrollment_and_shows_nothing() {
    let one = || of(json!({"primaryKeyRef": {"name": "mine"}}));
    let generated = Referred::Present { data: Default::default(), generated: true, version: String::new() };
    let secondary = of(json!({"primaryKeyRef": {"name": "mine"}, "active": "Secondary"}));
    for (attestation, found, reason, says) in [
        (
            one(),
            Referred::Missing,
            Reason::KeySecretNotFound,
            "the key of the device's individual enrollment under",
        ),
        (one(), Referred::Forbidden, Reason::KeySecretNotFound, "check its RBAC"),
        (one(), present(&[("password", "hunter2")]), Reason::KeySecretNotFound, "has no key \"primaryKey\""),
        (
            one(),
            present(&[("primaryKey", "hunter2")]),
            Reason::KeyInvalid,
            "is not the key of an individual enrollment",
        ),
        (one(), generated, Reason::KeyInvalid, "was written by this operator for a device"),
        (secondary, good_keys(), Reason::InvalidConfiguration, "there is no secondaryKeyRef"),
    ] {
        let refused = Credentials::resolve_own(&attestation, |_| &found).unwrap_err();
        assert_eq!(refused.reason, reason, "{refused:?}");
        assert!(refused.message.contains(says) && !refused.message.contains("hunter2"), "{refused:?}");
    }
}

#[test]
fn failures_of_before_a_start_count_for_the_very_version_of_the_key_that_failed() {
    let usable = resolved(
        &integration(json!({"attestation": {"perDevice": {}}})),
        Referred::Missing,
        Referred::Missing,
    );
    let terms = usable.unwrap().unwrap().terms;
    let target =
        |as_recorded| super::super::target::Target { terms: terms.clone(), revision: 3, as_recorded };
    let found = present(&[("primaryKey", &key(1))]);
    let own = Credentials::resolve_own(&of(json!({"primaryKeyRef": {"name": "mine"}})), |_| &found).unwrap();
    let same = own.source().unwrap().clone();
    let other = KeySource { version: Some("other".to_owned()), ..same.clone() };
    for (of_integration, stated, expected) in [
        (true, Some(&same), true),
        (true, Some(&other), false),
        (true, None, false),
        (false, Some(&same), false),
    ] {
        assert_eq!(target(of_integration).for_device(own.clone(), stated).as_recorded, expected);
    }
    let revision = |revision| {
        super::super::target::Target { revision, ..target(true) }.for_device(own.clone(), None).revision
    };
    assert_ne!(revision(3), revision(4), "it moves with the integration's");
    assert_eq!(revision(3), revision(3));
}
