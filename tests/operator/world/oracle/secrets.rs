//! What is published is whole, and only what is ours is written.

use serde_json::Value;

use super::managed::{is_operators, is_touched};
use super::story::{Breach, Story, named};
use crate::world::Kind;
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
