//! Tables for everything that is decided about a device.

mod certificates;
mod decisions;
mod displaced;
mod effective;
mod facts;
mod first_secret;
mod formats;
mod issued;
mod open_registrations;
mod own;
mod revived;
mod secrets;
mod statuses;
mod triggers;
mod vouching;

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::decide::{
    Contested, Decision, Delay, IdStanding, IntegrationState, SecretState, Snapshot, decide, registered_hash,
};
use super::facts::{Facts, FailedWork, NewFailure, Registered, ServedRequests, WrittenSecret};
use super::secret::rendered_hash;
use super::settings::Settings;
use crate::api::attestation::KeySlot;
use crate::api::conditions::Reason;
use crate::api::device::{AssignmentStatus, ProvisionedDevice};
use crate::api::references::Referred;
use crate::clock::Now;
use crate::controller::integration::credentials::Credentials;
use crate::controller::integration::issuers::Place;
use crate::controller::integration::target::{Instance, Target, Terms};
use crate::dps::attestation::DeviceCredential;
use crate::dps::attestation::certificate::{DeviceCertificate, TlsFiles};
use crate::dps::host::AllowedHosts;
use crate::dps::ids::{IdScope, RegistrationId};
use crate::dps::tls::TlsSettings;
use crate::fleet::SecretSeen;
use crate::fleet::inherit::Inherited;

static NOW: LazyLock<Now> = LazyLock::new(|| Now { wall: Timestamp::UNIX_EPOCH, mono: Instant::now() });
const SECRET_VERSION: u64 = 7;

fn failure(work: FailedWork, reason: Reason) -> NewFailure {
    NewFailure {
        work,
        reason,
        message: "m".to_owned(),
        error: None,
        at_least: None,
        generation: 1,
        revision: 1,
        token: None,
        reconcile_at: None,
    }
}

/// The integration's keys: the one in use, made of this byte, and perhaps another one.
fn keys(in_use: u8, other: Option<u8>) -> Credentials {
    use base64::Engine as _;
    let text = |filler: u8| base64::engine::general_purpose::STANDARD.encode([filler; 32]).into_bytes();
    let entry = |name: &str, filler| (name.to_owned(), Zeroizing::new(text(filler)));
    let data = [Some(entry("one", in_use)), other.map(|filler| entry("two", filler))];
    let version = String::new();
    let secret = Referred::Present { data: data.into_iter().flatten().collect(), generated: false, version };
    let mut symmetric_key = json!({"primaryKeyRef": {"name": "keys", "key": "one"}});
    if other.is_some() {
        symmetric_key["secondaryKeyRef"] = json!({"name": "keys", "key": "two"});
    }
    let attestation = serde_json::from_value(json!({"symmetricKey": symmetric_key})).unwrap();
    Credentials::resolve(&attestation, |_| &secret).unwrap()
}

fn target() -> Target {
    Target {
        terms: Terms {
            instance: Instance {
                scope: IdScope::parse("0ne1").unwrap(),
                endpoint: AllowedHosts::parse(["x.example"]).unwrap().check("x.example").unwrap(),
                tls: TlsSettings::default(),
            },
            credentials: keys(1, None),
            prefixes: Vec::new(),
            namespace: "fleet".to_owned(),
            foreign_prefixes: Vec::new(),
            defaults: None,
            inherited: Arc::new(Inherited::new(None, "x.example", None)),
            token: None,
            cert_manager: None,
            issued: None,
            suspended: false,
        },
        revision: 1,
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

/// A certificate of the device with this registration id, for a hundred years.
fn certificate(id: &str) -> DeviceCredential {
    let device = dps_dev::pki::Identity::own(id).unwrap();
    let files = TlsFiles {
        certificates: device.pem.clone().into_bytes(),
        key: Zeroizing::new(device.key_pem().into_bytes()),
        authority: None,
    };
    let id = RegistrationId::parse(id).unwrap();
    Arc::new(DeviceCertificate::read(files, &id).unwrap()).credential()
}

/// A device as it stands after a registration with the active key.
fn registered(device: &ProvisionedDevice, target: &Target) -> Registered {
    let settings = Settings::of(device, target.defaults.as_deref()).unwrap();
    Registered {
        scope: target.scope().to_owned(),
        registration_id: settings.registration_id.to_string(),
        hub: "hub-a.azure-devices.net".to_owned(),
        device_id: settings.registration_id.to_string(),
        assignment: AssignmentStatus { status: Some("assigned".to_owned()), ..AssignmentStatus::default() },
        enrollment_group: Some("fleet".to_owned()),
        credential: Some(target.credentials.in_use()),
        slot: Some(KeySlot::Primary),
        key_secret: None,
        certificate: None,
        issued: None,
        hash: Some(registered_hash(&settings, target)),
        returned_payload: None,
        time: Some(NOW.wall),
    }
}

/// Registered, and the Secret written.
fn provisioned(device: &ProvisionedDevice, target: &Target) -> Facts {
    let registered = registered(device, target);
    let rendered = rendered_hash(device, &registered, &target.inherited);
    Facts {
        secret: Some(WrittenSecret {
            name: "truck-1-hub".to_owned(),
            version: SECRET_VERSION,
            rendered: Some(rendered),
            record: registered.record(&ServedRequests::default()),
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
    target: Target,
    secret: SecretState,
    standing: IdStanding,
    status_is_ours: bool,
    contested: Option<Contested>,
    delay: Delay,
    retry_at: Option<Instant>,
    ca: Place<'static>,
    metadata_prefixes: Vec<String>,
    has_permit: bool,
}

/// As the watch shows a Secret, with nothing read.
fn secret(seen: SecretSeen) -> SecretState {
    SecretState { seen, read: false, watch_is_complete: true, holds_key: false }
}

impl Situation {
    fn new_device() -> Self {
        Self {
            device: device(json!({})),
            facts: Facts::default(),
            target: target(),
            secret: secret(SecretSeen::No),
            standing: IdStanding::Free,
            status_is_ours: true,
            contested: None,
            delay: Delay::None,
            retry_at: None,
            ca: Place::Open,
            metadata_prefixes: Vec::new(),
            has_permit: false,
        }
    }

    fn settled_device() -> Self {
        let new = Self::new_device();
        let facts = provisioned(&new.device, &new.target);
        let secret = SecretState { read: true, ..secret(SecretSeen::Version(SECRET_VERSION)) };
        Self { facts, secret, ..new }
    }

    fn decide(&self) -> Decision {
        self.decide_with(IntegrationState::Usable(&self.target))
    }

    fn decide_with(&self, integration: IntegrationState<'_>) -> Decision {
        decide(&Snapshot {
            device: &self.device,
            facts: &self.facts,
            integration,
            secret: self.secret,
            standing: self.standing,
            status_is_ours: self.status_is_ours,
            contested: self.contested,
            delay: self.delay,
            retry_at: self.retry_at,
            ca: self.ca,
            metadata_prefixes: &self.metadata_prefixes,
            has_permit: self.has_permit,
            now: NOW.mono,
            wall: NOW.wall,
        })
    }
}
