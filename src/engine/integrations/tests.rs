//! Integrations from their declaration to their end: what is known of them, and what should follow.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kube::ResourceExt;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{Change, EndedCall, PermitChange, Registry, Report};
use crate::api::attestation::KeySlot::{self, Primary, Secondary};
use crate::api::conditions::{ConditionType, Reason, find, reason_of};
use crate::api::integration::{DpsIntegration, DpsIntegrationStatus};
use crate::api::names::{RECONCILE_REQUESTED_AT, REPROVISION_REQUESTED_AT};
use crate::api::references::{Reference, Referred, ReferredKind};
use crate::clock::Now;
use crate::config::{Config, EventsLevel};
use crate::controller::integration::target::Target;
use crate::dps::attestation::CredentialId;
use crate::dps::attestation::symmetric_key::GroupKey;
use crate::dps::error::{Detail, DpsError, Unreachable};
use crate::dps::host::AllowedHosts;
use crate::dps::ids::IdScope;
use crate::dps::observe::Unobserved;
use crate::fleet::intern::Sym;
use crate::fleet::{DeviceId, Fleet};
use crate::kube_io::error::ApiError;
use crate::schedule::permits::{Gate, Limits};
use crate::telemetry::metrics::{IntegrationGauges, RotationGauges, Unserved};

const FACTORY: &str = "fleet/factory";
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const NOTHING: Change =
    Change { permits: None, wake_devices: false, wake_waiting: false, ask_another: false };

/// A registry at one moment. Where nothing else is named, the integration is `FACTORY`.
struct Situation {
    registry: Registry,
    fleet: Fleet,
    factory: Sym,
    now: Instant,
    /// The last resourceVersion of the API server.
    version: u64,
}

impl Situation {
    fn new() -> Self {
        // Another test may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = Config {
            watch_namespaces: Vec::new(),
            registrations_per_minute: 2,
            max_in_flight: 10,
            allowed_dps_hosts: AllowedHosts::parse(["*.azure-devices-provisioning.net"]).unwrap(),
            allowed_hub_suffixes: Arc::new([]),
            dps_proxy: None,
            secret_metadata_prefixes: Vec::new(),
            events: EventsLevel::default(),
            http_addr: None,
            lease: None,
        };
        let registry = Registry::new(Arc::new(config), Arc::new(Unobserved));
        let mut fleet = Fleet::default();
        let factory = fleet.names.intern(FACTORY);
        Self { registry, fleet, factory, now: Instant::now(), version: 10 }
    }

    /// It is declared, and its keys have been read.
    fn usable(spec: Value) -> Self {
        let mut situation = Self::new();
        situation.declare(spec);
        situation.show_keys(keys(1, 2));
        situation
    }

    /// The same, and DPS has accepted its key.
    fn accepted(spec: Value) -> Self {
        let mut situation = Self::usable(spec);
        situation.accept();
        situation
    }

    /// DPS has refused the primary key and accepted the secondary one, and the status says so.
    fn fallen_back() -> Self {
        let mut situation = Self::usable(both_keys(Primary));
        situation.refuse_three();
        situation.accept();
        situation.write();
        situation
    }

    /// The watch shows a new version of the object, with the status that is known.
    fn observe(&mut self, mut object: DpsIntegration) -> Change {
        self.version += 1;
        let key = format!("{}/{}", object.namespace().unwrap(), object.name_any());
        let sym = self.fleet.names.intern(&key);
        object.metadata.resource_version = Some(self.version.to_string());
        object.status = object.status.or_else(|| self.registry.object(sym)?.status.clone());
        let change = self.registry.observed(sym, object, self.now);
        self.registry.refer_to(&self.registry.references());
        change
    }

    fn declare(&mut self, spec: Value) -> Change {
        self.observe(object(FACTORY, spec))
    }

    fn annotate(&mut self, key: &str, value: &str) -> Change {
        let mut object = self.object();
        object.annotations_mut().insert(key.to_owned(), value.to_owned());
        self.observe(object)
    }

    fn delete(&mut self) -> Change {
        let change = self.registry.gone(self.factory, self.now);
        self.registry.refer_to(&self.registry.references());
        change
    }

    /// The watch shows something that integrations refer to.
    fn show(&mut self, reference: &Reference, referred: Referred) -> Change {
        let users = self.registry.referred_observed(reference, referred);
        users.into_iter().fold(NOTHING, |_, sym| self.registry.evaluate(sym, self.now))
    }

    fn show_keys(&mut self, keys: Referred) -> Change {
        self.show(&secret("keys"), keys)
    }

    /// A CA bundle is referred to, and read.
    fn refer_to_bundle(&mut self, pem: &str) -> Change {
        self.declare(with_bundle());
        self.show(&config_map("ca"), present(&[("ca.crt", pem)]))
    }

    /// DPS answers a call that a device has made for the present target.
    fn answer(&mut self, device: DeviceId, error: Option<&DpsError>) -> Change {
        let answered = EndedCall { device, revision: self.target().revision, error, throttled: false };
        self.registry.answered(self.factory, answered, self.now)
    }

    fn accept(&mut self) -> Change {
        self.answer(1, None)
    }

    fn refuse(&mut self, device: DeviceId) -> Change {
        self.answer(device, Some(&DpsError::Unauthorized(Detail::default())))
    }

    /// Returns what follows from the third refusal.
    fn refuse_three(&mut self) -> Change {
        self.refuse(1);
        self.refuse(2);
        self.refuse(3)
    }

    fn report(&mut self) -> Option<Report> {
        self.registry.report(self.factory, None, true, wall(self.now))
    }

    fn written(&mut self, result: Result<u64, ApiError>) {
        self.registry.written(self.factory, result, self.now);
    }

    /// The status that should be written is written.
    fn write(&mut self) -> DpsIntegrationStatus {
        let report = self.report().unwrap();
        self.version += 1;
        self.written(Ok(self.version));
        report.status
    }

    fn is_due(&self) -> bool {
        self.registry.due(self.now).contains(&self.factory)
    }

    /// Counters are taken as soon as they may be.
    fn count(&mut self) {
        self.registry.recount(self.now);
        self.now = self.registry.next_report(true).unwrap();
        assert!(self.registry.count_if_due(&self.fleet, self.now));
    }

    /// A device has this status.
    fn device(&mut self, key: &str, integration: &str, status: Value) {
        self.version += 1;
        let (namespace, name) = key.split_once('/').unwrap();
        let (its_namespace, its_name) = integration.split_once('/').unwrap();
        let uid = "00000000-0000-0000-0000-000000000001";
        let device = json!({
            "metadata": {
                "name": name, "namespace": namespace, "uid": uid, "generation": 1,
                "resourceVersion": self.version.to_string(),
            },
            "spec": {
                "integrationRef": {"namespace": its_namespace, "name": its_name},
                "driftCheck": {"interval": "10m"},
            },
            "status": status,
        });
        self.fleet.upsert(&serde_json::from_value(device).unwrap(), Some(1));
    }

    fn object(&self) -> DpsIntegration {
        DpsIntegration::clone(self.registry.object(self.factory).unwrap())
    }

    fn target(&self) -> &Target {
        self.registry.target(self.factory).unwrap()
    }

    /// What is wrong, and since when devices cannot be registered.
    fn trouble(&self) -> (Option<Reason>, Option<Instant>) {
        let trouble = self.registry.integrations[&self.factory].health.trouble();
        (trouble.map(|trouble| trouble.reason), self.registry.unusable_since(self.factory))
    }

    fn serves(&mut self, namespace: &str) -> bool {
        let namespace = self.fleet.names.intern(namespace);
        self.registry.serves(self.factory, namespace, &self.fleet.names)
    }
}

fn wall(mono: Instant) -> Now {
    Now { wall: Timestamp::UNIX_EPOCH, mono }
}

/// An integration that names its primary key only; `spec` is added.
fn object(key: &str, spec: Value) -> DpsIntegration {
    let (namespace, name) = key.split_once('/').unwrap();
    let attestation = json!({"symmetricKey": {"primaryKeyRef": {"name": "keys"}}});
    serde_json::from_value(json!({
        "apiVersion": "dps-operator.io/v1alpha1", "kind": "DpsIntegration",
        "metadata": {"name": name, "namespace": namespace, "generation": 1},
        "spec": and(json!({"idScope": "0ne1", "attestation": attestation}), spec),
    }))
    .unwrap()
}

/// One object with the members of another.
fn and(mut one: Value, other: Value) -> Value {
    one.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
    one
}

fn both_keys(active: KeySlot) -> Value {
    let reference = json!({"name": "keys"});
    json!({"attestation": {"symmetricKey": {
        "primaryKeyRef": reference, "secondaryKeyRef": reference, "active": active,
    }}})
}

fn with_bundle() -> Value {
    json!({"caBundleRef": {"name": "ca"}})
}

fn with_foreign_prefix() -> Value {
    json!({"allowedNamespaces": {"registrationIdPrefixes": ["a-"]}})
}

fn with_payload() -> Value {
    json!({"deviceDefaults": {"payload": {"a": 1}}})
}

fn for_tenant_a() -> Value {
    json!({"allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"tenant": "a"}}}})
}

fn key(filler: u8) -> String {
    STANDARD.encode([filler; 32])
}

fn key_id(filler: u8) -> CredentialId {
    GroupKey::parse(key(filler).as_bytes()).unwrap().id()
}

fn present(data: &[(&str, &str)]) -> Referred {
    let wiped = |(key, text): &(&str, &str)| ((*key).to_owned(), Zeroizing::new(text.as_bytes().to_vec()));
    Referred::Present { data: data.iter().map(wiped).collect(), generated: false }
}

fn keys(primary: u8, secondary: u8) -> Referred {
    present(&[("primaryKey", &key(primary)), ("secondaryKey", &key(secondary))])
}

fn certificate() -> String {
    CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

fn secret(name: &str) -> Reference {
    Reference { kind: ReferredKind::Secret, namespace: "fleet".to_owned(), name: name.to_owned() }
}

fn config_map(name: &str) -> Reference {
    Reference { kind: ReferredKind::ConfigMap, ..secret(name) }
}

/// Status of a device.
fn ready(status: &str, reason: &str) -> Value {
    let since = "2026-01-01T00:00:00Z";
    let condition = json!({"type": "Ready", "status": status, "reason": reason, "message": "", "lastTransitionTime": since});
    json!({"observedGeneration": 1, "conditions": [condition]})
}

/// Status of a device that needs nothing but a check every ten minutes.
fn settled() -> Value {
    let more = json!({"assignedHub": "hub-a", "secret": {"name": "a-hub", "resourceVersion": "5"}});
    and(ready("True", "Provisioned"), more)
}

fn admitted(gate: Gate) -> Change {
    let (scope, limits) = (IdScope::parse("0ne1").unwrap(), Limits::default());
    let permits = Some(PermitChange::Admit { scope, gate, limits: Some(limits) });
    Change { permits, wake_devices: true, ..NOTHING }
}

/// Another credential is in use, within the limits as they were.
fn swapped(gate: Gate) -> Change {
    let scope = IdScope::parse("0ne1").unwrap();
    Change { permits: Some(PermitChange::Admit { scope, gate, limits: None }), ..admitted(gate) }
}

fn dismissed() -> Change {
    Change { permits: Some(PermitChange::Dismiss), wake_devices: true, ..NOTHING }
}

fn gated(gate: Gate) -> Change {
    Change { permits: Some(PermitChange::Gate(gate)), ..NOTHING }
}

fn closed_until(at: Instant) -> Gate {
    Gate { not_before: Some(at), ..Gate::NEWCOMER }
}

/// Why an integration is Ready or not.
fn reason(status: &DpsIntegrationStatus) -> Option<Reason> {
    reason_of(&status.conditions, ConditionType::Ready)
}

// From what is declared to a target.

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
        ("second key", |s| s.declare(both_keys(Primary)), Both),
        ("host", |s| s.declare(json!({"hostname": "a.azure-devices-provisioning.net"})), Acceptance),
        ("CA bundle", |s| s.refer_to_bundle(&certificate()), Acceptance),
        ("key", |s| s.show_keys(keys(3, 2)), Neither),
        ("slot", |s| s.declare(both_keys(Secondary)), Neither),
        ("id scope", |s| s.declare(json!({"idScope": "0ne2"})), Neither),
    ];
    for (what, make, kept) in changes {
        let mut situation = Situation::accepted(json!({}));
        let before = situation.registry.usable(situation.factory).unwrap().clone();

        let change = make(&mut situation);

        let after = situation.registry.usable(situation.factory).unwrap();
        let scope = after.target.instance.scope.clone();
        let gate = if kept == Neither { Gate::NEWCOMER } else { Gate::OPEN };
        let permits = Some(PermitChange::Admit { scope, gate, limits: Some(Limits::default()) });
        assert_eq!(change, Change { permits, ..admitted(gate) }, "{what}");
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

    assert_eq!(changes, [dismissed(), NOTHING]);
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

// What DPS answers.

#[test]
fn a_newcomer_that_is_refused_three_times_waits_for_a_minute() {
    let mut situation = Situation::usable(json!({}));
    let first_at = situation.now;

    let changes = [1, 2, 3].map(|device| {
        situation.now += SECOND;
        situation.refuse(device)
    });

    let first = Change { wake_waiting: true, ..gated(Gate::NEWCOMER) };
    assert_eq!(changes, [first, gated(Gate::NEWCOMER), gated(closed_until(situation.now + MINUTE))]);
    assert_eq!(situation.trouble(), (Some(Reason::Unauthorized), Some(first_at + SECOND)));
}

#[test]
fn acceptance_opens_the_gate_and_wakes_devices_that_wait_if_there_was_trouble() {
    for refused_before in [false, true] {
        let mut situation = Situation::usable(json!({}));
        if refused_before {
            situation.refuse(2);
        }
        situation.write();

        let change = situation.accept();

        assert_eq!(change, Change { wake_waiting: refused_before, ..gated(Gate::OPEN) });
        assert_eq!(situation.trouble(), (None, None));
        assert!(situation.is_due());
        assert_eq!(situation.write().accepted_id_scope.as_deref(), Some("0ne1"));
    }
}

#[test]
fn an_answer_to_a_call_for_an_earlier_target_changes_nothing() {
    let mut situation = Situation::usable(json!({}));
    let (factory, revision) = (situation.factory, situation.target().revision);
    situation.show_keys(keys(3, 2));
    let answered = EndedCall { device: 1, revision, error: None, throttled: false };

    let change = situation.registry.answered(factory, answered, situation.now);

    assert_eq!((change, situation.registry.accepted_scope(situation.factory)), (NOTHING, None));
    assert!(!situation.registry.is_present(factory, revision));
    assert!(situation.registry.is_present(factory, situation.target().revision));
}

#[test]
fn an_instance_that_cannot_be_reached_is_called_after_growing_waits() {
    let mut situation = Situation::accepted(json!({}));
    for wait in [5, 10, 20] {
        let again_at = situation.now + SECOND * wait;

        let change = situation.answer(1, Some(&DpsError::Unreachable(Unreachable::Connect)));

        let gate = Gate { one_at_a_time: true, own_budget: false, not_before: Some(again_at) };
        assert_eq!(change, Change { wake_waiting: wait == 5, ..gated(gate) });
        assert_eq!(situation.trouble().0, Some(Reason::EndpointUnreachable));
        situation.now = again_at;
    }
    assert_eq!(situation.accept(), Change { wake_waiting: true, ..gated(Gate::OPEN) });
}

#[test]
fn throttling_is_over_with_the_first_acceptance_after_its_pause() {
    let mut situation = Situation::accepted(json!({}));
    let error = DpsError::Throttled { retry_after: None, detail: Detail::default() };
    let late = EndedCall { device: 1, revision: 1, error: None, throttled: true };
    let news = || Change { wake_waiting: true, ..gated(Gate::OPEN) };

    assert_eq!(situation.answer(1, Some(&error)), news());
    assert_eq!(situation.registry.answered(situation.factory, late, situation.now), gated(Gate::OPEN));
    assert_eq!(situation.trouble().0, Some(Reason::Throttled));
    assert_eq!(situation.accept(), news());
}

#[test]
fn another_device_is_asked_about_an_accepted_key_that_is_refused() {
    let mut situation = Situation::accepted(json!({}));

    let change = situation.refuse(1);

    assert_eq!(change, Change { ask_another: true, ..gated(Gate::NEWCOMER) });
    assert_eq!(situation.trouble(), (None, None));
}

// Which of two keys is used.

#[test]
fn three_refusals_bring_the_other_key_into_use_as_a_newcomer() {
    let mut situation = Situation::usable(both_keys(Primary));

    let change = situation.refuse_three();

    assert_eq!(change, swapped(Gate::NEWCOMER));
    assert_eq!((situation.target().credentials.in_use(), situation.target().revision), (key_id(2), 2));
    assert!(situation.registry.gauges()[0].fallen_back);
    situation.accept();
    let status = situation.write();
    assert_eq!(reason(&status), Some(Reason::Available));
    assert_eq!(status.credentials.unwrap().in_use, Some(Secondary));
}

#[test]
fn another_key_that_dps_has_accepted_before_is_used_without_trouble() {
    let mut situation = Situation::accepted(both_keys(Secondary));
    situation.write();
    situation.declare(both_keys(Primary));

    let change = situation.refuse_three();

    assert_eq!(change, swapped(Gate::OPEN));
    assert_eq!(situation.target().credentials.in_use(), key_id(2));
    assert_eq!(situation.trouble(), (None, None));
}

#[test]
fn if_both_keys_are_refused_the_one_that_was_asked_for_stays_in_use_behind_a_closed_gate() {
    let mut situation = Situation::usable(both_keys(Primary));
    situation.refuse_three();

    let both_refused = situation.refuse_three();
    let closed = closed_until(situation.now + MINUTE);
    situation.now += MINUTE;
    let refused_again = situation.refuse(1);

    assert_eq!(both_refused, Change { wake_devices: true, ..gated(closed) });
    assert_eq!(refused_again, gated(closed_until(situation.now + MINUTE * 2)));
    assert_eq!((situation.target().credentials.in_use(), situation.target().revision), (key_id(1), 3));
    assert!(!situation.registry.gauges()[0].fallen_back);
}

#[test]
fn the_other_key_stays_in_use_until_one_of_the_keys_changes() {
    let mut situation = Situation::fallen_back();
    situation.show_keys(Referred::Missing);

    let same_keys =
        [situation.show_keys(keys(1, 2)), situation.declare(and(both_keys(Primary), with_payload()))];

    assert_eq!(same_keys, [admitted(Gate::OPEN), admitted(Gate::OPEN)]);
    assert_eq!(situation.target().credentials.in_use(), key_id(2));

    let mended = situation.show_keys(keys(3, 2));

    assert_eq!((mended, situation.target().credentials.in_use()), (admitted(Gate::NEWCOMER), key_id(3)));
}

// What the status says after a start.

#[test]
fn a_recorded_fallback_is_used_after_a_start_without_a_call() {
    let mut situation = Situation::new();
    situation.observe(Situation::fallen_back().object());

    let change = situation.show_keys(keys(1, 2));

    assert_eq!(change, admitted(Gate::OPEN));
    assert_eq!(situation.target().credentials.in_use(), key_id(2));
    assert!(situation.target().as_recorded && situation.registry.gauges()[0].fallen_back);
}

#[test]
fn a_start_between_a_fallback_and_the_first_answer_to_the_other_key_does_not_blame_that_key() {
    let mut before = Situation::usable(both_keys(Primary));
    before.refuse_three();
    let status = before.write();
    assert_eq!(
        (reason(&status), status.credentials.unwrap().in_use),
        (Some(Reason::Unauthorized), Some(Secondary))
    );
    let mut situation = Situation::new();
    situation.observe(before.object());

    let change = situation.show_keys(keys(1, 2));

    assert_eq!(change, admitted(Gate::NEWCOMER));
    assert_eq!(situation.target().credentials.in_use(), key_id(2));
    assert_eq!(situation.trouble(), (Some(Reason::Unauthorized), Some(situation.now)));
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

        let gate = if stands { closed_until(situation.now + MINUTE) } else { Gate::NEWCOMER };
        assert_eq!(change, admitted(gate), "generation {generation}, key {primary}");
        let trouble = (stands.then_some(Reason::Unauthorized), stands.then_some(situation.now));
        assert_eq!(situation.trouble(), trouble);
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

// Which devices are served.

#[test]
fn devices_of_other_namespaces_are_served_if_they_are_admitted() {
    for (from, serves_other) in [("Same", false), ("All", true)] {
        let mut situation = Situation::usable(json!({}));

        let change = situation.declare(json!({"allowedNamespaces": {"from": from}}));

        assert_eq!(change, Change { wake_devices: serves_other, ..NOTHING });
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

// What is watched for them.

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

// What is reported.

#[test]
fn a_status_is_written_once_and_not_again_while_it_says_the_same() {
    let mut situation = Situation::usable(json!({}));

    let report = situation.report().unwrap();
    let was_writing = situation.registry.is_writing();
    situation.written(Ok(11_000));

    assert_eq!((reason(&report.status), was_writing), (Some(Reason::Available), true));
    assert!(!situation.registry.is_writing() && !situation.is_due());
    assert_eq!(situation.object().metadata.resource_version.as_deref(), Some("11000"));
    situation.version = 11_000;
    situation.declare(json!({}));
    assert!(situation.is_due() && situation.report().is_none());
}

#[test]
fn what_changes_during_a_write_is_reported_after_it_and_is_worth_one_event() {
    let mut situation = Situation::usable(json!({}));
    situation.report().unwrap();

    situation.refuse(1);

    assert!(!situation.is_due());
    situation.written(Ok(11_000));
    assert!(situation.is_due());
    let report = situation.report().unwrap();
    let events: Vec<_> = report.notes.iter().map(|note| note.reason.as_str()).collect();
    assert_eq!((reason(&report.status), events), (Some(Reason::Unauthorized), vec!["Unauthorized"]));
    situation.written(Ok(11_001));
    situation.refuse(2);
    assert!(!situation.is_due());
}

#[test]
fn a_status_that_met_a_conflict_is_written_after_ten_seconds_or_with_the_next_object() {
    for error in [ApiError::Conflict, ApiError::NotFound] {
        let mut situation = Situation::usable(json!({}));
        let refused = situation.report().unwrap();
        let again_at = situation.now + SECOND * 10;

        situation.written(Err(error.clone()));

        assert_eq!((situation.is_due(), situation.registry.next_report(false)), (false, Some(again_at)));
        situation.now = again_at;
        assert!(situation.is_due() && situation.report().unwrap().status == refused.status);
        situation.written(Err(error));
        situation.declare(json!({}));
        assert!(situation.is_due());
    }
}

#[test]
fn a_status_that_the_api_server_did_not_take_is_written_after_growing_waits() {
    let mut situation = Situation::usable(json!({}));
    let fail = |situation: &mut Situation| {
        situation.report().unwrap();
        situation.written(Err(ApiError::Unavailable));
        let again_at = situation.registry.next_report(false).unwrap();
        let wait = again_at - situation.now;
        situation.now = again_at;
        wait.as_secs()
    };

    let waits = [(), (), ()].map(|()| fail(&mut situation));

    assert!(matches!(waits, [5..=6, 10..=12, 20..=25]), "{waits:?}");
    situation.write();
    situation.refuse(1);
    assert!(matches!(fail(&mut situation), 5..=6), "a success ends the row");
}

#[test]
fn counters_are_taken_a_second_after_a_change_and_at_most_every_ten_seconds() {
    let mut situation = Situation::usable(json!({}));
    let start = situation.now;
    let mut counted_at = |milliseconds| {
        let at = start + Duration::from_millis(milliseconds);
        situation.registry.count_if_due(&situation.fleet, at)
    };

    assert!(!counted_at(999) && counted_at(1000), "becoming usable is a change");
    assert!(!counted_at(60_000), "nothing has changed");
    situation.registry.recount(start + SECOND * 2);
    situation.registry.recount(start + SECOND * 9);
    assert_eq!(situation.registry.next_report(false), None, "not every watch has been read");
    assert_eq!(situation.registry.next_report(true), Some(start + SECOND * 11));
}

#[test]
fn counters_stay_as_written_while_not_every_watch_has_been_read() {
    let mut situation = Situation::usable(json!({}));
    situation.device("fleet/a", FACTORY, settled());
    situation.count();
    situation.write();
    situation.device("fleet/b", FACTORY, settled());
    situation.count();

    let report = situation.registry.report(situation.factory, Some(MINUTE), false, wall(situation.now));

    let status = report.unwrap().status;
    assert_eq!(status.devices.unwrap().total, 1);
    assert_eq!(status.throttled_until.unwrap().0, Timestamp::from_second(60).unwrap());
}

#[test]
fn counters_stay_as_written_until_they_are_taken_for_the_present_target() {
    let mut situation = Situation::usable(json!({}));
    situation.device("fleet/a", FACTORY, settled());
    situation.count();
    situation.write();

    situation.annotate(REPROVISION_REQUESTED_AT, "1");

    assert!(situation.report().is_none(), "what was counted says nothing of this token");
    situation.count();
    assert!(situation.report().is_none(), "the device has not served it");
    situation.device("fleet/a", FACTORY, and(settled(), json!({"lastHandledIntegrationToken": "1"})));
    situation.count();
    assert_eq!(situation.write().last_handled_reprovision_token.as_deref(), Some("1"));
}

#[test]
fn checks_that_come_to_more_than_the_rate_of_the_scope_or_the_share_are_reported() {
    let share = json!({"rateLimit": {"registrationsPerMinute": 1}});
    let other_scope = json!({"idScope": "0ne2"});
    let none = json!({});
    for (own, other, other_devices, exceeded) in [
        (&none, &none, 0, None),
        (&share, &none, 0, Some("1 calls")),
        (&none, &none, 11, Some("2 calls")),
        (&none, &other_scope, 11, None),
        (&none, &share, 8, None),
    ] {
        let mut situation = Situation::usable(own.clone());
        situation.observe(object("fleet/other", other.clone()));
        situation.show_keys(keys(1, 2));
        for (integration, devices) in [(FACTORY, 11), ("fleet/other", other_devices)] {
            let names = (0..devices).map(|number| format!("{integration}-{number}"));
            names.for_each(|name| situation.device(&name, integration, settled()));
        }

        situation.count();

        let conditions = situation.write().conditions;
        let found = find(&conditions, ConditionType::QuotaInsufficient);
        let says = |rate| found.is_some_and(|found| found.message.contains(rate));
        assert!(exceeded.map_or(found.is_none(), says), "{own} {other}: {found:?}");
    }
}

#[test]
fn gauges_show_what_was_counted_and_reported() {
    let mut situation = Situation::usable(json!({}));
    let credential = json!({"type": "SymmetricKey", "fingerprint": key_id(9).to_string()});
    situation.device("fleet/a", FACTORY, and(settled(), json!({"credential": credential})));
    situation.device("fleet/b", FACTORY, ready("False", "Disabled"));

    situation.count();
    situation.write();

    let expected = IntegrationGauges {
        namespace: "fleet".to_owned(),
        name: "factory".to_owned(),
        ready: true,
        reason: "Available".to_owned(),
        devices: [("ready", 1), ("pending", 1), ("failed", 0), ("suspended", 0)],
        assigned: 1,
        hubs: vec![("hub-a".to_owned(), 1)],
        failures: vec![("Disabled".to_owned(), 1)],
        fallen_back: false,
        rotation: Some(RotationGauges { total: 1, pending: 1, blocked: false }),
    };
    assert_eq!(situation.registry.gauges(), [expected]);
}

#[test]
fn devices_without_an_integration_are_counted_by_their_namespace() {
    let mut situation = Situation::usable(json!({}));
    situation.device("plant/a", FACTORY, json!({}));
    situation.device("fleet/a", FACTORY, json!({}));
    situation.device("plant/b", FACTORY, json!({}));
    situation.device("fleet/b", "fleet/missing", json!({}));

    situation.count();

    let unserved = |namespace: &str, devices| Unserved { namespace: namespace.to_owned(), devices };
    assert_eq!(situation.registry.unserved(), [unserved("fleet", 1), unserved("plant", 2)]);
}
