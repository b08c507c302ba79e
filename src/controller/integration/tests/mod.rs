//! Tables for what is decided and said about an integration.

pub(crate) mod keys;
mod own;
mod standing;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use self::keys::{key, key_id, present};
use super::credentials::Credentials;
use super::health::{Answer, CANARIES, Canary, Health, Known, Pair};
use super::issuers::Issuers;
use super::resolve::{Allowed, Usable, references, resolve};
use super::secret_versions::SecretVersions;
use super::status::{View, has_fallen_back, is_equal, is_recorded, render, was_accepted};
use super::unusable::Unusable;
use crate::api::attestation::KeySlot;
use crate::api::conditions::{ConditionType, Reason, find, is_true, reason_of};
use crate::api::integration::{DeviceCounts, DpsIntegration, DpsIntegrationStatus};
use crate::api::references::{Reference, Referred, ReferredKind};
use crate::controller::failure;
use crate::dps::error::{DpsError, Refusal};
use crate::dps::host::AllowedHosts;
use crate::fleet::counts::{Counts, Rotation};
use crate::fleet::uid::Uid;
use crate::schedule::permits::Limits;

static NO_ISSUERS: Issuers = Issuers::NONE;
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn integration(spec: Value) -> DpsIntegration {
    let mut whole = json!({
        "idScope": "0ne1", "hostname": "global.azure-devices-provisioning.net",
        "attestation": {"symmetricKey": {"primaryKeyRef": {"name": "keys", "key": "primaryKey"}}},
    });
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    serde_json::from_value(json!({
        "apiVersion": "dps-operator.io/v1alpha1", "kind": "DpsIntegration",
        "metadata": {"name": "factory", "namespace": "fleet", "generation": 3}, "spec": whole,
    }))
    .unwrap()
}

fn both_keys(active: &str) -> Value {
    json!({"attestation": {"symmetricKey": {
        "primaryKeyRef": {"name": "keys", "key": "primaryKey"},
        "secondaryKeyRef": {"name": "keys", "key": "secondaryKey"}, "active": active,
    }}})
}

fn good_keys() -> Referred {
    present(&[("primaryKey", &key(1)), ("secondaryKey", &key(2))])
}

fn resolved(integration: &DpsIntegration, keys: Referred, ca: Referred) -> Result<Option<Usable>, Unusable> {
    let allowed = AllowedHosts::parse(["*.azure-devices-provisioning.net"]).unwrap();
    let reference =
        |kind, name: &str| Reference { kind, namespace: "fleet".to_owned(), name: name.to_owned() };
    let known = HashMap::from([
        (reference(ReferredKind::Secret, "keys"), keys),
        (reference(ReferredKind::ConfigMap, "ca"), ca),
    ]);
    resolve(integration, Allowed { hosts: &allowed, cert_manager: false }, |reference| &known[reference])
}

fn refusal(spec: Value, keys: Referred, ca: Referred) -> (Reason, String) {
    let Unusable { reason, message, passes: _ } = resolved(&integration(spec), keys, ca).unwrap_err();
    (reason, message)
}

#[test]
fn cert_manager_is_asked_only_where_the_operator_may() {
    let asks = json!({"attestation": {"x509": {"certManager": {"issuerRef": {"name": "fleet-ca"}}}}});
    let (reason, message) = refusal(asks.clone(), Referred::Missing, Referred::Missing);
    assert_eq!(reason, Reason::InvalidConfiguration);
    assert!(message.contains("certManager.enabled=true"), "{message}");
    let hosts = AllowedHosts::parse(["*.azure-devices-provisioning.net"]).unwrap();
    let allowed = Allowed { hosts: &hosts, cert_manager: true };
    let usable = resolve(&integration(asks), allowed, |_| &Referred::Missing).unwrap().unwrap();
    assert_eq!(usable.terms.cert_manager.unwrap().issuer_ref.kind, "Issuer");
}

#[test]
fn a_valid_integration_is_usable_with_the_active_key() {
    let usable = resolved(&integration(json!({})), good_keys(), Referred::Missing).unwrap().unwrap();
    let credentials = &usable.terms.credentials;
    assert_eq!((credentials.in_use(), credentials.other()), (key_id(1), None));
    assert_eq!(usable.limits.share, None);

    let usable =
        resolved(&integration(both_keys("Secondary")), good_keys(), Referred::Missing).unwrap().unwrap();
    let credentials = &usable.terms.credentials;
    assert_eq!((credentials.in_use(), credentials.other()), (key_id(2), Some(key_id(1))));

    let limited = integration(json!({
        "rateLimit": {"registrationsPerMinute": 30}, "rollout": {"paused": true, "maxPerMinute": 5}, "suspend": true,
    }));
    let usable = resolved(&limited, good_keys(), Referred::Missing).unwrap().unwrap();
    assert_eq!(
        (usable.limits, usable.terms.suspended),
        (Limits { share: Some(30), rollout: Some(5), paused: true }, true)
    );
}

#[test]
fn what_is_wrong_with_a_key_is_said_without_the_key() {
    let of = |keys| refusal(json!({}), keys, Referred::Missing);
    for (keys, reason, says) in [
        (Referred::Missing, Reason::KeySecretNotFound, "does not exist"),
        (Referred::Forbidden, Reason::KeySecretNotFound, "may not be read"),
        (present(&[("other", "x")]), Reason::KeySecretNotFound, "has no key \"primaryKey\""),
        (present(&[("primaryKey", "")]), Reason::KeyInvalid, "it is empty"),
        (present(&[("primaryKey", "not base64!")]), Reason::KeyInvalid, "it is not base64"),
        (present(&[("primaryKey", "c2hvcnQ=")]), Reason::KeyInvalid, "decodes to 5 bytes"),
    ] {
        let (got, message) = of(keys);
        assert_eq!(got, reason, "{message}");
        assert!(
            message.contains(says) && !message.contains("not base64!") && !message.contains("c2hvcnQ="),
            "{message}"
        );
    }
    let generated = Referred::Present { data: BTreeMap::new(), generated: true, version: String::new() };
    assert_eq!(of(generated).0, Reason::KeyInvalid);
}

#[test]
fn nothing_is_decided_before_everything_has_been_read() {
    assert!(resolved(&integration(json!({})), Referred::Unread, Referred::Missing).unwrap().is_none());
    let with_ca = integration(json!({"caBundleRef": {"name": "ca", "key": "ca.crt"}}));
    assert!(resolved(&with_ca, good_keys(), Referred::Unread).unwrap().is_none());
    assert_eq!(references("fleet", &with_ca.spec).len(), 2);
}

#[test]
fn ca_bundles_are_found_and_bounded() {
    let spec = || json!({"caBundleRef": {"name": "ca", "key": "ca.crt"}});
    assert_eq!(refusal(spec(), good_keys(), Referred::Missing).0, Reason::CaBundleNotFound);
    assert_eq!(refusal(spec(), good_keys(), present(&[("other", "x")])).0, Reason::CaBundleNotFound);
    let large = "x".repeat(256 * 1024 + 1);
    assert_eq!(refusal(spec(), good_keys(), present(&[("ca.crt", &large)])).0, Reason::CaBundleInvalid);
    let usable = resolved(&integration(spec()), good_keys(), present(&[("ca.crt", "pem")])).unwrap().unwrap();
    assert_eq!(usable.terms.instance.tls.ca_bundle.as_deref(), Some(b"pem".as_slice()));
}

#[test]
fn hosts_outside_the_list_are_refused() {
    let host = |name: &str| refusal(json!({"hostname": name}), good_keys(), Referred::Missing).0;
    assert_eq!(host("evil.example"), Reason::HostNotAllowed);
    assert_eq!(host("169.254.169.254"), Reason::HostNotAllowed);
    assert_eq!(host("x:99999"), Reason::InvalidConfiguration);
}

fn nested(levels: u32) -> Value {
    (0..levels).fold(json!({}), |inner, _| json!({"a": inner}))
}

#[test]
fn what_admission_cannot_see_is_refused() {
    for spec in [
        json!({"allowedNamespaces": {"from": "Selector", "registrationIdPrefixes": [""], "selector": {
            "matchExpressions": [{"key": "tenant", "operator": "In"}],
        }}}),
        json!({"deviceDefaults": {"payload": nested(1000)}}),
        json!({"deviceDefaults": {"payload": {"big": "x".repeat(70_000)}}}),
        both_keys("Secondary")
            .as_object()
            .map(|_| {
                json!({"attestation": {"symmetricKey": {
                    "primaryKeyRef": {"name": "keys", "key": "primaryKey"}, "active": "Secondary",
                }}})
            })
            .unwrap(),
    ] {
        assert_eq!(
            refusal(spec.clone(), good_keys(), Referred::Missing).0,
            Reason::InvalidConfiguration,
            "{spec}"
        );
    }
    for spec in [
        json!({"allowedNamespaces": {"from": "Same"}}),
        json!({"rollout": {"paused": false}}),
        json!({"deviceDefaults": {"registration": {"onCreate": "Register"}, "reprovision": {"policy": "OnChange"}}}),
    ] {
        assert!(resolved(&integration(spec.clone()), good_keys(), Referred::Missing).is_ok(), "{spec}");
    }
}

fn pair() -> Pair {
    Pair { asked_for: key_id(1), other: Some(key_id(2)) }
}

fn device(number: u32) -> Canary {
    Canary { device: number, uid: Uid::parse(&number.to_string()) }
}

/// DPS has accepted the credential in use.
fn accepted() -> Health {
    let mut health = Health::default();
    health.configured(pair(), Known { accepted: true, proven: true, same_for_dps: false });
    health
}

/// DPS has refused the credential in use for every canary.
fn refused() -> Health {
    let (mut health, error) = (accepted(), DpsError::Unauthorized(Refusal::of(key_id(1))));
    for number in 0..CANARIES {
        let answer = Answer {
            device: device(number),
            issuer: key_id(1),
            error: Some(&error),
            throttled: false,
            newcomers: false,
        };
        health.answered(&answer, Instant::now());
    }
    health
}

fn view<'a>(usable: &'a Usable, health: &'a Health, counts: &'a Counts) -> View<'a> {
    View {
        pace: 600,
        credentials: Ok(&usable.terms.credentials),
        proven: Vec::from_iter(health.accepted().then(|| usable.terms.credentials.in_use())),
        secret_versions: &usable.secret_versions,
        accepted_scope: health.accepted(),
        suspended: false,
        insufficient: None,
        reconcile_at: None,
        warning: None,
        health,
        issuers: &NO_ISSUERS,
        throttled_until: None,
        counts: Some(counts),
        begins: None,
    }
}

#[test]
fn a_rotation_is_shown_while_devices_are_to_be_moved_and_keeps_its_beginning() {
    let mut integration = integration(json!({}));
    let usable = resolved(&integration, good_keys(), Referred::Missing).unwrap().unwrap();
    let counts = |pending| Counts {
        rotation: Rotation { total: 10, pending, excluded: 2 },
        tokens_pending: pending,
        ..Counts::default()
    };
    let started = render(&integration, &view(&usable, &refused(), &counts(5)), NOW);
    let shown = started.key_rotation.clone().unwrap();
    assert_eq!((shown.total, shown.pending, shown.excluded, shown.blocked), (10, 5, 2, true));
    integration.status = Some(started);
    let later = Timestamp::from_second(100).unwrap();
    let on_the_way = render(&integration, &view(&usable, &accepted(), &counts(1)), later);
    assert_eq!(on_the_way.key_rotation.as_ref().unwrap().started_at.0, NOW);
    integration.status = Some(on_the_way);
    assert_eq!(render(&integration, &view(&usable, &accepted(), &counts(0)), later).key_rotation, None);
}

#[test]
fn the_integrations_token_is_echoed_when_every_device_has_served_it() {
    let mut integration = integration(json!({}));
    integration.metadata.annotations =
        Some([("dps-operator.io/reprovision-requested-at".to_owned(), "1".to_owned())].into());
    let usable = resolved(&integration, good_keys(), Referred::Missing).unwrap().unwrap();
    assert_eq!(usable.terms.token.as_deref(), Some("1"));
    let pending = Counts { tokens_pending: 1, ..Counts::default() };
    let echo = |counts: &Counts| {
        render(&integration, &view(&usable, &accepted(), counts), NOW).last_handled_reprovision_token
    };
    assert_eq!(echo(&pending), None);
    assert_eq!(echo(&Counts::default()).as_deref(), Some("1"));
}

/// Of the Secret with `good_keys`.
fn versions() -> SecretVersions {
    let usable = resolved(&integration(both_keys("Primary")), good_keys(), Referred::Missing);
    usable.unwrap().unwrap().secret_versions
}

/// The integration as it stands after its primary key was refused, and the credentials asked for.
fn fallen_back() -> (DpsIntegration, Credentials) {
    let mut integration = integration(both_keys("Primary"));
    let mut usable = resolved(&integration, good_keys(), Referred::Missing).unwrap().unwrap();
    let asked_for = usable.terms.credentials.clone();
    let mut health = refused();
    let error = DpsError::Unauthorized(Refusal::of(key_id(1)));
    for (issuer, error) in [(key_id(2), None), (key_id(1), Some(&error))] {
        let answer = Answer { device: device(1), issuer, error, throttled: false, newcomers: false };
        health.answered(&answer, Instant::now());
    }
    assert!(health.has_fallen_back());
    usable.terms.credentials = asked_for.swapped().unwrap();
    integration.status = Some(render(&integration, &view(&usable, &health, &Counts::default()), NOW));
    (integration, asked_for)
}

#[test]
fn a_slot_that_was_found_to_work_is_remembered_for_exactly_this_spec_and_these_keys() {
    let (mut integration, asked_for) = fallen_back();
    let status = integration.status.clone().unwrap();
    let ready = find(&status.conditions, ConditionType::Ready).unwrap();
    assert!(
        ready.status == "True" && ready.message.contains("so the Secondary key is used"),
        "{}",
        ready.message
    );
    let shown = serde_json::to_value(&status.credentials).unwrap();
    assert_eq!((&shown["inUse"], &shown["working"]), (&json!("Secondary"), &json!("Secondary")));
    assert!(has_fallen_back(&integration, &asked_for, &versions()));
    assert!(
        !has_fallen_back(&integration, &asked_for.swapped().unwrap(), &versions()),
        "now the other slot is asked for"
    );
    integration.metadata.generation = Some(4);
    assert!(!has_fallen_back(&integration, &asked_for, &versions()));
}

#[test]
fn a_fallback_is_remembered_by_its_field_and_not_by_the_text_of_a_message() {
    let (mut integration, asked_for) = fallen_back();
    for condition in &mut integration.status.as_mut().unwrap().conditions {
        condition.message = "In other words.".to_owned();
    }
    assert!(has_fallen_back(&integration, &asked_for, &versions()));
    let credentials = integration.status.as_mut().unwrap().credentials.as_mut().unwrap();
    credentials.in_use = Some(KeySlot::Primary);
    assert!(!has_fallen_back(&integration, &asked_for, &versions()));
}

/// What version 0.1.0 wrote: the field did not exist, and the message was what it went by.
#[test]
fn a_fallback_that_version_0_1_0_has_recorded_is_understood() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/fallback-0.1.0.json");
    let mut integration: DpsIntegration =
        serde_json::from_str(&std::fs::read_to_string(fixture).unwrap()).unwrap();
    let asked_for =
        resolved(&integration, good_keys(), Referred::Missing).unwrap().unwrap().terms.credentials;
    assert!(integration.status.as_ref().unwrap().credentials.as_ref().unwrap().in_use.is_none());
    assert!(has_fallen_back(&integration, &asked_for, &versions()));
    for condition in &mut integration.status.as_mut().unwrap().conditions {
        condition.message = "The configuration is valid and nothing is known to be wrong.".to_owned();
    }
    assert!(!has_fallen_back(&integration, &asked_for, &versions()));
}

#[test]
fn a_field_that_did_not_exist_is_no_reason_to_write_unless_it_says_something() {
    let (mut integration, _) = fallen_back();
    let mut wanted = integration.status.clone().unwrap();
    let in_use = |status: &mut DpsIntegrationStatus, slot| status.credentials.as_mut().unwrap().in_use = slot;
    in_use(integration.status.as_mut().unwrap(), None);
    assert!(!is_equal(&integration, &wanted), "the other slot than the one that was asked for");
    in_use(&mut wanted, Some(KeySlot::Primary));
    assert!(is_equal(&integration, &wanted));
    in_use(integration.status.as_mut().unwrap(), Some(KeySlot::Secondary));
    assert!(!is_equal(&integration, &wanted));
}

#[test]
fn checks_that_come_to_more_than_the_rate_are_spoken_of_beside_ready() {
    let integration = integration(json!({}));
    let usable = resolved(&integration, good_keys(), Referred::Missing).unwrap().unwrap();
    let counts = Counts::default();
    let status =
        render(&integration, &View { insufficient: Some(600), ..view(&usable, &accepted(), &counts) }, NOW);
    assert!(is_true(&status.conditions, ConditionType::Ready));
    let condition = find(&status.conditions, ConditionType::QuotaInsufficient).unwrap();
    assert!(condition.status == "True" && condition.message.contains("600 calls"), "{}", condition.message);
    let enough = render(&integration, &view(&usable, &accepted(), &counts), NOW);
    assert!(find(&enough.conditions, ConditionType::QuotaInsufficient).is_none());
}

#[test]
fn acceptance_is_remembered_for_exactly_this_key_and_scope() {
    let mut integration = integration(both_keys("Primary"));
    let usable = resolved(&integration, good_keys(), Referred::Missing).unwrap().unwrap();
    let credentials = &usable.terms.credentials;
    assert!(!was_accepted(&integration, credentials));
    let status = render(&integration, &view(&usable, &accepted(), &Counts::default()), NOW);
    assert_eq!(status.accepted_id_scope.as_deref(), Some("0ne1"));
    integration.status = Some(status);
    assert!(was_accepted(&integration, credentials));
    assert!(!was_accepted(&integration, &credentials.swapped().unwrap()));
    let changed = present(&[("primaryKey", &key(9)), ("secondaryKey", &key(2))]);
    let Usable { terms, secret_versions: others, .. } =
        resolved(&integration, changed, Referred::Missing).unwrap().unwrap();
    let other = terms.credentials;
    assert!(!was_accepted(&integration, &other));
    assert!(is_recorded(&integration, credentials, &versions()));
    assert!(!is_recorded(&integration, &other, &others));
    integration.metadata.generation = Some(4);
    assert!(!is_recorded(&integration, credentials, &versions()));
}

#[test]
fn a_warning_is_said_where_nothing_worse_is_and_where_it_may_be_the_cause() {
    let mut integration = integration(json!({}));
    let usable = resolved(&integration, good_keys(), Referred::Missing).unwrap().unwrap();
    let (counts, healthy, refused) = (Counts::default(), accepted(), refused());
    let warned = |view| View { warning: Some("Look at this."), ..view };
    let mut message = |view: View<'_>| {
        let status = render(&integration, &view, NOW);
        let message = find(&status.conditions, ConditionType::Ready).unwrap().message.clone();
        integration.status = Some(status);
        message
    };
    for (view, said) in [
        (view(&usable, &healthy, &counts), true),
        (View { suspended: true, ..view(&usable, &healthy, &counts) }, true),
        (view(&usable, &refused, &counts), false),
    ] {
        for _ in 0..2 {
            let times = message(warned(View { proven: view.proven.clone(), ..view }))
                .matches("Look at this.")
                .count();
            assert_eq!(times, usize::from(said));
        }
    }
}

#[test]
fn a_refused_key_of_an_unusual_size_is_said_with_its_size_and_nothing_of_it() {
    let of = |size: usize| STANDARD.encode(vec![7; size]);
    let none = Counts::default();
    for (primary, secondary, refused, said) in [
        (64, 64, true, None),
        (32, 64, true, None),
        (24, 64, true, Some("the primary key decodes to 24 bytes, and keys that Azure makes have 64")),
        (64, 16, true, Some("the secondary key decodes to 16 bytes, and keys")),
        (
            48,
            16,
            true,
            Some("the primary key decodes to 48 bytes, the secondary key decodes to 16 bytes, and"),
        ),
        (24, 16, false, None),
    ] {
        let mut integration = integration(both_keys("Primary"));
        let keys = present(&[("primaryKey", &of(primary)), ("secondaryKey", &of(secondary))]);
        let usable = resolved(&integration, keys, Referred::Missing).unwrap().unwrap();
        let mut health = Health::default();
        if refused {
            let said = failure::message(&DpsError::Unauthorized(Refusal::of(key_id(1))));
            health.recall_refusal(Unusable::new(Reason::Unauthorized, said), Instant::now());
        }
        // Also when it was recalled from the status.
        for _ in 0..2 {
            let status = render(&integration, &view(&usable, &health, &none), NOW);
            let message = find(&status.conditions, ConditionType::Ready).unwrap().message.clone();
            let times = message.matches("Look whether it is").count();
            assert_eq!(times, usize::from(said.is_some()), "{message}");
            assert!(said.is_none_or(|said| message.contains(said)) && !message.contains("BwcH"), "{message}");
            if refused {
                health.recall_refusal(Unusable::new(Reason::Unauthorized, message), Instant::now());
            }
            integration.status = Some(status);
        }
    }
}

#[test]
fn the_accepted_id_scope_is_what_dps_has_accepted_whatever_the_status_says() {
    for recorded in [None, Some("0ne1"), Some("0ne9"), Some("")] {
        let mut integration = integration(json!({}));
        let usable = resolved(&integration, good_keys(), Referred::Missing).unwrap().unwrap();
        let accepted_id_scope = recorded.map(str::to_owned);
        integration.status = Some(DpsIntegrationStatus { accepted_id_scope, ..Default::default() });
        let (counts, health, new) = (Counts::default(), accepted(), Health::default());
        let missing = Unusable::new(Reason::KeySecretNotFound, "m");
        for (view, wanted) in [
            (view(&usable, &health, &counts), Some("0ne1")),
            (view(&usable, &new, &counts), None),
            (View { credentials: Err(&missing), ..view(&usable, &health, &counts) }, Some("0ne1")),
        ] {
            let status = render(&integration, &view, NOW);
            assert_eq!(status.accepted_id_scope.as_deref(), wanted, "{recorded:?}");
        }
    }
}

/// Whoever may write an integration may name any Secret as its key: a fingerprint of what DPS has not
/// accepted would tell whether a guess at it is right.
#[test]
fn a_key_has_no_fingerprint_before_dps_has_accepted_it_and_is_known_again_all_the_same() {
    let mut integration = integration(both_keys("Primary"));
    let (counts, new, healthy) = (Counts::default(), Health::default(), accepted());
    let resolve = |keys| resolved(&self::integration(both_keys("Primary")), keys, Referred::Missing);
    let usable = resolve(good_keys()).unwrap().unwrap();
    let fingerprints = |status: &DpsIntegrationStatus| {
        let credentials = status.credentials.clone().unwrap();
        [credentials.primary, credentials.secondary].map(|key| key.map(|key| key.fingerprint))
    };
    let [first, second] = [key_id(1), key_id(2)].map(|id| id.to_string());

    let unproven = render(&integration, &view(&usable, &new, &counts), NOW);

    assert_eq!(fingerprints(&unproven), [None, None]);
    let text = serde_json::to_string(&unproven).unwrap();
    assert!(!text.contains(&first) && !text.contains(&second), "{text}");
    integration.status = Some(unproven);
    assert!(is_recorded(&integration, &usable.terms.credentials, &usable.secret_versions));
    assert!(!was_accepted(&integration, &usable.terms.credentials));
    // Another key: the Secret has another version.
    for (keys, of_other) in [
        (present(&[("primaryKey", &key(9)), ("secondaryKey", &key(2))]), false),
        (present(&[("primaryKey", &key(1)), ("secondaryKey", &key(9))]), true),
    ] {
        let changed = resolve(keys).unwrap().unwrap();
        let (credentials, versions) = (&changed.terms.credentials, &changed.secret_versions);
        assert!(!is_recorded(&integration, credentials, versions), "{of_other}");
    }
    // Accepted, one after the other.
    let accepted = render(&integration, &view(&usable, &healthy, &counts), NOW);
    assert_eq!(fingerprints(&accepted), [Some(first.clone()), None]);
    let both = View { proven: vec![key_id(1), key_id(2)], ..view(&usable, &healthy, &counts) };
    let both = render(&integration, &both, NOW);
    assert_eq!(fingerprints(&both), [Some(first), Some(second.clone())]);
    assert_eq!(both.credentials.as_ref().unwrap().unproven, None);
    // What is shown stays, in whatever slot, and a new key is not shown.
    integration.status = Some(both);
    let moved = resolve(present(&[("primaryKey", &key(2)), ("secondaryKey", &key(9))])).unwrap().unwrap();
    let moved = render(&integration, &view(&moved, &new, &counts), NOW);
    assert_eq!(fingerprints(&moved), [Some(second), None]);
    assert!(moved.credentials.unwrap().unproven.is_some_and(|keys| keys.primary_version.is_none()));
}

#[test]
fn conditions_tell_the_worst_and_keep_what_is_known_of_the_keys() {
    let mut integration = integration(json!({}));
    let usable = resolved(&integration, good_keys(), Referred::Missing).unwrap().unwrap();
    let (counts, healthy) = (Counts::default(), accepted());
    let good = render(&integration, &view(&usable, &healthy, &counts), NOW);
    assert_eq!(reason_of(&good.conditions, ConditionType::Ready), Some(Reason::Available));
    assert_eq!(good.observed_generation, Some(3));
    integration.status = Some(good.clone());

    let status = render(&integration, &view(&usable, &refused(), &counts), NOW);
    assert!(is_true(&status.conditions, ConditionType::Stalled));
    let missing = Unusable::new(Reason::KeySecretNotFound, "m");
    let unusable = View { credentials: Err(&missing), ..view(&usable, &healthy, &counts) };
    let status = render(&integration, &unusable, NOW);
    assert!(is_true(&status.conditions, ConditionType::Reconciling));
    assert_eq!(status.credentials, good.credentials);
    let status = render(&integration, &View { suspended: true, ..view(&usable, &healthy, &counts) }, NOW);
    let ready = find(&status.conditions, ConditionType::Ready).unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", "Suspended"));
}

#[test]
fn new_dates_say_nothing_new() {
    let mut integration = integration(json!({}));
    let usable = resolved(&integration, good_keys(), Referred::Missing).unwrap().unwrap();
    let (none, one) = (
        Counts::default(),
        Counts { devices: DeviceCounts { total: 1, ..DeviceCounts::default() }, ..Counts::default() },
    );
    let before = render(&integration, &view(&usable, &accepted(), &none), NOW);
    assert!(!is_equal(&integration, &before));
    integration.status = Some(before);
    let status = |counts, now| render(&integration, &view(&usable, &accepted(), counts), now);
    assert!(is_equal(&integration, &status(&none, Timestamp::MAX)));
    assert!(!is_equal(&integration, &status(&one, NOW)));
    let throttled = |until| {
        render(&integration, &View { throttled_until: Some(until), ..view(&usable, &accepted(), &none) }, NOW)
    };
    assert!(!is_equal(&integration, &throttled(NOW)));
    let (one_date, another) = (throttled(NOW), throttled(Timestamp::from_second(9).unwrap()));
    integration.status = Some(one_date);
    assert!(is_equal(&integration, &another));
}

#[test]
fn a_pause_that_lasts_longer_than_was_written_is_written_once_more_and_other_dates_are_not() {
    let mut integration = integration(json!({}));
    let usable = resolved(&integration, good_keys(), Referred::Missing).unwrap().unwrap();
    let (health, counts) = (accepted(), Counts::default());
    let until = |second: i64| {
        let throttled_until = Some(Timestamp::from_second(second).unwrap());
        View { throttled_until, ..view(&usable, &health, &counts) }
    };
    let status = render(&integration, &until(100), NOW);
    integration.status = Some(status);
    for (second, equal) in [(100, true), (105, true), (40, true), (110, false), (4000, false)] {
        let wanted = render(&integration, &until(second), NOW);
        assert_eq!(is_equal(&integration, &wanted), equal, "{second}");
    }
}
