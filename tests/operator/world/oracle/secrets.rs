//! What is published is whole, and only what is ours is written.

use std::collections::HashSet;

use dps_simulator::OperationKind;
use serde_json::Value;

use super::managed::{is_operators, is_touched};
use super::story::{Breach, Story, named};
use crate::world::Kind;
use crate::world::certificates;
use crate::world::keys::{OWN_KEYS, device_keys, fingerprint};
use crate::world::objects::data;

const PREFIX: &str = "dps-operator.io/";
const HUBS: &str = ".azure-devices.net";

fn annotation<'a>(secret: &'a Value, name: &str) -> Option<&'a str> {
    secret["metadata"]["annotations"][format!("{PREFIX}{name}")].as_str()
}

/// Every state of a Secret that the operator has written, and others have left as it was, is one complete
/// set of credentials: hub, device id and key belong together, in every form in which they stand there.
pub fn are_whole(story: &Story) -> Vec<Breach> {
    let steps = story.steps(Kind::Secret).into_iter();
    steps.flat_map(|(before, secret)| is_whole(secret, before.is_none())).collect()
}

fn is_whole(secret: &Value, is_new: bool) -> Vec<Breach> {
    let (Some(managed), Some(registration)) =
        (annotation(secret, "managed-keys"), annotation(secret, "registration"))
    else {
        return Vec::new();
    };
    let keys: Vec<&str> = managed.split(',').filter(|key| !key.is_empty()).collect();
    if !is_as_written(secret, &keys) {
        return Vec::new();
    }
    let breach = |what: String| Breach::new("credentials are whole", format!("{}: {what}", named(secret)));
    let values = data(secret);
    let assignment: Value =
        serde_json::from_str(annotation(secret, "assignment").unwrap_or_default()).unwrap_or_default();
    let id = registration.split_once('/').map_or(registration, |(_, id)| id);
    let mut breaches = Vec::new();
    // Later others may have taken it out, of which nothing is recorded.
    if let Some(key) = keys.iter().find(|key| is_new && !values.contains_key(**key)) {
        breaches.push(breach(format!("{key} is missing")));
    }
    let of_its_own = assignment["keySecret"].is_string();
    let says = |key: &str| {
        of_its_own == OWN_KEYS.contains(&key)
            && Some(fingerprint(key).as_str()) == annotation(secret, "credential-fingerprint")
    };
    let (made, foreign): (Vec<_>, Vec<_>) = device_keys(id).partition(|(key, _)| says(key));
    let text: String = values.values().map(|value| format!("{value}\n")).collect();
    if foreign.iter().any(|(_, device)| text.contains(device)) {
        breaches.push(breach("a key that was made from another one than it says".to_owned()));
    }
    let facts = [
        ("iotHubHostname", assignment["hub"].as_str().map(str::to_owned)),
        ("deviceId", assignment["deviceId"].as_str().map(str::to_owned)),
        ("registrationId", Some(id.to_owned())),
        ("sharedAccessKey", made.first().map(|(_, device)| device.clone())),
    ];
    breaches.extend(certificate(secret, &keys, &assignment).into_iter().map(&breach));
    for (key, expected) in &facts {
        let wrong = |found: &String| keys.contains(key) && expected.as_ref().is_some_and(|it| it != found);
        if values.get(*key).is_some_and(wrong) {
            breaches.push(breach(format!("{key} is not what was assigned")));
        }
    }
    let hub = assignment["hub"].as_str().unwrap_or_default();
    for other in hosts(&text).filter(|host| *host != hub) {
        breaches.push(breach(format!("it names {other} beside {hub}")));
    }
    breaches
}

/// What is wrong with the certificate in a Secret that has one: it is the one that the Secret names, its key is
/// beside it, and no other kind of credential. One that DPS has issued stands beside what the device registers with.
fn certificate(secret: &Value, keys: &[&str], assignment: &Value) -> Option<String> {
    let values = data(secret);
    let (pem, key) = (values.get("tls.crt")?, values.get("tls.key")?);
    if !keys.contains(&"tls.crt") || !keys.contains(&"tls.key") {
        return None;
    }
    let issued = assignment["issued"]["fingerprint"].as_str();
    let says = issued.or_else(|| annotation(secret, "credential-fingerprint"));
    if Some(certificates::fingerprint(pem).as_str()) != says {
        return Some("another certificate than it says".to_owned());
    }
    if !certificates::belong_together(pem, key) {
        return Some("a key that is not its certificate's".to_owned());
    }
    let is_said = values.get("connectionString").is_none_or(|text| text.contains(";x509=true"));
    (!is_said || keys.contains(&"sharedAccessKey")).then(|| "a certificate beside a key".to_owned())
}

/// A hub lets a device in with the certificate that it was registered with, or that DPS has issued to it, and with no other:
/// none is in a Secret of which DPS has not said so before.
pub fn are_registered(story: &Story) -> Vec<Breach> {
    let accepted: HashSet<(&str, &str)> = story
        .ledger
        .iter()
        .filter(|entry| entry.key.is_some() && entry.operation == OperationKind::Register)
        .filter_map(|entry| {
            let presented = entry.certificate.as_ref().map(|presented| &presented.leaf.thumbprint);
            let thumbprint = if entry.csr { entry.issued.as_ref() } else { presented };
            Some((entry.registration_id.as_deref()?, thumbprint?.as_str()))
        })
        .collect();
    let steps = story.steps(Kind::Secret).into_iter().map(|(_, secret)| secret);
    let unknown = steps.filter(|secret| {
        let values = data(secret);
        let managed = annotation(secret, "managed-keys").unwrap_or_default();
        let is_ours = managed.split(',').any(|key| key == "tls.crt") && is_as_written(secret, &["tls.crt"]);
        let registration = annotation(secret, "registration").unwrap_or_default();
        let id = registration.split_once('/').map_or(registration, |(_, id)| id);
        is_ours
            && values.get("tls.crt").is_some_and(|pem| {
                let thumbprint = certificates::certificate(pem).thumbprint();
                !accepted.contains(&(id, thumbprint.as_str()))
            })
    });
    unknown
        .map(|secret| Breach::new("a certificate is registered before it is published", named(secret)))
        .collect()
}

/// Nothing of it is anybody else's.
fn is_as_written(secret: &Value, keys: &[&str]) -> bool {
    let annotations = ["managed-keys", "registration", "assignment", "credential-fingerprint"];
    let annotations = annotations
        .iter()
        .all(|name| is_operators(secret, &["metadata", "annotations", &format!("{PREFIX}{name}")]));
    annotations
        && keys.iter().all(|key| secret["data"][key].is_null() || is_operators(secret, &["data", key]))
}

/// Names of hubs in a text.
fn hosts(text: &str) -> impl Iterator<Item = &str> {
    let part = |c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '.');
    text.split(part).filter(|word| word.ends_with(HUBS))
}

/// The operator begins to write no Secret that does not carry its marks then.
pub fn are_ours(story: &Story) -> Vec<Breach> {
    let steps = story.steps(Kind::Secret).into_iter();
    let begun = steps.filter(|(before, secret)| is_touched(secret) && !before.is_some_and(is_touched));
    let foreign = begun.filter(|(_, secret)| !has_a_mark(secret));
    foreign.map(|(_, secret)| Breach::new("only its own Secrets", named(secret))).collect()
}

/// Others may have taken some of them.
fn has_a_mark(secret: &Value) -> bool {
    let metadata = &secret["metadata"];
    let names = |key: &str| metadata[key].as_object().into_iter().flat_map(|map| map.keys());
    let mut owners = metadata["ownerReferences"].as_array().into_iter().flatten();
    names("labels").chain(names("annotations")).any(|name| name.starts_with(PREFIX))
        || metadata["labels"]["app.kubernetes.io/managed-by"] == "dps-operator"
        || owners.any(|owner| owner["kind"] == "ProvisionedDevice")
}
