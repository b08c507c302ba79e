//! What the targets have in common: an integration, a device and its registration that are always the
//! same, and the ways in which an input is taken apart.

use std::fmt::Debug;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::api::attestation::KeySlot;
use crate::api::device::{AssignmentStatus, ProvisionedDevice};
use crate::api::references::Referred;
use crate::controller::device::decide::registered_hash;
use crate::controller::device::facts::{Registered, ReturnedPayload, ServedRequests};
use crate::controller::device::secret::{Desired, Material, render};
use crate::controller::device::settings::Settings;
use crate::controller::integration::credentials::Credentials;
use crate::controller::integration::target::{Instance, Target, Terms};
use crate::controller::integration::unusable::Unusable;
use crate::dps::attestation::DeviceCredential;
use crate::dps::host::AllowedHosts;
use crate::dps::ids::IdScope;
use crate::dps::tls::TlsSettings;
use crate::fleet::inherit::Inherited;

pub(super) const ID: &str = "truck-1";
pub(super) const SCOPE: &str = "0ne1";
pub(super) const HUB: &str = "hub-a.azure-devices.net";
/// Longest host name.
pub(super) const HUB_MAX: usize = 253;
pub(super) const DPS_HOST: &str = "dps.example:8443";
/// Under which a hub may be; the second is one that an operator of another cloud would name.
pub(super) const SUFFIXES: [&str; 2] = [".azure-devices.net", ".azure-devices.example"];

pub(super) fn suffixes() -> Vec<String> {
    SUFFIXES.map(str::to_owned).to_vec()
}

/// What is written down here is always valid.
pub(super) fn valid<T, E: Debug>(made: Result<T, E>) -> T {
    match made {
        Ok(made) => made,
        Err(error) => unreachable!("{error:?}"),
    }
}

/// The integration's credentials, if the text that stands in its Secret is a key.
pub(super) fn credentials(key: &[u8]) -> Result<Credentials, Unusable> {
    let data = [("one".to_owned(), Zeroizing::new(key.to_vec()))].into_iter().collect();
    let secret = Referred::Present { data, generated: false, version: "1".to_owned() };
    let attestation = json!({"symmetricKey": {"primaryKeyRef": {"name": "keys", "key": "one"}}});
    Credentials::resolve(&valid(serde_json::from_value(attestation)), |_| &secret)
}

/// An integration that can be used.
pub(super) fn target() -> Target {
    Target {
        terms: Terms {
            instance: Instance {
                scope: valid(IdScope::parse(SCOPE)),
                endpoint: valid(valid(AllowedHosts::parse([DPS_HOST])).check(DPS_HOST)),
                tls: TlsSettings::default(),
            },
            credentials: valid(credentials(STANDARD.encode([1; 32]).as_bytes())),
            prefixes: Vec::new(),
            namespace: "fleet".to_owned(),
            foreign_prefixes: Vec::new(),
            defaults: None,
            inherited: Arc::new(Inherited::new(None, "dps.example", None)),
            token: None,
            cert_manager: None,
            issued: None,
            suspended: false,
        },
        revision: 1,
        as_recorded: true,
    }
}

/// A device with this spec beside its integration.
pub(super) fn device(mut spec: Value) -> ProvisionedDevice {
    spec["integrationRef"] = json!({"name": "factory"});
    valid(serde_json::from_value(json!({
        "apiVersion": "dps-operator.io/v1alpha1",
        "kind": "ProvisionedDevice",
        "metadata": {
            "name": ID, "namespace": "fleet", "generation": 1, "resourceVersion": "5",
            "uid": "b1dafdfd-d634-4bfe-9061-804d9ded6ce8",
        },
        "spec": spec,
    })))
}

/// The device as it was registered with the integration's key, at the hub and with the payload that
/// custom allocation returned.
pub(super) fn registered(
    device: &ProvisionedDevice,
    target: &Target,
    hub: &str,
    payload: Option<&Value>,
) -> Registered {
    let settings = valid(Settings::of(device, None));
    Registered {
        scope: target.scope().to_owned(),
        registration_id: settings.registration_id.to_string(),
        hub: hub.to_owned(),
        device_id: settings.registration_id.to_string(),
        assignment: AssignmentStatus { status: Some("assigned".to_owned()), ..AssignmentStatus::default() },
        enrollment_group: Some("fleet".to_owned()),
        credential: Some(target.credentials.in_use()),
        slot: Some(KeySlot::Primary),
        key_secret: None,
        certificate: None,
        issued: None,
        hash: Some(registered_hash(&settings, target)),
        returned_payload: payload.and_then(Value::as_object).map(ReturnedPayload::new),
        time: Some(Timestamp::UNIX_EPOCH),
    }
}

/// The Secret that the operator writes for it, with the key that the device has, or with another one.
pub(super) fn secret(
    device: &ProvisionedDevice,
    registered: &Registered,
    target: &Target,
    credential: Option<&DeviceCredential>,
) -> Desired {
    let settings = valid(Settings::of(device, None));
    let own = target.credentials.for_device(&settings.registration_id);
    let own = valid(own.ok_or("no key is shared"));
    let credential = credential.unwrap_or(&own);
    let served = ServedRequests::default();
    render(device, &settings, registered, &Material { target, credential, served: &served })
}

/// The first lines of an input, and what comes behind them. Lines that are missing are empty; a line
/// that is no UTF-8 is `None` for all.
pub(super) fn lines<const N: usize>(data: &[u8]) -> Option<([&str; N], &[u8])> {
    let mut parts = data.splitn(N + 1, |byte| *byte == b'\n');
    let mut lines = [""; N];
    for line in &mut lines {
        *line = str::from_utf8(parts.next().unwrap_or_default()).ok()?;
    }
    Some((lines, parts.next().unwrap_or_default()))
}

/// A hub that may be assigned, by a reading of its own.
pub(super) fn is_allowed_hub(text: &str) -> bool {
    let lower = text.bytes().all(|b| !b.is_ascii_uppercase());
    let host = |suffix: &&str| text.len() > suffix.len() && text.ends_with(*suffix);
    lower && is_plain_host(text) && SUFFIXES.iter().any(host)
}

/// A host name with a domain, by a reading of its own.
pub(super) fn is_plain_host(text: &str) -> bool {
    let label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        inner && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').count() >= 2 && text.split('.').all(label)
}

/// A host name as admission takes it for a gateway: of one label or more.
pub(super) fn is_gateway(text: &str) -> bool {
    let has_domain = text.contains('.');
    if has_domain { is_plain_host(text) } else { is_plain_host(&format!("{text}.a")) }
}
