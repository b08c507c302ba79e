//! What statuses say is true when it is said, and goes forward.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use serde_json::Value;

use super::managed::has_operators_status;
use super::story::{Breach, Story, named};
use crate::world::commands::read;
use crate::world::objects::{condition, uid};
use crate::world::{Kind, condition as of_type};

/// Reasons that the documentation explains.
static REASONS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let text = read("docs/conditions.md");
    text.lines().filter_map(|line| line.strip_prefix("### ")).map(str::to_owned).collect()
});

fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    object["status"]["conditions"].as_array().into_iter().flatten()
}

/// Reasons are documented; `observedGeneration` does not go back; a condition's time changes with its
/// status and only with it.
pub fn go_forward(story: &Story) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for kind in [Kind::Device, Kind::Integration] {
        for (before, now) in story.steps(kind) {
            if !has_operators_status(now) {
                continue;
            }
            for reason in conditions(now).filter_map(|condition| condition["reason"].as_str()) {
                if !REASONS.contains(reason) {
                    breaches.push(Breach::new("reasons are documented", format!("{}: {reason}", named(now))));
                }
            }
            if let Some(before) = before.filter(|before| has_operators_status(before)) {
                breaches.extend(goes_forward(before, now));
            }
        }
    }
    breaches
}

fn goes_forward(before: &Value, now: &Value) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let observed = |object: &Value| object["status"]["observedGeneration"].as_i64();
    if observed(now) < observed(before) {
        breaches.push(Breach::new("observedGeneration goes forward", named(now)));
    }
    for condition in conditions(now) {
        let kind = &condition["type"];
        let Some(former) = conditions(before).find(|former| former["type"] == *kind) else { continue };
        let changed = former["status"] != condition["status"];
        let moved = former["lastTransitionTime"] != condition["lastTransitionTime"];
        // Times are whole seconds: a change within one leaves it as it is.
        if moved && !changed {
            let what = format!("{} of {}", kind, named(now));
            breaches.push(Breach::new("transition times change with the status only", what));
        }
    }
    breaches
}

/// When a device becomes Ready, its Secret is there as the status says.
pub fn ready_means_a_secret(story: &Story) -> Vec<Breach> {
    if story.gaps {
        return Vec::new();
    }
    let secrets: HashMap<(&str, &str), &Value> =
        story.states(Kind::Secret).map(|secret| ((name(secret), version(secret)), secret)).collect();
    let mut breaches = Vec::new();
    for (before, now) in story.steps(Kind::Device) {
        let says = |device: &Value| (condition(device, "Ready"), device["status"]["secret"].clone());
        if !is_judged(now) || before.is_some_and(|before| says(before) == says(now)) {
            continue;
        }
        let status = &now["status"];
        let (of, at) = (status["secret"]["name"].as_str(), status["secret"]["resourceVersion"].as_str());
        let secret = of.zip(at).and_then(|key| secrets.get(&key));
        let breach =
            |what: &str| Breach::new("Ready means a Secret that matches", format!("{}: {what}", named(now)));
        match secret {
            None => breaches.push(breach("there is no such Secret")),
            Some(secret) if !matches(status, secret) => {
                breaches.push(breach("the Secret holds something else"))
            }
            Some(_) => {}
        }
    }
    breaches
}

/// Ready for the present generation, in the operator's words, and nothing is in the way.
fn is_judged(device: &Value) -> bool {
    let ready =
        of_type(device, "Ready").is_some_and(|ready| ready.is_true() && ready.reason == "Provisioned");
    let observed = device["status"]["observedGeneration"] == device["metadata"]["generation"];
    let waits = of_type(device, "Reconciling").is_some() || of_type(device, "Stalled").is_some();
    ready && observed && !waits && has_operators_status(device) && !uid(device).is_empty()
}

fn matches(status: &Value, secret: &Value) -> bool {
    let annotations = &secret["metadata"]["annotations"];
    let assignment = annotations["dps-operator.io/assignment"].as_str().unwrap_or_default();
    let assignment: Value = serde_json::from_str(assignment).unwrap_or_default();
    annotations["dps-operator.io/credential-fingerprint"] == status["credential"]["fingerprint"]
        && assignment["hub"] == status["assignedHub"]
        && assignment["deviceId"] == status["deviceId"]
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default()
}
