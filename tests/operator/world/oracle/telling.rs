//! What led to a breach: the last that is known of the objects which it names.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::story::{Breach, Story};
use super::watching::State;
use crate::world::objects::{condition, text};

/// So many requests, and so many states of objects.
const LINES: usize = 12;

/// The breaches, each with what led to it.
pub fn tell(story: &Story, breaches: &[Breach]) -> String {
    let mut told = Vec::new();
    for Breach { invariant, what } in breaches {
        let names: BTreeSet<&str> = what.split(|c: char| !is_of_name(c)).map(device_of).collect();
        let is_named = |name: &str| !name.is_empty() && names.contains(device_of(name));
        told.push(format!("{invariant}: {what}"));
        told.extend(last(requests(story, &is_named)));
        told.extend(last(states(story, &is_named)));
    }
    told.join("\n    ")
}

/// A device, its Secret and its registration belong together.
fn device_of(name: &str) -> &str {
    name.trim_end_matches("-hub")
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || ['-', '.'].contains(&c)
}

fn last(mut lines: Vec<String>) -> Vec<String> {
    lines.split_off(lines.len().saturating_sub(LINES))
}

/// To DPS and to the API server, in the order of their times.
fn requests(story: &Story, is_named: &impl Fn(&str) -> bool) -> Vec<String> {
    let to_dps =
        story.ledger.iter().filter(|entry| entry.registration_id.as_deref().is_some_and(is_named)).map(
            |entry| {
                let fault = entry.fault.map_or(String::new(), |fault| format!(", fault {fault}"));
                (entry.time, format!("{:?} {:?} {:?}{fault}", entry.operation, entry.status, entry.outcome))
            },
        );
    let writes = story.requests.iter().filter(|event| is_named(&event.name)).map(|event| {
        let time = event.received.parse().unwrap_or(Timestamp::MIN);
        (time, format!("{} {} {:?}", event.request, event.name, event.code))
    });
    let mut all: Vec<(Timestamp, String)> = to_dps.chain(writes).collect();
    all.sort();
    all.into_iter().map(|(time, line)| format!("{time:.3} {line}")).collect()
}

fn states(story: &Story, is_named: &impl Fn(&str) -> bool) -> Vec<String> {
    let named = story.states.iter().filter(|state| is_named(text(&state.object["metadata"]["name"])));
    named.map(line).collect()
}

/// Nothing of a Secret's data.
fn line(State { kind, object, deleted }: &State) -> String {
    let metadata = &object["metadata"];
    let ready = condition(object, "Ready").map(|ready| format!("Ready={} {}", ready.status, ready.reason));
    let facts = ["generation", "resourceVersion"].map(|key| shown(key, &metadata[key])).concat();
    let hub = shown("hub", &object["status"]["assignedHub"]);
    let assignment = shown("assignment", &metadata["annotations"]["dps-operator.io/assignment"]);
    let end = if *deleted { " deleted" } else { "" };
    format!(
        "{kind:?} {}:{facts} {}{hub}{assignment}{end}",
        text(&metadata["name"]),
        ready.unwrap_or_default()
    )
}

fn shown(name: &str, value: &Value) -> String {
    if value.is_null() { String::new() } else { format!(" {name} {value}") }
}
