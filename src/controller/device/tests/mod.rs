//! Tables for everything that is decided about a device.

mod asked;
mod decisions;
mod effective;
mod facts;
mod formats;
mod revived;
mod secrets;
mod statuses;

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::decide::{Decision, Fought, Integration, Snapshot, decide, registered_hash};
use super::facts::{Facts, FailedWork, NewFailure, Registered, WrittenSecret};
use super::secret::rendered_hash;
use super::settings::Settings;
use crate::api::attestation::KeySlot;
use crate::api::conditions::Reason;
use crate::api::device::{AssignmentStatus, ProvisionedDevice};
use crate::controller::integration::{Ready, SlotKey};
use crate::dps::client::DpsClient;
use crate::dps::host::AllowedHosts;
use crate::dps::ids::IdScope;
use crate::dps::key::GroupKey;
use crate::dps::observe::Unobserved;
use crate::fleet::SecretSeen;
use crate::fleet::inherit::Inherited;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const SECRET_VERSION: u64 = 7;

fn failure(work: FailedWork, reason: Reason) -> NewFailure {
    NewFailure {
        work,
        reason,
        message: "m".to_owned(),
        error: None,
        at_least: None,
        generation: 1,
        epoch: 1,
        token: None,
    }
}

fn group_key(filler: u8) -> SlotKey {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode([filler; 32]);
    let key = GroupKey::parse(text.as_bytes()).unwrap();
    SlotKey { slot: KeySlot::Primary, fingerprint: key.fingerprint(), key }
}

fn ready() -> Ready {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let suffixes: Arc<[String]> = Arc::from([".azure-devices.net".to_owned()]);
    Ready {
        scope: IdScope::parse("0ne1").unwrap(),
        endpoint: AllowedHosts::parse(["x.example"]).unwrap().check("x.example").unwrap(),
        client: DpsClient::new(None, None, suffixes, Arc::new(Unobserved)).unwrap(),
        roots: None,
        active: group_key(1),
        other: None,
        prefixes: Vec::new(),
        namespace: "fleet".to_owned(),
        foreign_prefixes: Vec::new(),
        defaults: None,
        inherited: Arc::new(Inherited::new(None, "x.example", None)),
        token: None,
        clock: Arc::default(),
        suspended: false,
        epoch: 1,
        as_recorded: true,
    }
}

fn device(spec: serde_json::Value) -> ProvisionedDevice {
    let mut spec = spec;
    spec["integrationRef"] = json!({"name": "factory"});
    serde_json::from_value(json!({
        "apiVersion": "dps-operator.io/v1alpha1",
        "kind": "ProvisionedDevice",
        "metadata": {
            "name": "truck-1", "namespace": "fleet", "generation": 1, "resourceVersion": "5",
            "uid": "b1dafdfd-d634-4bfe-9061-804d9ded6ce8",
        },
        "spec": spec,
    }))
    .unwrap()
}

/// A device as it stands after a registration with the active key.
fn registered(device: &ProvisionedDevice, ready: &Ready) -> Registered {
    let settings = Settings::of(device, ready.defaults.as_deref()).unwrap();
    Registered {
        scope: ready.scope.to_string(),
        registration_id: settings.registration_id.to_string(),
        hub: "hub-a.azure-devices.net".to_owned(),
        device_id: settings.registration_id.to_string(),
        assignment: AssignmentStatus { status: Some("assigned".to_owned()), ..AssignmentStatus::default() },
        enrollment_group: Some("fleet".to_owned()),
        slot: Some(KeySlot::Primary),
        fingerprint: Some(ready.active.fingerprint),
        hash: Some(registered_hash(&settings, ready)),
        returned_payload: None,
        time: Some(NOW),
    }
}

/// Registered, and the Secret written.
fn provisioned(device: &ProvisionedDevice, ready: &Ready) -> Facts {
    let registered = registered(device, ready);
    let rendered = rendered_hash(device, &registered, &ready.inherited);
    Facts {
        secret: Some(WrittenSecret {
            name: "truck-1-hub".to_owned(),
            version: SECRET_VERSION,
            rendered: Some(rendered),
            binding: false,
        }),
        registered: Some(registered),
        ..Facts::default()
    }
}

/// A situation with everything in order; tests change one thing.
struct Situation {
    device: ProvisionedDevice,
    facts: Facts,
    ready: Ready,
    secret: SecretSeen,
    secret_read: bool,
    must_look: bool,
    duplicate: bool,
    secret_is_key: bool,
    fought_until: Option<Fought>,
    waited_long: bool,
    held_up: bool,
    metadata_prefixes: Vec<String>,
}

impl Situation {
    fn new_device() -> Self {
        Self {
            device: device(json!({})),
            facts: Facts::default(),
            ready: ready(),
            secret: SecretSeen::No,
            secret_read: false,
            must_look: false,
            duplicate: false,
            secret_is_key: false,
            fought_until: None,
            waited_long: false,
            held_up: false,
            metadata_prefixes: Vec::new(),
        }
    }

    fn settled_device() -> Self {
        let new = Self::new_device();
        let facts = provisioned(&new.device, &new.ready);
        Self { facts, secret: SecretSeen::Version(SECRET_VERSION), ..new }
    }

    fn decide(&self) -> Decision {
        self.decide_with(Integration::Ready(&self.ready))
    }

    fn decide_with(&self, integration: Integration<'_>) -> Decision {
        decide(&Snapshot {
            device: &self.device,
            facts: &self.facts,
            integration,
            secret: self.secret,
            secret_read: self.secret_read,
            must_look: self.must_look,
            duplicate: self.duplicate,
            secret_is_key: self.secret_is_key,
            fought_until: self.fought_until,
            waited_long: self.waited_long,
            held_up: self.held_up,
            metadata_prefixes: &self.metadata_prefixes,
            now: NOW,
        })
    }
}
