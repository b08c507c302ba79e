//! What others saw: DPS's ledger and the API server's audit log.

use std::collections::BTreeMap;
use std::time::Instant;

use dps_dev::audit::Event;
use dps_simulator::{LedgerEntry, OperationKind};
use serde_json::Value;

use super::operator::ACCOUNTS;
use super::{PATIENCE, POLL, World};

/// A moment in both records.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    sequence: u64,
    requests: usize,
}

impl World {
    /// Now, to look at what came later.
    pub fn mark(&self) -> Mark {
        let sequence = self.dps.ledger().last().map_or(0, |entry| entry.sequence);
        Mark { sequence, requests: self.audit().len() }
    }

    /// Requests that DPS saw.
    pub fn ledger(&self) -> Vec<LedgerEntry> {
        self.dps.ledger()
    }

    pub fn ledger_since(&self, mark: Mark) -> Vec<LedgerEntry> {
        self.dps.ledger_since(mark.sequence)
    }

    pub fn registers(&self) -> usize {
        self.ledger().iter().filter(|entry| entry.operation == OperationKind::Register).count()
    }

    /// Nothing but what a device may do ever left the operator: DPS records are never deleted.
    pub fn assert_only_device_calls(&self) {
        for entry in self.ledger() {
            let expected = match entry.operation {
                OperationKind::Register => "PUT",
                OperationKind::Poll => "GET",
                OperationKind::Lookup => "POST",
                OperationKind::Other => "nothing",
            };
            assert_eq!(entry.method, expected, "{entry:?}");
        }
    }

    /// Waits for a state of the ledger.
    pub async fn wait_ledger(&self, what: &str, fits: impl Fn(&[LedgerEntry]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !fits(&self.ledger()) {
            if Instant::now() >= deadline {
                self.give_up(&format!("the ledger never showed: {what}"), &Value::Null);
            }
            tokio::time::sleep(POLL / 4).await;
        }
    }

    /// Requests of the operator's ServiceAccount, each once, in their order.
    pub fn audit(&self) -> Vec<Event> {
        let log = std::fs::read_to_string(self.control_plane.audit_log()).unwrap_or_default();
        let user = format!("\"system:serviceaccount:{ACCOUNTS}:{}\"", self.namespace);
        // The log holds every test's requests: only ours are worth parsing. The last line may be half written.
        let complete = log.rfind('\n').map_or("", |end| &log[..end]);
        let mine = complete.lines().filter(|line| line.contains(&user));
        let events = mine.map(|line| serde_json::from_str::<Event>(line).expect("an audit event"));
        events.filter(|event| event.stage == "ResponseComplete").collect()
    }

    /// The operator's requests to the API server since then.
    pub fn events_since(&self, mark: Mark) -> Vec<Event> {
        self.audit().split_off(mark.requests)
    }

    /// How often the operator wrote what since then, as `create secrets`.
    pub fn writes_since(&self, mark: Mark) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for event in self.events_since(mark) {
            if !["get", "list", "watch"].contains(&event.request.verb.as_str()) {
                *counts.entry(event.request.to_string()).or_default() += 1;
            }
        }
        counts
    }

    /// How often the operator read single objects since then.
    pub fn gets_since(&self, mark: Mark) -> usize {
        self.events_since(mark).iter().filter(|event| event.request.verb == "get").count()
    }

    /// Fails the test with everything that could explain why.
    pub fn give_up(&self, what: &str, object: &Value) -> ! {
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        let ledger = self.ledger();
        let tail: Vec<String> = ledger.iter().rev().take(30).rev().map(shown).collect();
        panic!(
            "{what}\n--- object\n{object:#}\n--- last {} of {} requests to DPS\n{}\n--- end of the operator's log\n{}",
            tail.len(),
            ledger.len(),
            tail.join("\n"),
            self.operator_log_tail()
        );
    }
}

fn shown(entry: &LedgerEntry) -> String {
    format!(
        "{} {} {} {:?} {:?} {:?}",
        entry.time, entry.method, entry.path, entry.status, entry.error_code, entry.outcome
    )
}
