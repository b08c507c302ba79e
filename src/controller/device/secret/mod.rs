//! The generated Secret: what it should hold (here), whether one that is there is ours (`judge`), and
//! what can be read back from it (`read_back`). Pure.

mod judge;
mod read_back;

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;
use zeroize::Zeroizing;

pub use self::judge::Judgement;
pub use self::read_back::read_back;

use self::read_back::AssignmentAnnotation;
use super::facts::Registered;
use super::settings::Settings;
use crate::api::device::ProvisionedDevice;
use crate::api::names;
use crate::dps::key::DeviceKey;
use crate::fleet::hash::Hash;
use crate::fleet::record;

/// What a Secret should hold. Bytes are wiped when dropped.
pub struct Desired {
    pub name: String,
    pub namespace: String,
    pub rendered: Hash,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    data: BTreeMap<String, Zeroizing<Vec<u8>>>,
    /// `None` with deletionPolicy Retain.
    owner: Option<OwnerReference>,
    device_uid: String,
    device_name: String,
}

/// Hash of settings and assignment, never of rendered bytes.
pub fn rendered_hash(device: &ProvisionedDevice, settings: &Settings<'_>, registered: &Registered) -> Hash {
    let owned = |map: &BTreeMap<&str, &str>| json!(map);
    let keys = &settings.keys;
    let value = json!([
        settings.secret_name,
        settings.retain,
        owned(&settings.labels),
        owned(&settings.annotations),
        [
            keys.connection_string,
            keys.iot_hub_hostname,
            keys.device_id,
            keys.shared_access_key,
            keys.registration_id,
            keys.id_scope,
            keys.returned_payload
        ],
        settings.gateway_hostname,
        record::integration_key(device),
        registered.scope,
        registered.registration_id,
        registered.hub,
        registered.device_id,
        registered.fingerprint.map(|fingerprint| fingerprint.to_string()),
        registered.returned_payload.as_ref().map(|payload| payload.hash.shown()),
    ]);
    Hash::of("rendered", [value.to_string().as_bytes()])
}

/// What the Secret of a device should have been rendered from, by its own status; `None` if it is
/// not registered or its settings are not valid.
pub fn expected_hash(device: &ProvisionedDevice) -> Option<Hash> {
    let registered = super::facts::Facts::from_status(device.status.as_ref()?, 0, 0).registered?;
    Some(rendered_hash(device, &Settings::of(device).ok()?, &registered))
}

/// Renders the Secret.
pub fn render(
    device: &ProvisionedDevice,
    settings: &Settings<'_>,
    registered: &Registered,
    key: &DeviceKey,
) -> Desired {
    let meta = &device.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let namespace = meta.namespace.clone().unwrap_or_default();
    let rendered = rendered_hash(device, settings, registered);
    let data = data(settings, registered, key);
    let uid = meta.uid.clone().unwrap_or_default();
    Desired {
        labels: labels(device, settings),
        annotations: annotations(device, settings, registered, rendered, &data),
        data,
        owner: (!settings.retain).then(|| OwnerReference {
            api_version: names::API_VERSION.to_owned(),
            kind: names::DEVICE_KIND.to_owned(),
            name: name.clone(),
            uid: uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(false),
        }),
        name: settings.secret_name.clone(),
        namespace,
        rendered,
        device_uid: uid,
        device_name: name,
    }
}

fn data(
    settings: &Settings<'_>,
    registered: &Registered,
    key: &DeviceKey,
) -> BTreeMap<String, Zeroizing<Vec<u8>>> {
    let gateway =
        settings.gateway_hostname.map(|host| format!(";GatewayHostName={host}")).unwrap_or_default();
    // Hub, device id and key are validated: none can contain the ';' that separates the parts.
    let connection_string = Zeroizing::new(format!(
        "HostName={};DeviceId={};SharedAccessKey={}{gateway}",
        registered.hub,
        registered.device_id,
        key.reveal()
    ));
    let returned = registered.returned_payload.as_ref().and_then(|payload| payload.json.as_deref());
    let keys = &settings.keys;
    [
        (keys.connection_string, Some(connection_string.as_str())),
        (keys.iot_hub_hostname, Some(registered.hub.as_str())),
        (keys.device_id, Some(registered.device_id.as_str())),
        (keys.shared_access_key, Some(key.reveal())),
        (keys.registration_id, Some(registered.registration_id.as_str())),
        (keys.id_scope, Some(registered.scope.as_str())),
        (keys.returned_payload, returned),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name?.to_owned(), Zeroizing::new(value?.as_bytes().to_vec()))))
    .collect()
}

fn labels(device: &ProvisionedDevice, settings: &Settings<'_>) -> BTreeMap<String, String> {
    let mut labels = owned(&settings.labels);
    labels.insert(names::MANAGED_BY_LABEL.to_owned(), names::MANAGED_BY.to_owned());
    let named = [
        (names::DEVICE, device.metadata.name.as_deref().unwrap_or_default()),
        (names::INTEGRATION, device.spec.integration_ref.name.as_str()),
    ];
    // A label holds 63 characters; the annotations hold the whole names.
    labels
        .extend(named.iter().filter(|(_, v)| v.len() <= 63).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    labels
}

fn annotations(
    device: &ProvisionedDevice,
    settings: &Settings<'_>,
    registered: &Registered,
    rendered: Hash,
    data: &BTreeMap<String, Zeroizing<Vec<u8>>>,
) -> BTreeMap<String, String> {
    let assignment = AssignmentAnnotation::new(registered, settings);
    let mut annotations = owned(&settings.annotations);
    let ours = [
        (names::DEVICE, Some(device_key(device))),
        (names::INTEGRATION, Some(record::integration_key(device))),
        (names::REGISTRATION, Some(registration_key(registered))),
        (names::REGISTERED_HASH, registered.hash.map(Hash::shown)),
        (names::RENDERED_HASH, Some(rendered.shown())),
        (names::CREDENTIAL_FINGERPRINT, registered.fingerprint.map(|fingerprint| fingerprint.to_string())),
        (names::MANAGED_KEYS, Some(data.keys().map(String::as_str).collect::<Vec<_>>().join(","))),
        (names::ASSIGNMENT, serde_json::to_string(&assignment).ok()),
    ];
    annotations.extend(ours.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    annotations
}

fn owned(map: &BTreeMap<&str, &str>) -> BTreeMap<String, String> {
    map.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn device_key(device: &ProvisionedDevice) -> String {
    let meta = &device.metadata;
    format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

fn registration_key(registered: &Registered) -> String {
    format!("{}/{}", registered.scope, registered.registration_id)
}

impl Desired {
    /// The object to create.
    pub fn object(&self) -> Secret {
        Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                labels: Some(self.labels.clone()),
                annotations: Some(self.annotations.clone()),
                owner_references: self.owner.clone().map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            data: Some(self.data.iter().map(|(k, v)| (k.clone(), ByteString(v.to_vec()))).collect()),
            ..Secret::default()
        }
    }
}

fn annotation<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    secret.metadata.annotations.as_ref().and_then(|map| map.get(key)).map(String::as_str)
}

fn label<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    secret.metadata.labels.as_ref().and_then(|map| map.get(key)).map(String::as_str)
}
