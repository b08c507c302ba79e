//! Integrations from their declaration to their end: what is known of them, and what should follow.

mod after_a_start;
mod answers;
mod declared;
mod reported;
mod served;
mod slots;
mod strays;
mod watched;
mod writers;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Change, EndedCall, PermitChange, Registry, Report};
use crate::api::attestation::KeySlot::{self, Primary};
use crate::api::conditions::{ConditionType, Reason, reason_of};
use crate::api::digest::Digest;
use crate::api::integration::{DpsIntegration, DpsIntegrationStatus};
use crate::api::references::{Reference, Referred, ReferredKind};
use crate::clock::Now;
use crate::config::{Config, EventsLevel};
use crate::controller::integration::health::Canary;
use crate::controller::integration::target::Target;
use crate::controller::integration::tests::keys::{key, key_id, present};
use crate::dps::error::{DpsError, Refusal};
use crate::dps::host::AllowedHosts;
use crate::dps::ids::IdScope;
use crate::dps::observe::Unobserved;
use crate::fleet::hash::Hash;
use crate::fleet::intern::Sym;
use crate::fleet::uid::Uid;
use crate::fleet::{DeviceId, Fleet};
use crate::kube_io::error::ApiError;
use crate::kube_io::write::Stored;
use crate::schedule::permits::{Gate, Group, Limits};

const FACTORY: &str = "fleet/factory";
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const NOTHING: Change = Change {
    permits: None,
    wake_devices: false,
    claims: false,
    wake_waiting: false,
    before: None,
    ask_another: false,
    recall_pause: None,
    retry: false,
    try_next: Vec::new(),
    ca_accepted: false,
};

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
            cert_manager: true,
            events: EventsLevel::default(),
            http_addr: None,
            probe_addr: None,
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
        situation.refuse(2);
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
        self.registry.observed(sym, object, self.now)
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
        self.registry.gone(self.factory, self.now)
    }

    /// The watch shows something that integrations refer to.
    fn show(&mut self, reference: &Reference, referred: Referred) -> Change {
        let users = self.registry.referred_observed(reference, referred);
        users.into_iter().fold(NOTHING, |_, sym| self.registry.evaluate(sym, self.now))
    }

    fn show_keys(&mut self, keys: Referred) -> Change {
        self.show(&secret("keys"), keys)
    }

    /// Another key of the Secret is named, so it is read once more.
    fn name_both_keys(&mut self, active: KeySlot) -> Change {
        assert_eq!(self.declare(both_keys(active)), NOTHING);
        self.show_keys(keys(1, 2))
    }

    /// A CA bundle is referred to, and read.
    fn refer_to_bundle(&mut self, pem: &str) -> Change {
        self.declare(with_bundle());
        self.show(&config_map("ca"), present(&[("ca.crt", pem)]))
    }

    /// DPS answers a call that a device has made for the present target.
    fn answer(&mut self, device: DeviceId, error: Option<&DpsError>) -> Change {
        let issuer = self.registry.for_call(self.factory, false, self.now).unwrap();
        let issuer = issuer.target.credentials.in_use();
        let device = canary(device);
        let answered = EndedCall {
            device,
            revision: self.target().revision,
            issuer,
            ca: None,
            error,
            throttled: false,
            newcomers: false,
        };
        self.registry.answered(self.factory, answered, self.now)
    }

    fn accept(&mut self) -> Change {
        self.answer(1, None)
    }

    fn refuse(&mut self, device: DeviceId) -> Change {
        let called = self.registry.for_call(self.factory, false, self.now).unwrap();
        let refusal = Refusal::of(called.target.credentials.in_use());
        self.answer(device, Some(&DpsError::Unauthorized(refusal)))
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

    /// The write has ended; what was stored is what was sent.
    fn written(&mut self, result: Result<u64, ApiError>) {
        let sent = self.registry.object(self.factory).and_then(|object| Digest::of(object.status.as_ref()?));
        let stored = result.map(|version| Stored { version, status: sent });
        self.registry.written(self.factory, &stored, self.now);
    }

    /// Somebody else writes the status: the watch shows it.
    fn overwrite(&mut self, change: impl FnOnce(&mut DpsIntegrationStatus)) -> Change {
        let mut object = self.object();
        change(object.status.get_or_insert_default());
        self.observe(object)
    }

    /// The status that should be written is written.
    fn write(&mut self) -> DpsIntegrationStatus {
        let report = self.report().unwrap();
        self.version += 1;
        self.written(Ok(self.version));
        report.status
    }

    fn is_due(&mut self) -> bool {
        let due = self.registry.due(self.now);
        // It is only looked at.
        due.iter().for_each(|sym| self.registry.reports.wake(sym.index()));
        due.contains(&self.factory)
    }

    /// When statuses have to be rendered if nothing else happens.
    fn next_report(&mut self, counting: bool) -> Option<Instant> {
        self.is_due();
        self.registry.next_report(counting)
    }

    /// Counters are taken as soon as they may be.
    fn count(&mut self) {
        self.registry.recount(self.now);
        self.now = self.next_report(true).unwrap();
        while !self.registry.count_if_due(&self.fleet, wall(self.now)) {
            self.now = self.next_report(true).unwrap();
        }
    }

    /// A device has this status.
    fn device(&mut self, key: &str, integration: &str, mut status: Value) {
        self.version += 1;
        let (namespace, name) = key.split_once('/').unwrap();
        if status["secret"].is_object() {
            status["secret"]["name"] = json!(format!("{name}-hub"));
        }
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

fn canary(device: DeviceId) -> Canary {
    Canary { device, uid: Uid::parse(&device.to_string()) }
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
    let more = json!({"assignedHub": "hub-a", "secret": {"resourceVersion": "5"}});
    and(ready("True", "Provisioned"), more)
}

/// Newcomers of the namespace `fleet`.
fn group() -> Group {
    Hash::of("namespace", [b"fleet".as_slice()]).number()
}

fn admitted(gate: Gate) -> Change {
    let (scope, limits) = (IdScope::parse("0ne1").unwrap(), Limits::default());
    let permits = Some(PermitChange::Admit { group: group(), scope, gate, limits });
    Change { permits, wake_devices: true, ..NOTHING }
}

/// Another credential is in use, within the limits as they were.
fn swapped(gate: Gate) -> Change {
    Change { permits: Some(PermitChange::Gate(gate)), ..admitted(gate) }
}

fn dismissed() -> Change {
    Change { permits: Some(PermitChange::Dismiss), wake_devices: true, ..NOTHING }
}

fn gated(gate: Gate) -> Change {
    Change { permits: Some(PermitChange::Gate(gate)), ..NOTHING }
}

/// Closed, and open to canaries first.
fn closed_until(at: Instant) -> Gate {
    Gate { shared_not_before: Some(at), others_not_before: Some(at + SECOND * 30), ..Gate::NEWCOMER }
}

/// Open to canaries, and to others only if none of them comes.
fn open_to_canaries(now: Instant) -> Gate {
    Gate { others_not_before: Some(now + SECOND * 30), ..Gate::NEWCOMER }
}

/// Why an integration is Ready or not.
fn reason(status: &DpsIntegrationStatus) -> Option<Reason> {
    reason_of(&status.conditions, ConditionType::Ready)
}
