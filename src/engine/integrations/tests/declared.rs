//! From what is declared to a target.

use std::process::Command;
use std::sync::Arc;

use serde_json::json;

use super::{
    FACTORY, MINUTE, NOTHING, SECOND, Situation, admitted, certificate, config_map, dismissed, group, key_id,
    keys, object, reason, with_bundle, with_foreign_prefix, with_payload,
};
use crate::api::attestation::KeySlot::{Primary, Secondary};
use crate::api::conditions::{self, ConditionType, Reason};
use crate::api::names::{RECONCILE_REQUESTED_AT, REPROVISION_REQUESTED_AT};
use crate::api::references::Referred;
use crate::controller::integration::consent::Consent;
use crate::engine::integrations::{Change, PermitChange};
use crate::schedule::permits::{Gate, Limits};

/// Set for the process that has no root certificates.
const CHILD: &str = "DPS_OPERATOR_TEST_WITHOUT_ROOTS";

#[test]
fn an_integration_is_a_newcomer_once_its_key_secret_has_been_read_and_nothing_before() {
    let mut situation = Situation::new();

    let declared = situation.declare(json!({}));

    assert_eq!((declared, situation.trouble()), (NOTHING, (None, None)));
    assert!(situation.registry.usable(situation.factory).is_none() && situation.report().is_none());

    let read = situation.show_keys(keys(1, 2));

    assert_eq!(read, admitted(Gate::NEWCOMER));
    assert_eq!((situation.target().revision, situation.target().credentials.in_use()), (1, key_id(1)));
    assert_eq!(situation.trouble(), (None, None));
}

#[test]
fn what_says_nothing_new_changes_nothing() {
    let mut situation = Situation::accepted(json!({}));
    let [older, equal] = [situation.version - 1, situation.version].map(|version| {
        let mut object = object(FACTORY, json!({"suspend": true}));
        object.metadata.resource_version = Some(version.to_string());
        object
    });

    let changes = [
        situation.registry.observed(situation.factory, older, situation.now),
        situation.registry.observed(situation.factory, equal, situation.now),
        situation.declare(json!({})),
        situation.show_keys(keys(1, 9)),
        situation.declare(with_bundle()),
    ];

    assert_eq!(changes, [NOTHING; 5], "old versions, equal terms, and a bundle that is still unread");
    assert_eq!((situation.target().revision, situation.object().spec.suspend), (1, false));
}

#[test]
fn an_image_without_root_certificates_is_named_and_a_bundle_makes_up_for_it() {
    if std::env::var_os(CHILD).is_some() {
        let said = |situation: &mut Situation| {
            let status = situation.write();
            let ready = conditions::find(&status.conditions, ConditionType::Ready).unwrap();
            (reason(&status), ready.message.clone())
        };
        let (refused, message) = said(&mut Situation::usable(json!({})));
        assert_eq!(refused, Some(Reason::InvalidConfiguration));
        assert!(message.contains("no trusted root certificates") && message.contains("spec.caBundleRef"));
        let mut with_roots = Situation::usable(json!({}));
        with_roots.refer_to_bundle(&certificate());
        assert_eq!(said(&mut with_roots).0, Some(Reason::Available));
        return;
    }
    let test = "engine::integrations::tests::declared::an_image_without_root_certificates_is_named_and_a_bundle_makes_up_for_it";
    let mut child = Command::new(std::env::current_exe().unwrap());
    let child = child.args([test, "--exact", "--nocapture"]).env_remove("SSL_CERT_DIR");
    let output = child.envs([(CHILD, "1"), ("SSL_CERT_FILE", "/dev/null")]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{output:?}");
}

#[test]
fn nothing_but_new_limits_follows_from_changed_limits() {
    let mut situation = Situation::accepted(json!({}));
    let rollout = json!({"paused": true, "maxPerMinute": 5});

    let change = situation.declare(json!({"rateLimit": {"registrationsPerMinute": 30}, "rollout": rollout}));

    let limits = Limits { share: Some(30), rollout: Some(5), paused: true };
    let permits = Some(PermitChange::Limit(limits));
    assert_eq!(change, Change { permits, wake_devices: true, ..NOTHING });
    assert_eq!((situation.registry.limits(situation.factory), situation.target().revision), (limits, 1));
}

/// Which of acceptance and the connection's clock stay as they were over a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Both,
    Acceptance,
    Neither,
}

#[test]
fn whatever_devices_depend_on_gives_a_new_target() {
    use Kept::{Acceptance, Both, Neither};
    type Make = fn(&mut Situation) -> Change;
    let changes: [(&str, Make, Kept); 11] = [
        ("prefix", |s| s.declare(json!({"registrationIdPrefixes": ["a-"]})), Both),
        ("foreign prefix", |s| s.declare(with_foreign_prefix()), Both),
        ("suspend", |s| s.declare(json!({"suspend": true})), Both),
        ("default", |s| s.declare(with_payload()), Both),
        ("token", |s| s.annotate(REPROVISION_REQUESTED_AT, "1"), Both),
        ("second key", |s| s.name_both_keys(Primary), Both),
        ("host", |s| s.declare(json!({"hostname": "a.azure-devices-provisioning.net"})), Acceptance),
        ("CA bundle", |s| s.refer_to_bundle(&certificate()), Acceptance),
        ("key", |s| s.show_keys(keys(3, 2)), Neither),
        ("slot", |s| s.name_both_keys(Secondary), Neither),
        ("id scope", |s| s.declare(json!({"idScope": "0ne2"})), Neither),
    ];
    for (what, make, kept) in changes {
        let mut situation = Situation::accepted(json!({}));
        let before = situation.registry.usable(situation.factory).unwrap().clone();

        let change = make(&mut situation);

        let after = situation.registry.usable(situation.factory).unwrap();
        let scope = after.target.instance.scope.clone();
        // Another route has to prove itself before it shares the rate.
        let gate = if kept == Both { Gate::OPEN } else { Gate::NEWCOMER };
        let permits = Some(PermitChange::Admit { group: group(), scope, gate, limits: Limits::default() });
        assert_eq!(change, Change { permits, ..admitted(gate) }, "{what}");
        let accepted = situation.registry.integrations[&situation.factory].health.accepted();
        assert_eq!(accepted, kept != Neither, "{what}");
        let same_clock = Arc::ptr_eq(&before.connection.clock, &after.connection.clock);
        assert_eq!((same_clock, after.target.revision), (kept == Both, 2), "{what}");
    }
}

#[test]
fn refusals_are_forgotten_with_any_change_and_the_trouble_with_another_key() {
    let mut situation = Situation::usable(json!({}));
    situation.refuse_three();
    situation.now += SECOND;

    let changed_defaults = situation.declare(with_payload());

    assert_eq!(changed_defaults, admitted(Gate::NEWCOMER));
    assert_eq!(situation.trouble(), (Some(Reason::Unauthorized), Some(situation.now)));

    let changed_key = situation.show_keys(keys(3, 2));

    assert_eq!(changed_key, admitted(Gate::NEWCOMER));
    assert_eq!(situation.trouble(), (None, None));
}

#[test]
fn a_suspended_integration_holds_new_devices_up() {
    let mut situation = Situation::accepted(json!({}));

    situation.declare(json!({"suspend": true}));

    assert!(situation.registry.holds_up(situation.factory));
    assert_eq!(situation.trouble(), (None, Some(situation.now)));
    situation.declare(json!({}));
    assert!(!situation.registry.holds_up(situation.factory));
    assert_eq!(situation.trouble(), (None, None));
}

#[test]
fn an_integration_whose_key_secret_goes_away_is_dismissed_once() {
    let mut situation = Situation::accepted(json!({}));
    situation.write();
    let (gone_at, revision) = (situation.now, situation.target().revision);

    let first = situation.show_keys(Referred::Missing);
    situation.now += MINUTE;
    let second = situation.show_keys(Referred::Forbidden);

    assert_eq!((first, second), (dismissed(), NOTHING));
    assert!(situation.registry.usable(situation.factory).is_none());
    assert!(!situation.registry.is_present(situation.factory, revision));
    assert_eq!(situation.trouble(), (None, Some(gone_at)));
    assert_eq!(reason(&situation.write()), Some(Reason::KeySecretNotFound));
    assert_eq!(situation.show_keys(keys(1, 2)), admitted(Gate::OPEN), "the status says it was accepted");
    assert_eq!(situation.trouble(), (None, None));
}

#[test]
fn what_dps_has_accepted_stays_known_when_the_key_secret_goes_away_before_the_status_is_written() {
    let mut situation = Situation::accepted(json!({}));
    situation.show_keys(Referred::Missing);
    assert_eq!(situation.registry.accepted_scope(situation.factory), Some("0ne1"));

    assert_eq!(situation.show_keys(keys(1, 2)), admitted(Gate::OPEN));
    assert_eq!(situation.show_keys(keys(3, 2)), admitted(Gate::NEWCOMER), "this key was not");
    assert_eq!(situation.show_keys(keys(1, 2)), admitted(Gate::OPEN));
}

#[test]
fn another_object_of_the_same_name_has_nothing_of_what_dps_accepted_of_its_predecessor() {
    let mut situation = Situation::accepted(json!({}));
    let mut other = object(FACTORY, json!({}));
    other.metadata.uid = Some("00000000-0000-0000-0000-000000000002".to_owned());

    // The end of the first one was not seen.
    let change = situation.observe(other);

    assert_eq!(change, admitted(Gate::NEWCOMER));
    assert_eq!(situation.registry.accepted_scope(situation.factory), None);
}

#[test]
fn an_integration_whose_ca_bundle_cannot_be_used_is_unusable() {
    let mut situation = Situation::usable(json!({}));

    let change = situation.refer_to_bundle("not pem");

    assert_eq!(change, dismissed());
    assert_eq!(reason(&situation.write()), Some(Reason::CaBundleInvalid));
}

#[test]
fn a_deleted_integration_is_dismissed_and_a_later_one_of_its_name_is_judged_afresh() {
    let mut situation = Situation::accepted(json!({}));

    let changes = [situation.delete(), situation.delete()];

    let gone = Change { before: Some(Consent::OwnNamespace), ..dismissed() };
    assert_eq!(changes, [gone, NOTHING]);
    assert!(situation.registry.declared().next().is_none());
    assert_eq!(situation.trouble(), (None, Some(situation.now)));
    assert_eq!(situation.declare(json!({})), NOTHING, "its Secret has to be read again");
    assert_eq!(situation.show_keys(keys(1, 2)), admitted(Gate::NEWCOMER));
}

#[test]
fn a_request_to_look_again_forgets_refusals_and_tries_the_slot_that_was_asked_for() {
    let mut situation = Situation::fallen_back();

    let change = situation.annotate(RECONCILE_REQUESTED_AT, "1");

    assert_eq!(change, admitted(Gate::NEWCOMER));
    assert_eq!(situation.target().credentials.in_use(), key_id(1));
    assert_eq!(situation.write().last_handled_reconcile_at.as_deref(), Some("1"));
    assert_eq!(situation.annotate(RECONCILE_REQUESTED_AT, "1"), NOTHING);
}

#[test]
fn looking_again_at_what_cannot_be_used_does_not_put_its_report_off() {
    let mut situation = Situation::usable(json!({}));
    situation.show_keys(Referred::Missing);
    let since = situation.now;
    situation.now += SECOND * 20;

    situation.annotate(RECONCILE_REQUESTED_AT, "1");

    assert_eq!(situation.trouble(), (None, Some(since)));
}

#[test]
fn an_integration_that_is_suspended_still_holds_devices_up_when_its_trouble_ends() {
    let mut situation = Situation::usable(json!({"suspend": true}));
    let since = situation.now;
    situation.now += SECOND;
    situation.refuse(1);
    situation.accept();
    assert_eq!(situation.trouble(), (None, Some(since)));
}

#[test]
fn nothing_is_said_of_a_generation_that_refers_to_what_is_not_read_yet() {
    let mut situation = Situation::accepted(json!({}));
    situation.write();
    let mut changed = object(FACTORY, with_bundle());
    changed.metadata.generation = Some(2);

    situation.observe(changed);
    assert!(situation.report().is_none());

    situation.show(&config_map("ca"), Referred::Missing);
    let status = situation.write();
    assert_eq!((status.observed_generation, reason(&status)), (Some(2), Some(Reason::CaBundleNotFound)));
}
