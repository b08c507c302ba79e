//! What has happened in a world, as far as others have seen it.

use std::collections::HashMap;

use dps_dev::audit;
use dps_simulator::LedgerEntry;
use serde_json::Value;

use super::watching::State;
use crate::world::Kind;
use crate::world::objects::uid;

/// What a running process of the operator takes.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    pub peak_kib: u64,
    pub descriptors: usize,
}

#[derive(Clone, Debug, Default)]
pub struct Story {
    pub states: Vec<State>,
    /// Something may have happened that no watch has shown.
    pub gaps: bool,
    /// How often a watch has failed: at an object that it cannot read, or when the API server was ended.
    pub failures: usize,
    pub events: Vec<Value>,
    pub ledger: Vec<LedgerEntry>,
    /// The operator's requests to the API server.
    pub requests: Vec<audit::Event>,
    /// What all processes of the operator have logged.
    pub log: String,
    /// Of certificates that devices have, PKCS#8.
    pub private_keys: Vec<Vec<u8>>,
    /// How often a process of the operator was started.
    pub starts: usize,
    /// Registrations and lookups in a minute that all its processes together may make of an id scope.
    pub most_a_minute: usize,
    pub process: Option<Process>,
    /// A proxy may have kept answers from it.
    pub is_disturbed: bool,
}

impl Story {
    pub fn states(&self, kind: Kind) -> impl Iterator<Item = &Value> {
        self.states
            .iter()
            .filter(move |state| state.kind == kind && !state.deleted)
            .map(|state| &state.object)
    }

    /// Each state with the one before it of the same object.
    pub fn steps(&self, kind: Kind) -> Vec<(Option<&Value>, &Value)> {
        let mut last: HashMap<&str, &Value> = HashMap::new();
        self.states(kind).map(|object| (last.insert(uid(object), object), object)).collect()
    }
}

/// An invariant that did not hold, and what shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// As the documentation of reliability names it.
    pub invariant: &'static str,
    pub what: String,
}

impl Breach {
    pub fn new(invariant: &'static str, what: impl Into<String>) -> Self {
        Self { invariant, what: what.into() }
    }
}

/// How an object is named in a breach.
pub fn named(object: &Value) -> String {
    let metadata = &object["metadata"];
    let text = |key: &str| metadata[key].as_str().unwrap_or_default();
    format!("{}/{} at {}", text("namespace"), text("name"), text("resourceVersion"))
}
