//! What is left of a device, its Secret, and what is named after it, when everything is taken out that may
//! differ from device to device and from run to run.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::world::certificates::{certificate, fingerprint};
use crate::world::keys::made_from;
use crate::world::objects::{data, text};
use crate::world::{HUBS, Kind, World};

const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Times, versions and ids.
const VARIABLE: [&str; 13] = [
    "uid",
    "resourceVersion",
    "secretResourceVersion",
    "creationTimestamp",
    "managedFields",
    "lastTransitionTime",
    "lastRegistrationTime",
    "createdTime",
    "lastUpdatedTime",
    "time",
    "etag",
    // A registration that is made once more finds the device where the first one has put it.
    "substatus",
    // Compared as values.
    "data",
];

/// A certificate that DPS has issued is another one each time.
const ISSUED: [&str; 2] = ["issuedCertificate", "issued"];

/// The second one of two devices.
pub fn twin_of(device: &str) -> String {
    format!("{device}-twin")
}

/// Fails where a Secret contradicts itself.
pub async fn snapshot(world: &World, device: &str) -> Value {
    let object = world.find(Kind::Device, device).await.unwrap_or_default();
    let twin_name = twin_of(device);
    let twin = world.find(Kind::Device, &twin_name).await.unwrap_or_default();
    let integration = world.find(Kind::Integration, device).await;
    let mut secrets = Vec::new();
    for secret in world.list(Kind::Secret).await {
        if is_named_after(&secret, device) && secret["metadata"]["labels"][MANAGED_BY] == "dps-operator" {
            let of = if is_named_after(&secret, &twin_name) { &twin } else { &object };
            secrets.push(json!({"object": secret, "content": content(world, of, &secret)}));
        }
    }
    let own = [("CERTIFICATE", &object), ("TWIN'S CERTIFICATE", &twin)];
    let own = own.map(|(name, object)| (name, certificate_of(object)));
    let all = json!({"device": object, "twin": twin, "integration": integration, "secrets": secrets});
    let all = general(all, device);
    let named = own.iter().fold(all.to_string(), |text, (name, fingerprint)| match fingerprint {
        Some(fingerprint) => text.replace(fingerprint, name),
        None => text,
    });
    serde_json::from_str(&named).expect("it is JSON")
}

/// Each device has a certificate of its own: its fingerprint.
fn certificate_of(device: &Value) -> Option<String> {
    let credential = &device["status"]["credential"];
    let fingerprint = credential["fingerprint"].as_str().filter(|_| credential["type"] == "X509");
    fingerprint.map(str::to_owned)
}

fn is_named_after(object: &Value, device: &str) -> bool {
    text(&object["metadata"]["name"]).strip_prefix(device).is_some_and(|rest| rest.starts_with('-'))
}

/// What is in the Secret, as far as devices can be compared.
fn content(world: &World, device: &Value, secret: &Value) -> Value {
    let values = data(secret);
    let usual = ["registrationId", "connectionString", "iotHubHostname", "deviceId"];
    let has = |key: &str| values.contains_key(key);
    if !usual.into_iter().all(has) || !(has("sharedAccessKey") || has("tls.crt")) {
        return json!("under other names");
    }
    let is = |key: &str, field: &str| device["status"][field] == json!(values.get(key));
    let id = text(&secret["metadata"]["annotations"]["dps-operator.io/registration"]);
    let (scope, id) = id.split_once('/').expect("id scope and registration id");
    let (key, accepted) = match values.get("tls.crt") {
        Some(pem) => ("a certificate", world.dps.accepts_device_certificate(scope, id, &certificate(pem))),
        None => (made_from(secret), world.dps.accepts_device_key(scope, id, &values["sharedAccessKey"])),
    };
    let issued = device["status"]["issuedCertificate"]["fingerprint"].as_str();
    let is_issued = issued.map(|issued| values.get("tls.crt").is_some_and(|pem| fingerprint(pem) == issued));
    json!({
        "key": key,
        "accepted": accepted,
        "issued": is_issued,
        "hub": is("iotHubHostname", "assignedHub"),
        "deviceId": is("deviceId", "deviceId"),
        "names": values.into_keys().collect::<Vec<_>>(),
    })
}

/// Without what varies, and with the same words for what is named after the device.
fn general(value: Value, device: &str) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(key, _)| !VARIABLE.contains(&key.as_str()))
            .map(|(key, value)| match ISSUED.contains(&key.as_str()) && value.is_object() {
                true => (key, json!("one")),
                false => (key, general(value, device)),
            })
            .collect(),
        Value::Array(list) => list.into_iter().map(|value| general(value, device)).collect(),
        Value::String(text) if text.starts_with("v1:") => json!("v1:…"),
        // An annotation may be JSON.
        Value::String(text) if text.starts_with('{') => {
            general(serde_json::from_str(&text).unwrap_or_default(), device)
        }
        Value::String(text) => {
            let text = HUBS.iter().fold(text, |text, hub| text.replace(hub, "HUB"));
            json!(text.replace(device, "DEVICE"))
        }
        other => other,
    }
}

/// Where two of them differ, and how.
pub fn differences(left: &Value, right: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(left, right, "", &mut found);
    found
}

fn compare(left: &Value, right: &Value, path: &str, found: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            for key in keys {
                let of = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                compare(&of(left), &of(right), &format!("{path}.{key}"), found);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                compare(left, right, &format!("{path}[{index}]"), found);
            }
        }
        _ if left == right => {}
        _ => found.push(format!("{path}: {left} instead of {right}")),
    }
}
