//! What the operator asks of DPS and of the API server.

use std::collections::{BTreeMap, BTreeSet};

use dps_simulator::{OperationKind, Outcome};
use jiff::Timestamp;
use serde_json::Value;

use super::story::{Breach, Story};
use super::watching::KINDS;
use crate::world::Kind;
use crate::world::objects::text;

/// All that the operator may write, as the chart's rights say.
const WRITES: [&str; 9] = [
    "create secrets",
    "patch secrets",
    "update provisioneddevices/status",
    "update dpsintegrations/status",
    "create events",
    "create certificates",
    "patch certificates",
    "create leases",
    "update leases",
];
const READS: [&str; 3] = ["get", "list", "watch"];
/// Writes of a device's status in a minute, and further ones for each change of the device, its integrations and
/// their keys: more is a loop.
const MOST_WRITES: usize = 60;
const MOST_FOR_A_CHANGE: usize = 2;

/// Nothing but what a device may ask ever leaves for DPS.
pub fn only_device_calls(story: &Story) -> Vec<Breach> {
    let method = |operation| match operation {
        OperationKind::Register => "PUT",
        OperationKind::Poll => "GET",
        OperationKind::Lookup => "POST",
        OperationKind::Other => "",
    };
    let others = story.ledger.iter().filter(|entry| entry.method != method(entry.operation));
    others.map(|entry| Breach::new("only device calls", format!("{} {}", entry.method, entry.path))).collect()
}

/// A device is registered once for each thing that may ask for it, and once for each start of the operator
/// and each registration that came to nothing.
pub fn registrations_are_bounded(story: &Story) -> Vec<Breach> {
    let mut calls: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
    for entry in &story.ledger {
        let (Some(scope), Some(id)) = (&entry.id_scope, &entry.registration_id) else { continue };
        let (registers, failures) = calls.entry((scope, id)).or_default();
        *registers += usize::from(entry.operation == OperationKind::Register);
        let good = [Outcome::Assigned, Outcome::Assigning, Outcome::Started].contains(&entry.outcome);
        *failures += usize::from(!good || entry.fault.is_some());
    }
    let asked = asked(story);
    let general = causes_for_all(story);
    let breach = |((scope, id), (registers, failures)): ((&str, &str), (usize, usize))| {
        let own = asked.get(id).copied().unwrap_or_default();
        let most = own + general + story.starts + failures;
        (registers > most).then(|| {
            let what = format!("{scope}/{id}: {registers} registrations where {most} had a cause");
            Breach::new("registrations are bounded", what)
        })
    };
    calls.into_iter().filter_map(breach).collect()
}

/// In no minute is an id scope asked more often than it may be.
pub fn rates_are_kept(story: &Story) -> Vec<Breach> {
    let mut times: BTreeMap<&str, Vec<Timestamp>> = BTreeMap::new();
    for entry in &story.ledger {
        let counts = matches!(entry.operation, OperationKind::Register | OperationKind::Lookup);
        if let Some(scope) = entry.id_scope.as_deref().filter(|_| counts) {
            times.entry(scope).or_default().push(entry.time);
        }
    }
    let most = story.most_a_minute;
    let over = times.into_iter().filter(|(_, times)| are_more_in_a_minute(times, most));
    over.map(|(scope, _)| Breach::new("rates are kept", format!("{scope}: more than {most} in a minute")))
        .collect()
}

/// No operation is begun while DPS is known to have another one of the device: it says so by a conflict.
pub fn operations_do_not_overlap(story: &Story) -> Vec<Breach> {
    // A process that has ended took what it knew with it, and a proxy may keep answers from one that runs.
    if story.starts > 1 || story.is_disturbed {
        return Vec::new();
    }
    // Of a device that is gone, another one of the same id knows nothing.
    let gone = story.states.iter().filter(|state| state.deleted && state.kind == Kind::Device);
    let gone: BTreeSet<&str> = gone.map(|state| id_of(&state.object)).collect();
    let mut excused: BTreeSet<(&str, &str)> = BTreeSet::new();
    let mut breaches = Vec::new();
    for entry in &story.ledger {
        let (Some(scope), Some(id)) = (&entry.id_scope, &entry.registration_id) else { continue };
        let answered = entry.status.is_some() && entry.fault.is_none();
        if !answered {
            // The operator does not know what has become of it.
            excused.insert((scope, id));
        } else if entry.status == Some(409) && !excused.contains(&(scope, id)) && !gone.contains(id.as_str())
        {
            breaches.push(Breach::new("operations do not overlap", format!("{scope}/{id}")));
        }
    }
    breaches
}

/// The registration id of a device.
fn id_of(device: &Value) -> &str {
    device["spec"]["registrationId"].as_str().unwrap_or_else(|| text(&device["metadata"]["name"]))
}

fn are_more_in_a_minute(times: &[Timestamp], most: usize) -> bool {
    times.windows(most + 1).any(|times| times[most].duration_since(times[0]).as_secs() < 60)
}

/// Generations of devices and what their annotations asked for, by registration id.
fn asked(story: &Story) -> BTreeMap<&str, usize> {
    let mut causes: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for device in story.states(Kind::Device) {
        let id = id_of(device);
        let (metadata, causes) = (&device["metadata"], causes.entry(id).or_default());
        causes.insert(format!("generation {}{}", metadata["uid"], metadata["generation"]));
        for annotation in ["dps-operator.io/reprovision-requested-at", "reconcile.fluxcd.io/requestedAt"] {
            causes.insert(format!("{annotation} {}", metadata["annotations"][annotation]));
        }
    }
    causes.into_iter().map(|(id, causes)| (id, causes.len())).collect()
}

/// Generations and requests of integrations, versions of Secrets with keys.
fn causes_for_all(story: &Story) -> usize {
    let of = |object: &Value| {
        let metadata = &object["metadata"];
        let token = &metadata["annotations"]["dps-operator.io/reprovision-requested-at"];
        format!("{}{}{token}", metadata["uid"], metadata["generation"])
    };
    let integrations: BTreeSet<String> = story.states(Kind::Integration).map(of).collect();
    let keys = story.states(Kind::Secret).filter(|secret| secret["metadata"]["labels"].is_null());
    let keys: BTreeSet<String> =
        keys.map(|secret| secret["metadata"]["resourceVersion"].to_string()).collect();
    integrations.len() + keys.len()
}

/// Nothing is written but what the rights are for, and never is anything deleted.
pub fn only_its_writes(story: &Story) -> Vec<Breach> {
    let asked = story.requests.iter().filter(|event| !READS.contains(&event.request.verb.as_str()));
    let asked: BTreeSet<String> = asked.map(|event| event.request.to_string()).collect();
    let others = asked.into_iter().filter(|request| !WRITES.contains(&request.as_str()));
    others.map(|request| Breach::new("only its own writes", request)).collect()
}

/// A status is not written again and again.
pub fn writes_are_bounded(story: &Story) -> Vec<Breach> {
    let mut times: BTreeMap<String, Vec<Timestamp>> = BTreeMap::new();
    for event in &story.requests {
        if event.request.to_string() == "update provisioneddevices/status" {
            let at = event.received.parse().expect("the time of a request");
            times.entry(format!("{}/{}", event.namespace, event.name)).or_default().push(at);
        }
    }
    let mut breaches = Vec::new();
    let mut generations: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for device in story.states(Kind::Device) {
        let generation = format!("{}{}", device["metadata"]["uid"], device["metadata"]["generation"]);
        generations.entry(name_of(device)).or_default().insert(generation);
    }
    let general = causes_for_all(story);
    for (name, mut times) in times {
        times.sort();
        let changes = generations.get(&name).map_or(0, BTreeSet::len) + general;
        if are_more_in_a_minute(&times, MOST_WRITES + MOST_FOR_A_CHANGE * changes) {
            breaches.push(Breach::new("writes are bounded", name));
        }
    }
    breaches
}

/// Each write that succeeds changes something: what is there already is not written once more.
pub fn writes_are_news(story: &Story) -> Vec<Breach> {
    // A proxy may have kept the answer to a write, which is made again then.
    if story.gaps || story.failures > 0 || story.is_disturbed {
        return Vec::new();
    }
    let mut writes: BTreeMap<(String, String), usize> = BTreeMap::new();
    for event in &story.requests {
        let request = &event.request;
        let changes = ["update", "patch"].contains(&request.verb.as_str());
        let is_seen = KINDS.iter().any(|kind| kind.resource().plural == request.resource);
        if changes && is_seen && event.code.is_some_and(|code| code < 300) {
            let name = format!("{}/{}", event.namespace, event.name);
            *writes.entry((request.resource.clone(), name)).or_default() += 1;
        }
    }
    let changes = changes(story);
    let idle =
        writes.into_iter().filter(|(object, written)| *written > changes.get(object).copied().unwrap_or(0));
    idle.map(|((resource, name), written)| {
        Breach::new("each write changes something", format!("{written} writes of {resource} {name}"))
    })
    .collect()
}

/// How often what the operator may write of each object has changed, by whomever.
fn changes(story: &Story) -> BTreeMap<(String, String), usize> {
    let mut changes = BTreeMap::new();
    for kind in KINDS {
        let content = |object: &Value| match kind {
            Kind::Secret => {
                let metadata = &object["metadata"];
                let marks = ["labels", "annotations", "ownerReferences"].map(|marks| metadata[marks].clone());
                (marks.to_vec(), object["data"].clone())
            }
            _ => (Vec::new(), object["status"].clone()),
        };
        for (before, object) in story.steps(kind) {
            let has_changed = before.is_some_and(|before| content(before) != content(object));
            let object = (kind.resource().plural, name_of(object));
            *changes.entry(object).or_default() += usize::from(has_changed);
        }
    }
    changes
}

/// With its namespace.
fn name_of(object: &Value) -> String {
    format!("{}/{}", text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]))
}
