//! The generated Secret: what it should hold, whether one that is there is ours, and what can be
//! read back from it. Pure.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::facts::{Registered, ReturnedPayload};
use super::settings::Settings;
use crate::api::device::{AssignmentStatus, ProvisionedDevice};
use crate::api::integration::KeySlot;
use crate::api::names;
use crate::dps::key::{DeviceKey, Fingerprint};
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

/// Everything about the assignment that status needs and nothing secret.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct AssignmentAnnotation {
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
}

/// How a Secret that is there relates to the one that should be.
#[derive(Debug, PartialEq)]
pub enum Judgement {
    /// Nothing to do.
    Equal,
    /// Ours; this strategic merge patch makes it what it should be.
    Patch(Value),
    /// Not ours, and never touched. The text says what to do.
    Foreign(&'static str),
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
    let assignment = AssignmentAnnotation {
        hub: registered.hub.clone(),
        device_id: registered.device_id.clone(),
        assignment: registered.assignment.clone(),
        enrollment_group: registered.enrollment_group.clone(),
        slot: registered.slot,
        time: registered.time,
    };
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

    /// Compares with the Secret that is there.
    pub fn judge(&self, existing: &Secret) -> Judgement {
        if let Some(why) = self.foreign(existing) {
            return Judgement::Foreign(why);
        }
        let changes = self.changes(existing);
        if changes.as_object().is_none_or(Map::is_empty) {
            return Judgement::Equal;
        }
        if existing.immutable == Some(true) && changes.get("data").is_some() {
            return Judgement::Foreign(
                "A Secret of this name is immutable. Delete it and it is written anew.",
            );
        }
        let mut patch = changes;
        patch["metadata"]["uid"] = json!(existing.metadata.uid);
        patch["metadata"]["resourceVersion"] = json!(existing.metadata.resource_version);
        Judgement::Patch(patch)
    }

    /// Why the Secret is not ours; `None` if it is.
    fn foreign(&self, existing: &Secret) -> Option<&'static str> {
        let meta = &existing.metadata;
        if existing.type_.as_deref().is_some_and(|kind| kind != "Opaque") {
            return Some(
                "A Secret of this name and of another type exists. Rename it, or set another spec.secret.name.",
            );
        }
        let controller = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        if controller.is_some_and(|owner| !self.is_device(owner)) {
            return Some(
                "A Secret of this name is controlled by another object. Set another spec.secret.name.",
            );
        }
        if annotation(existing, names::ADOPT) == Some("true") {
            return None;
        }
        let owned_by_us = controller.is_some_and(|owner| owner.uid == self.device_uid);
        let labelled = label(existing, names::MANAGED_BY_LABEL) == Some(names::MANAGED_BY);
        let same = |key| annotation(existing, key) == self.annotations.get(key).map(String::as_str);
        let ours = same(names::DEVICE) && (owned_by_us || (labelled && same(names::REGISTRATION)));
        (!ours).then_some(
            "A Secret of this name exists and was not written for this device. Delete it, set another \
             spec.secret.name, or let the operator take it over with annotation dps-operator.io/adopt: \"true\".",
        )
    }

    /// The device itself, or an earlier object of the same name: names are unique, so any other uid
    /// under it is extinct.
    fn is_device(&self, owner: &OwnerReference) -> bool {
        owner.kind == names::DEVICE_KIND
            && owner.name == self.device_name
            && owner.api_version.split('/').next() == Some(names::GROUP)
    }

    fn changes(&self, existing: &Secret) -> Value {
        let mut patch = Map::new();
        let mut metadata = Map::new();
        let differing = |wanted: &BTreeMap<String, String>,
                         there: Option<&BTreeMap<String, String>>|
         -> Map<String, Value> {
            let there = |key| there.and_then(|map| map.get(key));
            wanted.iter().filter(|(k, v)| there(*k) != Some(*v)).map(|(k, v)| (k.clone(), json!(v))).collect()
        };
        let labels = differing(&self.labels, existing.metadata.labels.as_ref());
        let annotations = differing(&self.annotations, existing.metadata.annotations.as_ref());
        let owners = self.owner_changes(existing);
        let data = self.data_changes(existing);
        for (key, map) in [("labels", labels), ("annotations", annotations)] {
            if !map.is_empty() {
                metadata.insert(key.to_owned(), Value::Object(map));
            }
        }
        if !owners.is_empty() {
            metadata.insert("ownerReferences".to_owned(), Value::Array(owners));
        }
        if !metadata.is_empty() {
            patch.insert("metadata".to_owned(), Value::Object(metadata));
        }
        if !data.is_empty() {
            patch.insert("data".to_owned(), Value::Object(data));
        }
        Value::Object(patch)
    }

    /// Our reference added or removed, extinct ones of the same device removed, all others kept.
    fn owner_changes(&self, existing: &Secret) -> Vec<Value> {
        let there: Vec<_> =
            existing.metadata.owner_references.iter().flatten().filter(|o| self.is_device(o)).collect();
        let keep = |owner: &OwnerReference| self.owner.as_ref().is_some_and(|own| own.uid == owner.uid);
        let mut changes: Vec<Value> = there
            .iter()
            .filter(|owner| !keep(owner))
            .map(|owner| json!({"$patch": "delete", "uid": owner.uid}))
            .collect();
        let present = there.iter().any(|owner| Some(*owner) == self.owner.as_ref());
        if let Some(owner) = self.owner.as_ref().filter(|_| !present) {
            changes.push(json!(owner));
        }
        changes
    }

    fn data_changes(&self, existing: &Secret) -> Map<String, Value> {
        let empty = BTreeMap::new();
        let there = existing.data.as_ref().unwrap_or(&empty);
        let mut changes: Map<String, Value> = self
            .data
            .iter()
            .filter(|(key, value)| there.get(*key).is_none_or(|have| have.0 != ***value))
            .map(|(key, value)| (key.clone(), json!(ByteString(value.to_vec()))))
            .collect();
        let managed = annotation(existing, names::MANAGED_KEYS).unwrap_or_default();
        let stale =
            managed.split(',').filter(|key| there.contains_key(*key) && !self.data.contains_key(*key));
        changes.extend(stale.map(|key| (key.to_owned(), Value::Null)));
        changes
    }
}

fn annotation<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    secret.metadata.annotations.as_ref().and_then(|map| map.get(key)).map(String::as_str)
}

fn label<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    secret.metadata.labels.as_ref().and_then(|map| map.get(key)).map(String::as_str)
}

/// What a Secret written for this device and registration tells about the registration; `None` if
/// it was written for another, or has been tampered with beyond reading.
pub fn read_back(
    secret: &Secret,
    device: &ProvisionedDevice,
    scope: &str,
    registration_id: &str,
) -> Option<Registered> {
    let ours = label(secret, names::MANAGED_BY_LABEL) == Some(names::MANAGED_BY)
        && annotation(secret, names::DEVICE) == Some(device_key(device).as_str())
        && annotation(secret, names::REGISTRATION) == Some(format!("{scope}/{registration_id}").as_str());
    if !ours {
        return None;
    }
    let assignment: AssignmentAnnotation =
        serde_json::from_str(annotation(secret, names::ASSIGNMENT)?).ok()?;
    // Data keys may have been renamed; the payload is looked for under the device's own name for it.
    let key = Settings::of(device).ok()?.keys.returned_payload.map(str::to_owned);
    let returned = key.and_then(|key| secret.data.as_ref()?.get(&key)).map(|bytes| bytes.0.as_slice());
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
    registered.plausible()
}
