//! What a Secret tells about the registration it was written for.

use k8s_openapi::api::core::v1::Secret;
use serde::{Deserialize, Serialize};

use super::{annotation, device_key, label, rendered_hash};
use crate::api::attestation::KeySlot;
use crate::api::device::{AssignmentStatus, ProvisionedDevice};
use crate::api::names;
use crate::api::version;
use crate::controller::device::facts::{Registered, ReturnedPayload, SecretTells, WrittenSecret};
use crate::controller::device::settings::{RETURNED_PAYLOAD, Settings};
use crate::controller::integration::Ready;
use crate::dps::key::Fingerprint;
use crate::fleet::hash::Hash;

/// Everything about the assignment that status needs and nothing secret.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AssignmentAnnotation {
    hub: String,
    device_id: String,
    #[serde(flatten)]
    assignment: AssignmentStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    enrollment_group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<KeySlot>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<jiff::Timestamp>,
    /// Data key of the returned payload, unless it is the standard one.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_key: Option<String>,
}

impl AssignmentAnnotation {
    pub(super) fn new(registered: &Registered, settings: &Settings<'_>) -> Self {
        Self {
            hub: registered.hub.clone(),
            device_id: registered.device_id.clone(),
            assignment: registered.assignment.clone(),
            enrollment_group: registered.enrollment_group.clone(),
            slot: registered.slot,
            time: registered.time,
            payload_key: settings
                .keys
                .returned_payload
                .filter(|key| *key != RETURNED_PAYLOAD)
                .map(str::to_owned),
        }
    }
}

/// What a Secret written for this device and registration tells about the registration; `None` if
/// it was written for another, or has been tampered with beyond reading.
pub fn read_back(secret: &Secret, device: &ProvisionedDevice, ready: &Ready) -> Option<SecretTells> {
    let scope = ready.scope.as_str();
    let name = device.metadata.name.as_deref();
    let registration_id = device.spec.registration_id.as_deref().or(name)?;
    let ours = label(secret, names::MANAGED_BY_LABEL) == Some(names::MANAGED_BY)
        && annotation(secret, names::DEVICE) == Some(device_key(device).as_str())
        && annotation(secret, names::REGISTRATION) == Some(format!("{scope}/{registration_id}").as_str());
    if !ours {
        return None;
    }
    let assignment: AssignmentAnnotation =
        serde_json::from_str(annotation(secret, names::ASSIGNMENT)?).ok()?;
    // The device may name the key otherwise by now.
    let key = assignment.payload_key.as_deref().unwrap_or(RETURNED_PAYLOAD);
    let returned = secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    let returned_payload = returned.and_then(|json| serde_json::from_slice(json).ok());
    let registered = Registered {
        scope: scope.to_owned(),
        registration_id: registration_id.to_owned(),
        hub: assignment.hub,
        device_id: assignment.device_id,
        assignment: assignment.assignment,
        enrollment_group: assignment.enrollment_group,
        slot: assignment.slot,
        fingerprint: annotation(secret, names::CREDENTIAL_FINGERPRINT).and_then(Fingerprint::parse),
        hash: annotation(secret, names::REGISTERED_HASH).and_then(Hash::parse),
        returned_payload: returned_payload.as_ref().map(ReturnedPayload::new),
        time: assignment.time,
    };
    let registered = registered.plausible()?;
    let secret = complete(secret, device, &registered, ready);
    Some(SecretTells { registered, secret })
}

/// The Secret as we wrote it, if it was rendered from this registration with the present settings
/// and a key that is at hand.
fn complete(
    secret: &Secret,
    device: &ProvisionedDevice,
    registered: &Registered,
    ready: &Ready,
) -> Option<WrittenSecret> {
    let rendered = rendered_hash(device, registered, &ready.inherited);
    ready.key(registered.fingerprint?)?;
    (annotation(secret, names::RENDERED_HASH) == Some(rendered.shown().as_str())).then(|| WrittenSecret {
        name: secret.metadata.name.clone().unwrap_or_default(),
        version: version::of(&secret.metadata),
        rendered: Some(rendered),
        binding: secret.data.as_ref().is_some_and(|data| data.contains_key("provider")),
    })
}
